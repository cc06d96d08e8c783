"""The black-box attack: its steps by hand, its count of questions, its resumption, and that it transfers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import attacks, data, models, presets
from invgan_tf.attacks import substitute
from invgan_tf.evaluation import accuracy

SHAPE = (4, 4, 1)
QUICK = substitute.Settings(rounds=3, epochs=2)


def _images(count, seed=0, shape=SHAPE):
    return np.random.default_rng(seed).uniform(0, 1, (count, *shape)).astype(np.float32)


def _model(seed=1):
    keras.utils.set_random_seed(seed)
    return models.build_classifier("E", SHAPE, num_classes=3)


def _linear(weights):
    head = keras.layers.Dense(weights.shape[1], use_bias=False)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), head])
    head.set_weights([weights])
    return model


class _LinearOracle:
    """Says which of three sums of pixels is greatest, and remembers what it was asked."""

    def __init__(self):
        self.weights = np.random.default_rng(5).standard_normal((16, 3)).astype(np.float32)
        self.asked = []

    def __call__(self, images):
        self.asked.append(images.copy())
        return (images.reshape(len(images), 16) @ self.weights).argmax(axis=1)


def _same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)


def test_augmentation_moves_a_linear_models_points_by_the_signs_of_the_labels_weights():
    weights = np.random.default_rng(2).standard_normal((16, 3)).astype(np.float32)
    weights[3] = 0.0  # a pixel that decides nothing stays
    images, labels = _images(1001), np.arange(1001) % 3  # more than two batches
    images[0], images[1] = 1.0, 0.0
    moved = substitute.augment(_linear(weights), images, labels, 0.1)
    expected = images + 0.1 * np.sign(weights.T[labels]).reshape(-1, *SHAPE)
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    assert moved.dtype == np.float32 and moved.max() > 1.05 and moved.min() < -0.05  # not clipped


def test_augmentation_follows_the_labels_logit_by_finite_differences():
    images, labels = _images(5), np.array([0, 2, 1, 1, 0])
    smooth = [keras.layers.Dense(20, activation="tanh"), keras.layers.Dense(3)]  # finite differences dislike kinks
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), *smooth])
    moved = substitute.augment(model, images, labels, 0.5)
    h = 1e-2
    for pixel in range(16):
        offset = h * np.eye(16, dtype=np.float32)[pixel].reshape(SHAPE)
        up, down = (accuracy.outputs(model, images + side * offset) for side in (1, -1))
        slope = (up - down)[np.arange(5), labels] / (2 * h)
        clear = np.abs(slope) > 1e-3
        assert clear.any()
        step = (moved - images).reshape(5, 16)[:, pixel]
        np.testing.assert_allclose(step[clear], 0.5 * np.sign(slope[clear]), atol=1e-6)


def test_points_double_and_the_oracle_is_asked_about_the_new_ones_alone():
    oracle, seeds, truth = _LinearOracle(), _images(150), np.zeros(150, np.int64)
    settings = substitute.Settings(epochs=1)
    played = list(attacks.train_substitute(_model(), oracle, seeds, truth, settings=settings))
    assert [len(one.images) for one in played] == [150, 300, 600, 1200, 2400, 4800]
    assert [one.number for one in played] == [1, 2, 3, 4, 5, 6]
    assert [len(asked) for asked in oracle.asked] == [150, 300, 600, 1200, 2400] and sum(map(len, oracle.asked)) == 4650
    last = played[-1]
    assert not len(last.new)
    np.testing.assert_array_equal(last.images, np.concatenate([seeds, *oracle.asked]))
    np.testing.assert_array_equal(last.labels[:150], truth)
    np.testing.assert_array_equal(last.labels[150:], oracle(last.images[150:]))


def test_the_oracle_is_asked_only_when_the_next_round_is():
    oracle = _LinearOracle()
    play = substitute.train_substitute(_model(), oracle, _images(20), np.zeros(20, int), settings=QUICK)
    next(play)
    assert not oracle.asked
    next(play)
    assert len(oracle.asked) == 1


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_resumed_attack_is_the_uninterrupted_one(after):
    oracle, seeds = _LinearOracle(), _images(60)
    truth = oracle(seeds)
    model = _model()
    played = [
        substitute.Round.start(model, seeds),
        *substitute.train_substitute(model, oracle, seeds, truth, settings=QUICK, seed=4),
    ]
    other = _model(seed=9)  # another process's model and optimiser
    substitute.fit(other, seeds, truth, seed=1)
    last = played[after]
    while last.number < QUICK.rounds:
        answers = oracle(last.new) if last.number else truth
        last = substitute.advance(other, last, answers, settings=QUICK, seed=4)
    _same(last.weights, played[-1].weights)
    _same(other.get_weights(), model.get_weights())
    _same([last.images, last.labels], [played[-1].images, played[-1].labels])


def _eager_fit(model, images, labels, epochs, batch_size, seed):
    """Plain Keras: what `fit` must come to."""
    optimizer = keras.optimizers.Adam(1e-3)
    count = len(images)
    for epoch in range(epochs):
        key = tf.constant([seed, epoch], tf.int64)
        order = [int(tf.random.experimental.index_shuffle(place, key, count - 1)) for place in range(count)]
        assert sorted(order) == list(range(count))
        for first in range(0, count, batch_size):
            rows = order[first : first + batch_size]
            with tf.GradientTape() as tape:
                logits = model(images[rows], training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels[rows], logits))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


def test_fit_is_plain_adam_over_shuffled_batches_with_a_short_last_one():
    images, labels = _images(17), (np.arange(17) % 3).astype(np.int32)
    compiled, eager = _model(), _model()
    substitute.fit(compiled, images, labels, epochs=3, batch_size=5, seed=7)
    _eager_fit(eager, images, labels, epochs=3, batch_size=5, seed=7)
    for one, other in zip(compiled.get_weights(), eager.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_every_fit_has_a_fresh_adam_and_carries_weights_over():
    model, images, labels = _model(), _images(40), np.arange(40) % 3
    born = model.get_weights()
    substitute.fit(model, images, labels, epochs=1, seed=3)
    once = model.get_weights()
    substitute.fit(model, images, labels, epochs=1, seed=3)
    assert any(np.any(one != other) for one, other in zip(model.get_weights(), once))
    model.set_weights(born)
    substitute.fit(model, images, labels, epochs=1, seed=3)
    _same(model.get_weights(), once)
    model.set_weights(born)
    substitute.fit(model, images, labels, epochs=1, batch_size=10, seed=4)
    assert any(np.any(one != other) for one, other in zip(model.get_weights(), once))


def test_no_size_of_points_traces_again():
    model = _model()
    for count in (1, 7, 600):
        images, labels = _images(count), np.zeros(count, int)
        substitute.fit(model, images, labels, epochs=1)
        substitute.augment(model, images, labels)
    assert substitute._signs(model).experimental_get_tracing_count() == 1
    assert substitute._epoch(model, 50, 1e-3)[2].experimental_get_tracing_count() == 1


def test_a_substitute_learns_a_linear_oracle():
    oracle, model, seeds = _LinearOracle(), _model(), _images(150)
    for _ in substitute.train_substitute(model, oracle, seeds, oracle(seeds)):
        pass
    unseen = _images(2000, seed=6)
    assert np.mean(accuracy.predict(model, unseen) == oracle(unseen)) > 0.9


def test_the_attack_transfers_to_the_shipped_classifier_better_than_noise_of_its_size():
    classifier, digits = presets.load_classifier("mnist", "F"), data.load("mnist", "test", limit=550)
    keras.utils.set_random_seed(1)
    model = models.build_classifier("E")
    seeds, truth = digits.images[:150], digits.labels[:150]
    settings = substitute.Settings(rounds=4)
    for _ in substitute.train_substitute(
        model, lambda x: accuracy.predict(classifier, x), seeds, truth, settings=settings
    ):
        pass
    images, labels = digits.images[150:], digits.labels[150:]
    attacked = attacks.fgsm(model, images, eps=0.3)
    noise = np.sign(np.random.default_rng(0).standard_normal(images.shape)).astype(np.float32)
    noisy = np.clip(images + 0.3 * noise, 0, 1)
    fooled, disturbed = (np.mean(accuracy.predict(classifier, x) != labels) for x in (attacked, noisy))
    assert fooled > disturbed + 0.05


def test_arguments_stay_as_they_are():
    images, labels = _images(30), np.arange(30) % 3
    kept = images.copy(), labels.copy()
    for _ in substitute.train_substitute(_model(), _LinearOracle(), images, labels, settings=QUICK):
        pass
    _same((images, labels), kept)


def _played():
    model = _model()
    return model, list(substitute.train_substitute(model, _LinearOracle(), _images(4), [0, 1, 2, 0], settings=QUICK))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: substitute.Settings(rounds=0), "rounds must be an integer of at least 1"),
        (lambda: substitute.Settings(step=-0.1), "step must be a positive number"),
        (lambda: substitute.fit(_model(), _images(2), [0, 1], batch_size=0), "batch_size must be"),
        (lambda: substitute.fit(_model(), _images(2), [0, 1], seed=-1), "seed must be"),
        (lambda: substitute.fit(_model(), _images(2), [0, 3]), "labels in 0..2"),
        (lambda: substitute.fit(models.build_classifier("D", SHAPE), _images(2), [0, 1]), "has random layers"),
        (lambda: substitute.augment(_model(), _images(2, shape=(5, 5, 1)), [0, 1]), r"Expected images of shape"),
        (lambda: substitute.augment(_model(), _images(2) * np.nan, [0, 1]), "Expected finite images"),
        (lambda: substitute.augment(_model(), _images(2), [0]), "Expected 2 integer labels"),
        (
            lambda: list(substitute.train_substitute(_model(), lambda x: np.zeros((len(x), 3)), _images(2), [0, 1])),
            "Expected 2 integer labels",  # logits are no answer
        ),
        (lambda: substitute.advance(_played()[0], _played()[1][-1], [], settings=QUICK), "Round 3 of 3 was the last"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
