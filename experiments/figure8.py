"""Figure 8: CW changes images imperceptibly, BPDA on InvGAN a lot, `python -m experiments.figure8`."""

from experiments import common_flags, removal


def main() -> None:
    """Draws both attacks with the size of what they changed."""
    removal.draw("figure8", "Figure 8: images attacked by CW and BPDA", sized=True)


if __name__ == "__main__":
    common_flags.run(main, "--dataset=cifar10", "--attacks=cw,bpda", "--defenses=invgan")
