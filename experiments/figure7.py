"""Figure 7: InvGAN removes attacks, `python -m experiments.figure7 --dataset=mnist`."""

from experiments import common_flags, removal


def main() -> None:
    """Draws every attack on InvGAN."""
    removal.draw("figure7", "Figure 7: attack removal by InvGAN")


if __name__ == "__main__":
    common_flags.run(main, "--attacks=fgsm,cw,rp,bpda", "--defenses=invgan")
