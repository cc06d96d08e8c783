"""What every projection defence shares: starts, descent, and the projection of arrays."""

import os
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import data, presets, projection, validation

_LANES = 256  # rows of one compiled loop: the measured rate is flat from 64 to 1,024 rows


class Defense:
    """Projects images onto what a generator can draw (paper, section 3.3).

    Subclasses say where the descent of Eq. 6 starts.

    Args:
        generator: any functional or sequential Keras model from latents `[n, latent_dim]` to images `[n, h, w, c]`.
        optimizer: the rule of descent.
        steps: T, the default number of steps.
        restarts: R, the default number of starts an image.
        value_range: lowest and highest pixel of the generator's images.
    """

    def __init__(
        self,
        generator: keras.Model,
        *,
        optimizer: projection.Optimizer,
        steps: int,
        restarts: int,
        value_range: tuple[float, float] = (0.0, 1.0),
    ):
        if not hasattr(generator, "output_shape"):
            raise ValueError(f"{type(generator).__name__} has no output_shape: wrap it in a functional keras.Model.")
        self.generator = generator
        self.optimizer = optimizer
        self.steps = validation.check_count("steps", steps, 0)
        self.restarts = validation.check_count("restarts", restarts, 1)
        self.value_range = tuple(value_range)
        self.projectors = {"exact": projection.ExactProjector(generator, optimizer)}

    @classmethod
    def from_preset(cls, preset: str | os.PathLike, *, dtype: str = "float32", **kwargs) -> Self:
        """Builds the defence from stored weights.

        Args:
            preset: a packaged preset's name ("mnist") or a folder with card.json and weights.
            dtype: Keras dtype policy of the networks.
            **kwargs: passed to the constructor.
        """
        dataset = presets.read_card(preset).get("generator", {}).get("dataset")
        networks = [presets.load(preset, part, dtype=dtype) for part in cls.parts]
        return cls(*networks, value_range=data.spec(dataset).value_range, **kwargs)

    parts: tuple[str, ...] = ("generator",)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        return tuple(self.generator.output_shape[1:])

    @property
    def latent_dim(self) -> int:
        """Dimensions of one latent."""
        return self.generator.input_shape[-1]

    def starts(self, images: tf.Tensor, indices: tf.Tensor, restarts: int, seed: int) -> tf.Tensor:
        """Returns the latents to start from, `[n, restarts, latent_dim]`; a graph function.

        A start depends on (image, its index, seed) alone, never on its place in a batch.
        """
        raise NotImplementedError

    def project(
        self,
        images,
        *,
        steps: int | None = None,
        restarts: int | None = None,
        projector: str = "exact",
        seed: int = 0,
        indices=None,
    ) -> projection.Projection:
        """Projects images onto the generator's range (Eq. 6).

        Args:
            images: `[n, h, w, c]`, floating, in `value_range`.
            steps: T; the defence's own by default. 0 returns G of the start.
            restarts: R; the defence's own by default. The lowest loss is kept.
            projector: how to descend; "exact" makes every step.
            seed: key of random starts.
            indices: the images' numbers, 0..n-1 by default; with `seed` they fix the random starts, so
                that batches, shards and resumed runs agree.

        Returns:
            A `Projection` of numpy arrays.

        Raises:
            ValueError: for images of another shape, dtype or range, or other bad arguments.
        """
        images = validation.check_images(images, self.image_shape, self.value_range)
        steps = self.steps if steps is None else validation.check_count("steps", steps, 0)
        restarts = self.restarts if restarts is None else validation.check_count("restarts", restarts, 1)
        if projector not in self.projectors:
            raise ValueError(f"Unknown projector {projector!r}; choose one of {', '.join(self.projectors)}.")
        indices = validation.check_indices(indices, len(images))
        seed = validation.check_count("seed", seed, 0)
        run = self.projectors[projector]
        block = max(1, _LANES // restarts)
        parts = []
        for first in range(0, len(images), block):
            batch = tf.constant(images[first : first + block])
            numbers = tf.constant(indices[first : first + block], tf.int64)
            parts.append([part.numpy() for part in run(batch, self.starts(batch, numbers, restarts, seed), steps)])
        projected, latents, loss = (np.concatenate(column) for column in zip(*parts))
        return projection.Projection(projected, latents, loss, np.full(len(images), steps, np.int32))
