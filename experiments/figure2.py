"""Figure 2: images under BPDA and what each defence makes of them, `python -m experiments.figure2 --dataset=mnist`."""

from experiments import common_flags, removal


def main() -> None:
    """Draws both defences under BPDA."""
    removal.draw("figure2", "Figure 2: attack and projection")


if __name__ == "__main__":
    common_flags.run(main, "--attacks=bpda", "--defenses=defensegan,invgan")
