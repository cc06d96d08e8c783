"""Eq. 6: the latents that explain an image, found by descent on each image's own squared error.

The loss of an image is its squared error averaged over pixels. Each image is a problem of its own:
the loss of a batch is the sum, so that no image's step depends on its neighbours.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import folding

Draw = Callable[[tf.Tensor], tf.Tensor]  # G in inference mode: latents `[n, latent_dim]` to images `[n, h, w, c]`


class Projection(NamedTuple):
    """Images explained by a generator (Eq. 6): what `project` returns, or a ValueError for images it cannot take.

    Attributes:
        images: G(z_T), `[n, h, w, c]`, in the generator's range.
        latents: z_T, `[n, latent_dim]`.
        loss: mean squared error of each image, `[n]`.
        steps: the steps that the kept restart made, `[n]` int32.
    """

    images: np.ndarray
    latents: np.ndarray
    loss: np.ndarray
    steps: np.ndarray


class Trajectory(NamedTuple):
    """Where every restart of the exact projector came by.

    Attributes:
        latents: `[marks, n, restarts, latent_dim]`.
        loss: mean squared error, `[marks, n, restarts]`.
    """

    latents: np.ndarray
    loss: np.ndarray


class Optimizer(Protocol):
    """A first-order rule for latents, without hidden state: it runs inside any compiled loop.

    Both are graph functions, traced as they stand: what depends on a tensor needs `tf.where` or `tf.cond`, not `if`.
    """

    def slots(self, latents: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the rule's memory at step 0."""

    def update(self, gradient: tf.Tensor, slots: tuple, step: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        """Returns the offset to add to the latents, and the new memory; `step` counts from 0."""


@dataclasses.dataclass(frozen=True)
class GradientDescent:
    """Eq. 6 as printed: z <- z - learning_rate * gradient."""

    learning_rate: float = 10.0

    def slots(self, latents):
        return ()

    def update(self, gradient, slots, step):
        return -self.learning_rate * gradient, ()


@dataclasses.dataclass(frozen=True)
class Momentum:
    """Heavy-ball descent at a constant rate, as DefenseGAN runs it."""

    learning_rate: float = 10.0
    momentum: float = 0.7

    def slots(self, latents):
        return (tf.zeros_like(latents),)

    def update(self, gradient, slots, step):
        velocity = self.momentum * slots[0] + gradient
        return -self.learning_rate * velocity, (velocity,)


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015), as the authors' code runs Eq. 6 on an offset to I(x)."""

    learning_rate: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def slots(self, latents):
        return tf.zeros_like(latents), tf.zeros_like(latents)

    def update(self, gradient, slots, step):
        mean = self.beta_1 * slots[0] + (1 - self.beta_1) * gradient
        square = self.beta_2 * slots[1] + (1 - self.beta_2) * tf.square(gradient)
        count = tf.cast(step + 1, gradient.dtype)
        unbiased_mean = mean / (1 - self.beta_1**count)
        unbiased_square = square / (1 - self.beta_2**count)
        return -self.learning_rate * unbiased_mean / (tf.sqrt(unbiased_square) + self.epsilon), (mean, square)


def explain(draw: Draw, latents: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns G(latents) and each image's squared error averaged over pixels, `[n]` (Eq. 6)."""
    projected = draw(latents)
    return projected, tf.reduce_mean(tf.square(projected - images), axis=[1, 2, 3])


def slope(draw: Draw, latents: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns each image's squared error, `[n]`, and its gradient to the latents, `[n, latent_dim]`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(latents)
        loss = explain(draw, latents, images)[1]
        total = tf.reduce_sum(loss)
    return loss, tape.gradient(total, latents)


def descend(
    draw: Draw,
    optimizer: Optimizer,
    images: tf.Tensor,
    latents: tf.Tensor,
    slots: tuple,
    start: tf.Tensor,
    stop: tf.Tensor,
) -> tuple[tf.Tensor, tuple]:
    """Makes steps start..stop-1 of Eq. 6 in one loop; a graph function, for use in compiled code.

    Args:
        draw: the generator in inference mode.
        optimizer: the rule of descent.
        images: targets, `[n, h, w, c]`.
        latents: z_start, `[n, latent_dim]`.
        slots: the rule's memory at `start`.
        start, stop: int32 scalars; tensors, so that no number of steps needs a new trace.

    Returns:
        z_stop and the rule's memory there.
    """

    def body(step, latents, slots):
        offset, slots = optimizer.update(slope(draw, latents, images)[1], slots, step)
        return step + 1, latents + offset, slots

    _, latents, slots = tf.while_loop(
        lambda step, *_: step < stop, body, (start, latents, slots), parallel_iterations=1
    )
    return latents, slots


class Projector:
    """A way to run Eq. 6, compiled once for any number of images and steps.

    Args:
        generator: Keras model from latents to images.
        dtype: precision of the descent's matrix products; the generator itself computes G(z_T) and its loss.
    """

    lanes = 256  # of one compiled loop: the fastest of 16 to 1,024 on two cores (benchmarks.projection)
    chunk_image_steps = 20_000  # some seconds of two cores: between chunks a caller can be interrupted

    def __init__(self, generator: keras.Model, dtype: str = "float32"):
        self.generator, self.dtype = generator, dtype

        @tf.function(reduce_retracing=True, autograph=False)
        def finish(targets, latents, count):
            def draw(latents):
                return tf.cast(generator(latents, training=False), tf.float32)

            return best_restart(*explain(draw, latents, targets), latents, tf.shape(latents)[0] // count)

        self._finish = finish

    def __call__(
        self, images: tf.Tensor, starts: tf.Tensor, steps: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, int]:
        """Projects images from their starts and keeps each image's best restart; works inside a graph too.

        Args:
            images: `[n, h, w, c]`.
            starts: `[n, restarts, latent_dim]`.
            steps: steps of every restart; the projector's own number by default, where it has one.

        Returns:
            G(z_T) `[n, h, w, c]`, z_T `[n, latent_dim]`, the losses `[n]` and the steps made.
        """
        targets, latents = self.descend(images, starts, steps)
        return *self._finish(targets, latents, tf.shape(images)[0]), self.made(steps)

    def descend(self, images: tf.Tensor, starts: tf.Tensor, steps: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Descends from the starts.

        Args:
            images, starts, steps: as for a call.

        Returns:
            The images, each repeated once for every restart that went to the end, and z_T of those.
        """
        raise NotImplementedError

    def image_steps(self, restarts: int, steps: int) -> int:
        """Returns what an image costs: forward and backward passes through the generator."""
        raise NotImplementedError

    def block(self, restarts: int) -> int:
        """Returns how many images to project at a time, each with so many restarts."""
        return max(1, self.lanes // restarts)

    def made(self, steps: int | None) -> int:
        """Returns the steps a kept restart makes when asked for `steps`."""
        return steps

    def chunks(self, lanes: int | None, steps: int):
        """Yields (start, stop) of the compiled calls that make `steps` steps of so many lanes; None inside a graph."""
        chunk = max(1, self.chunk_image_steps // (lanes or 1))
        for start in range(0, steps, chunk):
            yield start, min(start + chunk, steps)


class ExactProjector(Projector):
    """Runs Eq. 6 to its last step.

    Args:
        generator, dtype: as for `Projector`.
        optimizer: the rule of descent.
    """

    def __init__(self, generator: keras.Model, optimizer: Optimizer, dtype: str = "float32"):
        super().__init__(generator, dtype)
        self.optimizer = optimizer

        @tf.function(reduce_retracing=True, autograph=False)
        def advance(images, latents, slots, start, stop):
            return descend(folding.fold(generator, dtype), optimizer, images, latents, slots, start, stop)

        self._advance = advance

    def __repr__(self):
        return f"ExactProjector({self.optimizer!r})"

    def image_steps(self, restarts, steps):
        return restarts * steps

    def descend(self, images, starts, steps):
        return next(self.follow(images, starts, [steps]))

    def follow(
        self, images: tf.Tensor, starts: tf.Tensor, steps: Sequence[int]
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Descends as `descend` does, and yields its answer at each of these rising numbers of steps."""
        count, restarts, latent_dim = starts.shape
        targets = tf.repeat(images, restarts, axis=0) if restarts > 1 else images
        latents = tf.reshape(starts, (-1, latent_dim))
        slots, made = self.optimizer.slots(latents) if steps[-1] else (), 0
        for mark in steps:
            for start, stop in self.chunks(count and count * restarts, mark - made):
                span = tf.constant(made + start), tf.constant(made + stop)
                latents, slots = self._advance(targets, latents, slots, *span)
            made = mark
            yield targets, latents

    def losses(self, targets: tf.Tensor, latents: tf.Tensor) -> tf.Tensor:
        """Returns each lane's squared error, `[lanes]`, as the generator itself gives it."""
        return self._finish(targets, latents, tf.shape(latents)[0])[2]


def best_restart(projected, loss, latents, restarts):
    """Keeps, of each image's `restarts` neighbouring rows, the one with the lowest loss."""
    loss = tf.reshape(loss, (-1, restarts))
    best = tf.argmin(loss, axis=1, output_type=tf.int32)
    rows = tf.range(tf.shape(loss)[0]) * restarts + best
    return tf.gather(projected, rows), tf.gather(latents, rows), tf.reduce_min(loss, axis=1)
