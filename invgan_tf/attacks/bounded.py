"""Projected gradient descent in a ball, with random restarts, on any model; the loss is the margin of the label.

A compiled loop walks a block of images; what the attacked model carries from one step to the next travels with it,
which is what a projection that goes on warm needs (`adaptive`).
"""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import validation
from invgan_tf.attacks import carlini_wagner

NORMS = ("inf", "2")
_CHUNK = 20  # steps in one compiled call


def check_ball(eps, norm) -> tuple[float, str]:
    """Returns radius and norm ("inf" or "2"), or raises ValueError."""
    eps = validation.check_positive("eps", eps)
    if str(norm) not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}.")
    return eps, str(norm)


def lengths(difference: tf.Tensor) -> tf.Tensor:
    """Returns the L2 norm of each image, `[n, 1, 1, 1]`; not zero, so that it can divide."""
    return tf.maximum(tf.sqrt(tf.reduce_sum(tf.square(difference), axis=[1, 2, 3], keepdims=True)), 1e-12)


def into_ball(pixels: tf.Tensor, images: tf.Tensor, eps, norm: str, value_range: tuple[float, float]) -> tf.Tensor:
    """Returns the pixels moved into the ball around their images and into the pixel range.

    Into the L-infinity ball it is the nearest point. Into the L2 ball the difference is shortened, then clipped, which
    only shortens it further.
    """
    difference = pixels - images
    if norm == "inf":
        difference = tf.clip_by_value(difference, -eps, eps)
    else:
        difference *= tf.minimum(1.0, eps / lengths(difference))
    return tf.clip_by_value(images + difference, *value_range)


def random_point(
    images: np.ndarray, eps: float, norm: str, value_range: tuple[float, float], seed: tuple[int, int]
) -> tf.Tensor:
    """Returns a random point of each image's ball: uniform in L-infinity; in L2 of uniform direction and length."""
    images = tf.constant(images)
    if norm == "inf":
        noise = tf.random.stateless_uniform(images.shape, seed, -eps, eps)
    else:
        noise = tf.random.stateless_normal(images.shape, seed)
        share = tf.random.stateless_uniform((len(images), 1, 1, 1), (seed[0], seed[1] + 2**20))
        noise *= eps * share / lengths(noise)
    return into_ball(images + noise, images, eps, norm, value_range)


class Walk:
    """Descends a loss inside the ball; step t of n is of length 2 a (1 - t / n), a the mean step.

    Args:
        objective: graph function of (pixels, labels, state) that gives each image's loss `[n]` and the next state.
        norm: "inf" or "2".
        value_range: lowest and highest pixel.
    """

    def __init__(self, objective: Callable, norm: str, value_range: tuple[float, float]):
        @tf.function(reduce_retracing=True, autograph=False)
        def advance(images, labels, pixels, state, best, eps, length, start, stop, steps):
            def body(step, pixels, state, best):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(pixels)
                    loss, new_state = objective(pixels, labels, state)
                    total = tf.reduce_sum(loss)
                gradient = tape.gradient(total, pixels)
                lower = loss <= best[0]  # of equal ones the last, whose steps were short
                best = tf.where(lower, loss, best[0]), tf.where(lower[:, None, None, None], pixels, best[1])
                direction = tf.sign(gradient) if norm == "inf" else gradient / lengths(gradient)
                part = 1.0 - tf.cast(step, tf.float32) / tf.cast(steps, tf.float32)
                moved = into_ball(pixels - 2.0 * length * part * direction, images, eps, norm, value_range)
                return step + 1, moved, new_state, best

            return tf.while_loop(
                lambda step, *_: step < stop, body, (start, pixels, state, best), parallel_iterations=1
            )[1:]

        self._advance = advance

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, begin: tf.Tensor, state: tuple, eps: float, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Walks from `begin`; returns the point of lowest loss of each image, and that loss."""
        images, labels = tf.constant(images), tf.constant(labels)
        pixels, best = begin, (tf.fill([len(images)], np.inf), images)
        length = 2.5 * eps / steps
        # One step more than asked for: the last point is only looked at.
        for start in range(0, steps + 1, _CHUNK):
            stop = min(start + _CHUNK, steps + 1)
            bounds = tf.constant(start), tf.constant(stop), tf.constant(steps)
            radius = tf.constant(eps, tf.float32), tf.constant(length, tf.float32)
            pixels, state, best = self._advance(images, labels, pixels, state, best, *radius, *bounds)
        return best[1].numpy(), best[0].numpy()


@functools.lru_cache(maxsize=8)
def _plain_walk(model, norm, value_range):
    def objective(pixels, labels, state):
        return carlini_wagner.margin(model(pixels, training=False)[:, None, :], labels)[:, 0], state

    return Walk(objective, norm, value_range)


def pgd_restarts(
    model: keras.Model,
    images,
    *,
    eps: float,
    norm: str = "inf",
    steps: int = 100,
    restarts: int = 10,
    confidence: float = 0.0,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> np.ndarray:
    """PGD on the label's margin (Madry et al. 2018; the loss of Carlini and Wagner 2017), the best of all restarts.

    The first restart begins at the image itself, the others at random points of the ball. An image whose margin has
    fallen below -confidence is not restarted.

    Args:
        model: Keras model from images to logits; `reparameterization.reparameterized(defended)` is f(G(I(x))).
        images: `[n, h, w, c]`, floating, in `value_range`.
        eps: radius of the ball, in the images' range.
        norm: of the ball, "inf" or "2".
        steps: of each restart, their length falling linearly to zero from 5 * eps / steps.
        restarts: at most so many.
        confidence: by how much the wrong logit must lead to be content; images meant for another model want more.
        labels: labels to move away from, `[n]`; by default the model's own predictions.
        value_range: lowest and highest pixel.
        seed: key of the restarts' random points, which depend on an image's place in the batch.

    Returns:
        Attacked images, float32, same shape, inside ball and `value_range`: of all visited points that of the
        lowest margin.

    Raises:
        ValueError: for images, labels or settings that do not fit.
    """
    images = validation.check_model_images(model, images, value_range)
    eps, norm = check_ball(eps, norm)
    steps, restarts = validation.check_count("steps", steps, 1), validation.check_count("restarts", restarts, 1)
    seed, confidence = (
        validation.check_count("seed", seed, 0),
        validation.check_positive("confidence", confidence, zero=True),
    )
    labels = carlini_wagner.attacked_labels(model, images, labels)
    walk, value_range = _plain_walk(model, norm, tuple(value_range)), tuple(value_range)
    result, lowest = np.array(images), np.full(len(images), np.inf, np.float32)
    for restart in range(restarts):
        left = lowest >= -confidence
        if not left.any():
            break
        begin = random_point(images, eps, norm, value_range, (seed, restart)) if restart else tf.constant(images)
        found, loss = walk(images[left], labels[left], tf.boolean_mask(begin, left), (), eps, steps)
        better = np.zeros_like(left)
        better[left] = loss < lowest[left]
        result[better], lowest[better] = found[better[left]], loss[better[left]]
    return result
