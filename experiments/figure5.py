"""Figure 5: what both defences make of CIFAR-10's test images, `python -m experiments.figure5`."""

from experiments import common_flags, removal


def main() -> None:
    """Draws the images over their reconstructions."""
    removal.draw_clean("figure5", "Figure 5: reconstruction")


if __name__ == "__main__":
    common_flags.run(main, "--dataset=cifar10", "--num_images=10", "--defenses=defensegan,invgan")
