"""How the authors' configurations train each dataset's networks; what the paper leaves open is theirs."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Batches and rates of a GAN and of its inverter.

    Attributes:
        gan_batch_size: latents a GAN step.
        discriminator_steps: discriminator steps a generator step.
        generator_learning_rate, discriminator_learning_rate: of the GAN's Adam.
        inverter_batch_size: latents an inverter step.
        inverter_discriminator_learning_rate: of the Adam of the inverter's discriminator.
    """

    gan_batch_size: int = 50
    discriminator_steps: int = 1
    generator_learning_rate: float = 1e-4
    discriminator_learning_rate: float = 4e-4
    inverter_batch_size: int = 25
    inverter_discriminator_learning_rate: float = 4e-4


_RECIPES = {
    ("cifar10", "dcgan"): Recipe(gan_batch_size=64, inverter_batch_size=32, inverter_discriminator_learning_rate=1e-4),
    ("cifar10", "sn_resnet"): Recipe(inverter_discriminator_learning_rate=1e-4),
    ("celeb_a", "sn_resnet"): Recipe(
        gan_batch_size=20,
        discriminator_steps=2,
        discriminator_learning_rate=1e-4,
        inverter_batch_size=10,
        inverter_discriminator_learning_rate=1e-4,
    ),
}


def recipe(dataset: str, family: str) -> Recipe:
    """Returns the recipe for a dataset's networks of a family; that of MNIST where there is no other."""
    return _RECIPES.get((dataset, family), Recipe())
