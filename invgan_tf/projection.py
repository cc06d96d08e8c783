"""Eq. 6: the latents that explain an image, found by descent on each image's own squared error.

The loss of an image is its squared error averaged over pixels. Each image is a problem of its own:
the loss of a batch is the sum, so that no image's step depends on its neighbours.
"""

import dataclasses
from typing import NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf


class Projection(NamedTuple):
    """Images explained by a generator.

    Attributes:
        images: G(z_T), `[n, h, w, c]`.
        latents: z_T, `[n, latent_dim]`.
        loss: mean squared error of each image, `[n]`.
        steps: T, the steps each restart made, `[n]` int32.
    """

    images: np.ndarray
    latents: np.ndarray
    loss: np.ndarray
    steps: np.ndarray


class Optimizer(Protocol):
    """A first-order rule for latents, without hidden state: it can run inside any compiled loop."""

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


def explain(generator: keras.Model, latents: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns G(latents) and each image's squared error averaged over pixels, `[n]` (Eq. 6)."""
    projected = generator(latents, training=False)
    return projected, tf.reduce_mean(tf.square(projected - images), axis=[1, 2, 3])


def descend(
    generator: keras.Model,
    optimizer: Optimizer,
    images: tf.Tensor,
    latents: tf.Tensor,
    slots: tuple,
    start: tf.Tensor,
    stop: tf.Tensor,
) -> tuple[tf.Tensor, tuple]:
    """Makes steps start..stop-1 of Eq. 6 in one loop; a graph function, for use in compiled code.

    Args:
        generator: from latents to images; its batch norm runs in inference mode.
        optimizer: the rule of descent.
        images: targets, `[n, h, w, c]`.
        latents: z_start, `[n, latent_dim]`.
        slots: the rule's memory at `start`.
        start, stop: int32 scalars; tensors, so that no number of steps needs a new trace.

    Returns:
        z_stop and the rule's memory there.
    """

    def body(step, latents, slots):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(latents)
            loss = tf.reduce_sum(explain(generator, latents, images)[1])
        offset, slots = optimizer.update(tape.gradient(loss, latents), slots, step)
        return step + 1, latents + offset, slots

    _, latents, slots = tf.while_loop(
        lambda step, *_: step < stop, body, (start, latents, slots), parallel_iterations=1
    )
    return latents, slots


class ExactProjector:
    """Runs Eq. 6 to its last step, for any number of images and steps with one compiled loop.

    Args:
        generator: Keras model from latents to images.
        optimizer: the rule of descent.
    """

    chunk_image_steps = 20_000  # a few seconds of two cores: between chunks a caller can be interrupted

    def __init__(self, generator: keras.Model, optimizer: Optimizer):
        self.generator, self.optimizer = generator, optimizer

        @tf.function(reduce_retracing=True)
        def advance(images, latents, slots, start, stop):
            return descend(generator, optimizer, images, latents, slots, start, stop)

        @tf.function(reduce_retracing=True)
        def finish(images, latents):
            return explain(generator, latents, images)

        self._advance, self._finish = advance, finish

    def descend(self, images: tf.Tensor, starts: tf.Tensor, steps: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Descends from every start, in chunks.

        Args:
            images: `[n, h, w, c]`.
            starts: `[n, restarts, latent_dim]`.
            steps: T.

        Returns:
            The images, each repeated once a restart, and z_T `[n * restarts, latent_dim]`.
        """
        count, restarts, latent_dim = starts.shape
        targets = tf.repeat(images, restarts, axis=0)
        latents = tf.reshape(starts, (count * restarts, latent_dim))
        slots = self.optimizer.slots(latents)
        chunk = max(1, self.chunk_image_steps // (count * restarts))
        for step in range(0, steps, chunk):
            stop = min(step + chunk, steps)
            latents, slots = self._advance(targets, latents, slots, tf.constant(step), tf.constant(stop))
        return targets, latents

    def __call__(self, images: tf.Tensor, starts: tf.Tensor, steps: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Projects images from their starts and keeps each image's best restart.

        Args:
            images, starts, steps: as for `descend`.

        Returns:
            G(z_T) `[n, h, w, c]`, z_T `[n, latent_dim]` and the losses `[n]`.
        """
        targets, latents = self.descend(images, starts, steps)
        projected, loss = self._finish(targets, latents)
        return best_restart(projected, latents, loss, starts.shape[1])


def best_restart(projected, latents, loss, restarts: int):
    """Keeps, of each image's `restarts` neighbouring rows, the one with the lowest loss."""
    loss = tf.reshape(loss, (-1, restarts))
    best = tf.argmin(loss, axis=1, output_type=tf.int32)
    rows = tf.range(tf.shape(loss)[0]) * restarts + best
    return tf.gather(projected, rows), tf.gather(latents, rows), tf.reduce_min(loss, axis=1)
