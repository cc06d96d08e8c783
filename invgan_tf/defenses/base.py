"""What every projection defence shares: starts, descent, and the projection of arrays."""

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import fast_projection, folding, presets, projection, validation


class Defense:
    """Projects images onto what a generator can draw (paper, section 3.3).

    Subclasses say where the descent of Eq. 6 starts.

    Args:
        generator: any functional or sequential Keras model from latents `[n, latent_dim]` to images `[n, h, w, c]`.
        optimizer: the rule of descent.
        steps: T, the default number of steps.
        restarts: R, the default number of starts an image.
        value_range: lowest and highest pixel of the generator's images.
        dtype: precision of the descent's matrix products, "float32" or "bfloat16"; latents, losses, optimiser state
            and G(z_T) are float32 always.

    Attributes:
        projectors: the ways to descend, by name.
        fast_stages: of the fast projector, InvGAN's unless a subclass has its own.
    """

    # InvGAN's: they end at the loss of its T = 1000 (benchmarks.quality).
    fast_stages: tuple[fast_projection.Stage, ...] = fast_projection.Stage(120), fast_projection.Stage(20, precise=True)

    def __init__(
        self,
        generator: keras.Model,
        *,
        optimizer: projection.Optimizer,
        steps: int,
        restarts: int,
        value_range: tuple[float, float] = (0.0, 1.0),
        dtype: str = "float32",
    ):
        if not hasattr(generator, "output_shape"):
            raise ValueError(f"{type(generator).__name__} has no output_shape: wrap it in a functional keras.Model.")
        self.generator = generator
        self.optimizer = optimizer
        self.steps = validation.check_count("steps", steps, 0)
        self.restarts = validation.check_count("restarts", restarts, 1)
        self.value_range = validation.check_range(value_range)
        self.dtype = folding.check_dtype(generator, dtype)
        self.projectors = {
            "exact": projection.ExactProjector(generator, optimizer, dtype),
            "fast": fast_projection.FastProjector(generator, self.fast_stages, optimizer, dtype=dtype),
        }
        self._starts = tf.function(self.starts, reduce_retracing=True, autograph=False)
        self._undescended: dict[int, Callable] = {}

    @classmethod
    def from_preset(cls, preset: str | os.PathLike, **kwargs) -> Self:
        """Builds the defence from stored weights.

        Args:
            preset: a packaged preset's name ("mnist", see `list_presets`) or a folder, as `save_preset` writes it.
            **kwargs: passed to the constructor: `steps`, `restarts`, `optimizer`, `dtype`.

        Raises:
            PresetError: for an unknown preset, or files that are not those of its card.

        Example:
            >>> invgan_tf.DefenseGAN.from_preset("mnist", steps=50, restarts=4).image_shape
            (28, 28, 1)
        """
        networks = [presets.load(preset, part) for part in cls.parts]
        return cls(*networks, value_range=presets.value_range(preset), **kwargs)

    parts: tuple[str, ...] = ("generator",)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        return tuple(self.generator.output_shape[1:])

    @property
    def latent_dim(self) -> int:
        """Dimensions of one latent."""
        return self.generator.input_shape[-1]

    @property
    def draw(self) -> projection.Draw:
        """G in inference mode as the descent computes it; for use in compiled code."""
        return folding.fold(self.generator, self.dtype)

    def check_projector(self, projector: str) -> str:
        """Returns a projector's name, or raises ValueError."""
        if projector not in self.projectors:
            raise ValueError(f"Unknown projector {projector!r}; choose one of {', '.join(self.projectors)}.")
        return projector

    def default_steps(self, projector: str) -> int:
        """Returns T of the exact projector, or the evaluations that the fast one makes of a kept restart."""
        return self.steps if projector == "exact" else self.projectors[projector].steps

    def image_steps(self, projector: str) -> int:
        """Returns what an image costs by default: forward and backward passes through the generator."""
        return self.projectors[projector].image_steps(self.restarts, self.default_steps(projector))

    def starts(self, images: tf.Tensor, indices: tf.Tensor, restarts: int, seed: tf.Tensor) -> tf.Tensor:
        """Returns the latents to start from, `[n, restarts, latent_dim]`; a graph function.

        A start depends on (image, its index, seed) alone, never on its place in a batch.
        """
        raise NotImplementedError

    def _project_starts(self, restarts):
        """Returns a function of (images, indices, seed): T = 0 in one call, what a server pays for every image.

        Its signature is fixed, which spares the look-up of a trace: a tenth of that call.
        """
        if restarts not in self._undescended:

            @tf.function(autograph=False)
            def undescended(images, indices, seed):
                return self.projectors["exact"](images, self.starts(images, indices, restarts, seed), 0)

            self._undescended[restarts] = undescended.get_concrete_function(
                tf.TensorSpec((None, *self.image_shape)), tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int64)
            )
        return self._undescended[restarts]

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
            steps: T; by default the defence's own for "exact", the stages' for "fast". 0 returns G of the start.
            restarts: R; the defence's own by default. The lowest loss is kept.
            projector: how to descend; "exact" runs the paper's protocol to its last step, "fast" looks for a loss as
                low by L-BFGS in a fraction of the time (`fast_projection`), where a step is an evaluation.
            seed: key of random starts.
            indices: the images' numbers, 0..n-1 by default; with `seed` they fix the random starts, so
                that batches, shards and resumed runs agree.

        Returns:
            A `Projection` of numpy arrays.

        Raises:
            ValueError: for images of another shape, dtype or range, or other bad arguments.

        Example:
            >>> digits = data.load("mnist", "test", limit=3)
            >>> projection = invgan_tf.InvGAN.from_preset("mnist").project(digits.images, steps=10)
            >>> projection.images.shape, projection.latents.shape, projection.loss.shape
            ((3, 28, 28, 1), (3, 128), (3,))
        """
        images, restarts, seed, indices = self._prepare(images, restarts, seed, indices)
        run = self.projectors[self.check_projector(projector)]
        steps = self.default_steps(projector) if steps is None else validation.check_count("steps", steps, 0)
        result = projection.Projection(
            np.empty_like(images),
            np.empty((len(images), self.latent_dim), np.float32),
            np.empty(len(images), np.float32),
            np.empty(len(images), np.int32),
        )
        block = run.block(restarts)
        for first in range(0, len(images), block):
            batch = tf.constant(images[first : first + block])
            numbers = tf.constant(indices[first : first + block])
            if steps:
                answer = run(batch, self._starts(batch, numbers, restarts, seed), steps)
            else:
                answer = self._project_starts(restarts)(batch, numbers, seed)
            for whole, part in zip(result, answer):
                whole[first : first + block] = part
        return result

    def _prepare(self, images, restarts, seed, indices):
        """Checks the arguments that every descent takes, and fills in the defaults."""
        return (
            validation.check_images(images, self.image_shape, self.value_range),
            self.restarts if restarts is None else validation.check_count("restarts", restarts, 1),
            tf.constant(validation.check_count("seed", seed, 0), tf.int64),
            validation.check_indices(indices, len(images)),
        )

    def trajectory(
        self, images, steps: Sequence[int], *, restarts: int | None = None, seed: int = 0, indices=None
    ) -> projection.Trajectory:
        """Follows all restarts of the exact projector, at the cost of the longest of these descents.

        Args:
            images, restarts, seed, indices: as for `project`.
            steps: the numbers of steps to tell of, rising.

        Returns:
            A `Trajectory`; the restart of lowest loss at a mark is what `project` gives for that T.
        """
        images, restarts, seed, indices = self._prepare(images, restarts, seed, indices)
        steps = [validation.check_count("steps", mark, 0) for mark in steps]
        if not steps or any(later <= earlier for earlier, later in itertools.pairwise(steps)):
            raise ValueError(f"steps must be rising numbers, got {steps}.")
        result = projection.Trajectory(
            np.empty((len(steps), len(images), restarts, self.latent_dim), np.float32),
            np.empty((len(steps), len(images), restarts), np.float32),
        )
        run = self.projectors["exact"]
        block = run.block(restarts)
        for first in range(0, len(images), block):
            batch = tf.constant(images[first : first + block])
            starts = self._starts(batch, tf.constant(indices[first : first + block]), restarts, seed)
            for mark, (targets, latents) in enumerate(run.follow(batch, starts, steps)):
                part = slice(first, first + len(batch))
                result.latents[mark, part] = tf.reshape(latents, starts.shape)
                result.loss[mark, part] = tf.reshape(run.losses(targets, latents), starts.shape[:2])
        return result
