"""Figure 6: what both defences make of CelebA's test images, `python -m experiments.figure6`."""

from experiments import common_flags, removal


def main() -> None:
    """Draws the images over their reconstructions."""
    removal.draw_clean("figure6", "Figure 6: reconstruction")


if __name__ == "__main__":
    common_flags.run(main, "--dataset=celeb_a", "--num_images=10", "--defenses=defensegan,invgan")
