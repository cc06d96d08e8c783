"""The Carlini-Wagner L2 attack (Carlini and Wagner 2017), per image, with its binary search.

cleverhans 4.0.0's TensorFlow 2 version cannot be used: it does not run under Keras 3, its constant
mixes the images of a batch, and its bounds follow the best of all rounds (cleverhans issue 1205).
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.evaluation import accuracy

_CHUNK = 20  # iterations in one compiled call
_TANH_MARGIN = 0.999999  # keeps arctanh finite at the ends of the pixel range


@dataclasses.dataclass(frozen=True)
class Settings:
    """The attack's knobs; the defaults are those of Table 2 (paper, section 4.2)."""

    binary_search_steps: int = 6
    max_iterations: int = 100
    learning_rate: float = 0.2
    initial_const: float = 10.0
    confidence: float = 0.0

    def __post_init__(self):
        validation.check_count("binary_search_steps", self.binary_search_steps, 1)
        validation.check_count("max_iterations", self.max_iterations, 1)
        for name in ("learning_rate", "initial_const"):
            validation.check_positive(name, getattr(self, name))
        validation.check_positive("confidence", self.confidence, zero=True)


def to_pixels(modifier: tf.Tensor, value_range: tuple[float, float]) -> tf.Tensor:
    """The change of variables: any real number to a pixel inside the range."""
    low, high = value_range
    return (tf.tanh(modifier) + 1.0) * 0.5 * (high - low) + low


def from_pixels(images: tf.Tensor, value_range: tuple[float, float]) -> tf.Tensor:
    """The inverse of `to_pixels`, finite at both ends."""
    low, high = value_range
    return tf.atanh(((images - low) / (high - low) * 2.0 - 1.0) * _TANH_MARGIN)


def margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the label's logit minus the best other one, `[n, views]`; negative where the model is fooled.

    Args:
        logits: `[n, views, classes]`.
        labels: `[n]`.
    """
    own = tf.one_hot(labels, tf.shape(logits)[2], dtype=logits.dtype)[:, None, :]
    best_other = tf.reduce_max(logits - own * 1e9, axis=2)
    return tf.reduce_sum(logits * own, axis=2) - best_other


class Search:
    """The search itself, for any way to see the attacked image.

    Args:
        objective: graph function of (w, images, state) that gives (logits `[n, views, classes]`, squared
            distance `[n]`, attacked pixels, state). Gradients flow from logits and distance to w. A random
            defence has several views of an image: the loss is their mean, and all must be fooled. `state` is
            what the attacked model carries from one iteration to the next, () for a plain model.
        settings: the knobs.
        value_range: lowest and highest pixel.
    """

    def __init__(self, objective: Callable, settings: Settings, value_range: tuple[float, float]):
        self.settings, self.value_range = settings, value_range
        adam = projection.Adam(settings.learning_rate)

        @tf.function(reduce_retracing=True, autograph=False)
        def iterate(images, labels, const, w, slots, state, best, start, stop):
            def body(step, w, slots, state, best):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(w)
                    logits, distance, pixels, new_state = objective(w, images, state)
                    excess = margin(logits, labels) + settings.confidence
                    loss = tf.reduce_sum(const * tf.reduce_mean(tf.nn.relu(excess), axis=1) + distance)
                gradient = tape.gradient(loss, w)
                best_distance, best_pixels = best
                norm = tf.reduce_sum(tf.square(pixels - images), axis=[1, 2, 3])
                better = tf.reduce_all(excess < 0.0, axis=1) & (norm < best_distance)
                best_distance = tf.where(better, norm, best_distance)
                best_pixels = tf.where(better[:, None, None, None], pixels, best_pixels)
                offset, slots = adam.update(gradient, slots, step)
                return step + 1, w + offset, slots, new_state, (best_distance, best_pixels)

            return tf.while_loop(
                lambda step, *_: step < stop, body, (start, w, slots, state, best), parallel_iterations=1
            )[1:]

        self._iterate, self._adam = iterate, adam

    def __call__(self, images, labels, state: Callable[[], tuple], verify: Callable | None = None) -> np.ndarray:
        """Attacks a batch.

        Args:
            images: `[n, h, w, c]`, float32.
            labels: `[n]`, int32, to move away from.
            state: returns the attacked model's state at the start of a round.
            verify: given candidates `[n, h, w, c]` and flags `[n]` of those that would improve the result,
                returns the flags that hold; all of them by default.

        Returns:
            For each image the one of least distance that holds; where none does, the last that did not,
            which may still fool the model; where the search found nothing at all, the clean image.
        """
        result = np.array(images)  # a copy: a tensor may share its memory with the caller's array
        images, labels = tf.constant(images), tf.constant(labels)
        count = len(images)
        const = np.full(count, self.settings.initial_const, np.float32)
        lower, upper = np.zeros(count, np.float32), np.full(count, np.inf, np.float32)
        result_distance = np.full(count, np.inf, np.float32)
        for _ in range(self.settings.binary_search_steps):
            distance, pixels = self._round(images, labels, tf.constant(const), state())
            found = np.isfinite(distance)
            better = found & (distance < result_distance)
            if verify is not None:  # a candidate that could not improve the result need not be looked at
                held = verify(pixels, better)
                doubtful = better & ~held & np.isinf(result_distance)
                result[doubtful] = pixels[doubtful]
                found, better = found & (held | ~better), held
            result[better], result_distance[better] = pixels[better], distance[better]
            upper = np.where(found, const, upper)
            lower = np.where(found, lower, const)
            const = np.where(np.isinf(upper), const * 10, (lower + np.minimum(upper, 1e30)) / 2).astype(np.float32)
        return np.clip(result, *self.value_range)

    def _round(self, images, labels, const, state):
        w = from_pixels(images, self.value_range)
        slots = self._adam.slots(w)
        best = (tf.fill([len(images)], np.inf), images)
        for start in range(0, self.settings.max_iterations, _CHUNK):
            stop = min(start + _CHUNK, self.settings.max_iterations)
            w, slots, state, best = self._iterate(
                images, labels, const, w, slots, state, best, tf.constant(start), tf.constant(stop)
            )
        return best[0].numpy(), best[1].numpy()


@functools.lru_cache(maxsize=8)
def _plain_search(model, settings, value_range):
    def objective(w, images, state):
        pixels = to_pixels(w, value_range)
        reference = to_pixels(from_pixels(images, value_range), value_range)
        distance = tf.reduce_sum(tf.square(pixels - reference), axis=[1, 2, 3])
        return model(pixels, training=False)[:, None, :], distance, pixels, state

    return Search(objective, settings, value_range)


def attacked_labels(model: keras.Model, images: np.ndarray, labels) -> np.ndarray:
    """Returns checked labels, or the model's own predictions where there are none."""
    if labels is None:
        return accuracy.predict(model, images)
    return validation.check_model_labels(model, images, labels)


def carlini_wagner_l2(
    model: keras.Model,
    images,
    *,
    labels=None,
    binary_search_steps: int = 6,
    max_iterations: int = 100,
    learning_rate: float = 0.2,
    initial_const: float = 10.0,
    confidence: float = 0.0,
    value_range: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """Carlini-Wagner L2 (Carlini and Wagner 2017): the least perturbation that changes the model's label.

    Each image is searched alone: the result does not depend on the batch, and no iteration is cut short.

    Args:
        model: Keras model from images to logits.
        images: `[n, h, w, c]`, floating, in `value_range`.
        labels: labels to move away from, `[n]`; by default the model's own predictions, as cleverhans does.
        binary_search_steps: rounds of the search for the weight of the classification term.
        max_iterations: Adam steps a round.
        learning_rate: of Adam, in the space of the change of variables.
        initial_const: first weight of the classification term.
        confidence: by how much the wrong logit must lead.
        value_range: lowest and highest pixel.
        batch_size: images attacked at a time.
        seed: unused: the attack is not random; every attack takes it.

    Returns:
        Attacked images, float32, same shape, inside `value_range`; a failure returns the clean image.

    Raises:
        ValueError: for images, labels or settings that do not fit.
    """
    images = validation.check_model_images(model, images, value_range)
    settings = Settings(binary_search_steps, max_iterations, learning_rate, initial_const, confidence)
    labels = attacked_labels(model, images, labels)
    search = _plain_search(model, settings, tuple(value_range))
    batches = range(0, len(images), validation.check_count("batch_size", batch_size, 1))
    return np.concatenate([search(images[i : i + batch_size], labels[i : i + batch_size], lambda: ()) for i in batches])
