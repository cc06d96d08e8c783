"""InvGAN: the inverter's answer, improved by descent (paper, section 3.3)."""

import keras
import tensorflow as tf

from invgan_tf import projection
from invgan_tf.defenses import base
from invgan_tf.fast_projection import Stage


class InvGAN(base.Defense):
    """Projects from I(x) (Eq. 6); T = 0 is G(I(x)).

    Args:
        generator: Keras model from latents to images.
        inverter: Keras model from images to latents.
        optimizer: Adam at 0.01 on an offset to I(x), as the authors' code ran;
            `projection.GradientDescent()` is Eq. 6 as printed.
        steps: T, 1000 in Tables 2 and 3.
        restarts: 1; the start is not random.
        value_range: lowest and highest pixel.
        dtype: precision of the descent's matrix products.
    """

    parts = ("generator", "inverter")
    fast_stages = (Stage(120), Stage(20, precise=True))  # ends at the loss of T = 1000 (benchmarks.quality)

    def __init__(
        self,
        generator: keras.Model,
        inverter: keras.Model,
        *,
        optimizer: projection.Optimizer = projection.Adam(),
        steps: int = 1000,
        restarts: int = 1,
        value_range: tuple[float, float] = (0.0, 1.0),
        dtype: str = "float32",
    ):
        if inverter.output_shape[-1] != generator.input_shape[-1]:
            raise ValueError(
                f"The inverter gives latents of {inverter.output_shape[-1]} dimensions, the generator "
                f"takes {generator.input_shape[-1]}."
            )
        super().__init__(
            generator, optimizer=optimizer, steps=steps, restarts=restarts, value_range=value_range, dtype=dtype
        )
        self.inverter = inverter

    def starts(self, images, indices, restarts, seed):
        if restarts != 1:
            raise ValueError(f"InvGAN starts from I(x) alone: restarts must be 1, got {restarts}.")
        return self.inverter(images, training=False)[:, None, :]

    def reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        """Returns G(I(x)) with its true gradient; a graph function."""
        return self.generator(self.inverter(images, training=False), training=False)
