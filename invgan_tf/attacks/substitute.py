"""The black-box attack of Papernot et al. (2017): a substitute learns an oracle's labels and is attacked in its place.

The adversary sees labels alone. It begins with a few images whose true labels it knows, fits its substitute, moves
every point to where the substitute says its label is decided, asks the oracle about the new points, and fits again.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import validation

Oracle = Callable[[np.ndarray], np.ndarray]  # images `[n, h, w, c]` to labels `[n]`

_BATCH = 500  # points whose gradient is computed at a time
_ANYWHERE = (-np.inf, np.inf)  # augmented points leave the pixel range


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the substitute is trained; the defaults are those of Table 4.

    Attributes:
        rounds: of training; the points double between two of them.
        step: length of an augmenting step, in the images' range.
        epochs, batch_size, learning_rate: of each round.
    """

    rounds: int = 6
    step: float = 0.1
    epochs: int = 10
    batch_size: int = 50
    learning_rate: float = 1e-3

    def __post_init__(self):
        for name in ("rounds", "epochs", "batch_size"):
            validation.check_count(name, getattr(self, name), 1)
        for name in ("step", "learning_rate"):
            validation.check_positive(name, getattr(self, name))


class Round(NamedTuple):
    """The attack after a round of training.

    Attributes:
        number: of the round, from 1; 0 before the first.
        weights: of the substitute, as `Model.get_weights` gives them.
        images, labels: the points it was fitted to, `[n, h, w, c]` and `[n]`.
        new: points that wait for their labels, `[m, h, w, c]`; none after the last round.
    """

    number: int
    weights: list[np.ndarray]
    images: np.ndarray
    labels: np.ndarray
    new: np.ndarray

    @classmethod
    def start(cls, substitute: keras.Model, images) -> Self:
        """Returns the attack before its first round: the given images wait for their labels."""
        images = validation.check_model_images(substitute, images, _ANYWHERE)
        return cls(0, substitute.get_weights(), images[:0], np.zeros(0, np.int32), images)

    def labelled(self, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns all points and their labels, the new ones with these answers at the end."""
        return np.concatenate([self.images, self.new]), np.concatenate([self.labels, answers])


def train_substitute(
    substitute: keras.Model,
    oracle: Oracle,
    images,
    labels,
    *,
    settings: Settings = Settings(),
    seed: int = 0,
) -> Iterator[Round]:
    """Trains a substitute on an oracle's labels (Papernot et al. 2017; paper, Table 4).

    The oracle is asked about the augmented points alone, each once: 150 seeds and six rounds make
    4,650 queries. The attacked images are then `fgsm` of the substitute.

    Args:
        substitute: Keras model from images to logits, without random layers; trained in place.
        oracle: what is imitated: images `[n, h, w, c]`, which may leave the pixel range, to labels `[n]`.
        images, labels: the seeds `[n, h, w, c]` and what the adversary knows them to be, `[n]`.
        settings: of the training.
        seed: key of the batches' order.

    Yields:
        `Round` after every round of training; the oracle is asked when the next one is.

    Raises:
        ValueError: for images, labels or answers that do not fit, or a substitute with random layers.
    """
    last, answers = Round.start(substitute, images), labels
    while last.number < settings.rounds:
        last = advance(substitute, last, answers, settings=settings, seed=seed)
        yield last
        if len(last.new):
            answers = oracle(last.new)


def advance(
    substitute: keras.Model, before: Round, answers, *, settings: Settings = Settings(), seed: int = 0
) -> Round:
    """Plays the round after `before`: fits the substitute to all points and makes the next ones.

    The result is a function of its arguments alone: an interrupted attack goes on from its last `Round`.

    Args:
        substitute: takes the weights of `before`, and is trained in place.
        before: the round before, or `Round.start`.
        answers: labels of `before.new`, `[m]`.
        settings, seed: as for `train_substitute`.

    Raises:
        ValueError: after the last round, or as for `fit`.
    """
    if before.number >= settings.rounds:
        raise ValueError(f"Round {before.number} of {settings.rounds} was the last.")
    answers = validation.check_model_labels(substitute, before.new, answers)
    images, labels = before.labelled(answers)
    substitute.set_weights(before.weights)
    fit(
        substitute,
        images,
        labels,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=seed,
    )
    number = before.number + 1
    new = augment(substitute, images, labels, settings.step) if number < settings.rounds else images[:0]
    return Round(number, substitute.get_weights(), images, labels, new)


def fit(
    substitute: keras.Model,
    images,
    labels,
    *,
    epochs: int = 10,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Trains a substitute in place from where its weights are, by cross-entropy and a fresh Adam.

    The order of an epoch's batches is a function of (seed, epoch, number of points); the last batch may be smaller.

    Args:
        substitute: Keras model from images to logits, without random layers.
        images, labels: `[n, h, w, c]` and `[n]`.
        epochs, batch_size, learning_rate: as in `Settings`.
        seed: key of the order.

    Raises:
        ValueError: for images, labels or numbers that do not fit, or a substitute with random layers.
    """
    settings = Settings(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    seed = validation.check_count("seed", seed, 0)
    if len(substitute.variables) != len(substitute.weights):
        raise ValueError(f"{substitute.name} has random layers: their draws would not repeat when a run is resumed.")
    images = validation.check_model_images(substitute, images, _ANYWHERE)
    labels = tf.constant(validation.check_model_labels(substitute, images, labels))
    images = tf.constant(images)
    optimizer, fresh, run_epoch = _epoch(substitute, settings.batch_size, settings.learning_rate)
    for variable, value in zip(optimizer.variables, fresh):
        variable.assign(value)
    for epoch in range(settings.epochs):
        run_epoch(images, labels, tf.constant([seed, epoch], tf.int64))


def augment(substitute: keras.Model, images, labels, step: float = 0.1) -> np.ndarray:
    """Jacobian-based augmentation: x + step * sign(d logit_label / dx), not clipped.

    Args:
        substitute: Keras model from images to logits.
        images, labels: `[n, h, w, c]` and `[n]`.
        step: length of the step, in the images' range.

    Returns:
        New points, float32, `[n, h, w, c]`.

    Raises:
        ValueError: for images or labels that do not fit.
    """
    images = validation.check_model_images(substitute, images, _ANYWHERE)
    labels = validation.check_model_labels(substitute, images, labels)
    signs = _signs(substitute)
    batches = (slice(first, first + _BATCH) for first in range(0, len(images), _BATCH))
    moves = [signs(tf.constant(images[batch]), tf.constant(labels[batch])).numpy() for batch in batches]
    return images + np.float32(step) * np.concatenate(moves)


def _signature(substitute, *further):
    return [tf.TensorSpec((None, *substitute.input_shape[1:])), tf.TensorSpec((None,), tf.int32), *further]


@functools.lru_cache(maxsize=4)
def _epoch(substitute, batch_size, learning_rate):
    """Returns an optimiser, its state at birth, and a compiled epoch that it takes over (images, labels, key)."""
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(substitute.trainable_variables)

    @tf.function(input_signature=_signature(substitute, tf.TensorSpec((2,), tf.int64)))
    def run_epoch(images, labels, key):
        count, variables = tf.shape(images, tf.int64)[0], substitute.trainable_variables
        for first in tf.range(0, count, batch_size):
            places = tf.range(first, tf.minimum(first + batch_size, count))
            rows = tf.random.experimental.index_shuffle(places, key, count - 1)
            with tf.GradientTape() as tape:
                logits = substitute(tf.gather(images, rows), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, rows), logits)
                loss = tf.reduce_mean(losses)
            optimizer.apply(tape.gradient(loss, variables), variables)

    return optimizer, [variable.numpy() for variable in optimizer.variables], run_epoch


@functools.lru_cache(maxsize=4)
def _signs(substitute):
    @tf.function(input_signature=_signature(substitute), autograph=False)
    def signs(images, labels):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            own = tf.gather(substitute(images, training=False), labels, batch_dims=1)
        return tf.sign(tape.gradient(own, images))  # of the sum over points, each of which moves its own logit alone

    return signs
