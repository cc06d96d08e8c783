"""InvGAN: the inverter's answer, improved by descent (paper, section 3.3)."""

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.defenses import base
from invgan_tf.evaluation import accuracy


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

    def invert(self, images) -> np.ndarray:
        """Returns the latents that the inverter finds, I(x) (paper, section 3.1).

        Args:
            images: `[n, h, w, c]`, floating, in `value_range`.

        Returns:
            Latents `[n, latent_dim]`, float32, where descent starts; roughly N(0, I) for images of the generator.

        Raises:
            ValueError: for images of another shape, dtype or range.

        Example:
            >>> images = data.load("mnist", "test", limit=2).images
            >>> invgan_tf.InvGAN.from_preset("mnist").invert(images).shape
            (2, 128)
        """
        return accuracy.outputs(self.inverter, validation.check_images(images, self.image_shape, self.value_range))

    def reconstruct(self, images) -> np.ndarray:
        """Returns G(I(x)): the projection without a step of descent (paper, section 3.1).

        Args:
            images: `[n, h, w, c]`, floating, in `value_range`.

        Returns:
            Images `[n, h, w, c]`, float32, in `value_range`.

        Raises:
            ValueError: for images of another shape, dtype or range.

        Example:
            >>> images = data.load("mnist", "test", limit=2).images
            >>> invgan_tf.InvGAN.from_preset("mnist").reconstruct(images).shape
            (2, 28, 28, 1)
        """
        return accuracy.outputs(self.generator, self.invert(images))

    def reconstructed(self, images: tf.Tensor) -> tf.Tensor:
        """Returns G(I(x)) of a tensor `[n, h, w, c]` with its true gradient; a graph function."""
        return self.generator(self.inverter(images, training=False), training=False)
