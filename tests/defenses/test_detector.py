"""The detector: scores of the projection, thresholds, flags."""

import keras
import numpy as np
import pytest

from invgan_tf import AttackDetector, Defended, InvGAN, data, models
from invgan_tf.defenses import detector
from invgan_tf.evaluation import detection


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    defense = InvGAN(models.build_generator(width=8), models.build_inverter(width=8), steps=3)
    return Defended(models.build_classifier("E"), defense)


@pytest.fixture(scope="module")
def images():
    return data.load("mnist", "test", limit=12).images


def test_score_is_eq_7_of_the_projection(model, images):
    expected = detection.feature_score(model.classifier, images, model.project(images).images)
    np.testing.assert_allclose(AttackDetector(model).score(images), expected, rtol=1e-4)
    assert expected.shape == (12,) and np.all(expected > 0)


def test_flags_are_the_scores_above_the_threshold(model, images):
    given = AttackDetector(model)
    threshold = given.calibrate(images, 0.25)
    assert threshold == given.threshold
    scores = given.score(images)
    np.testing.assert_array_equal(given.flag(images), scores > threshold)
    assert np.sum(scores > threshold) == 3  # a quarter of twelve


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("n", [7, 100])
def test_no_more_than_the_rate_exceeds_the_threshold(rate, n):
    scores = np.random.default_rng(n).exponential(size=n)
    limit = detector.threshold(scores, rate)
    flagged = np.mean(scores > limit)
    assert rate - 1 / n < flagged <= rate
    assert limit in scores


def test_flag_before_calibration_says_what_to_do(model, images):
    with pytest.raises(RuntimeError, match=r"call calibrate\(clean_images\)"):
        AttackDetector(model).flag(images)


@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan])
def test_bad_rates_are_refused(model, images, rate):
    with pytest.raises(ValueError, match=r"false_positive_rate must lie in \[0, 1\)"):
        AttackDetector(model).calibrate(images, rate)


def test_bad_models_are_refused(model):
    with pytest.raises(ValueError, match="needs a Defended classifier, got Classifier"):
        AttackDetector(model.classifier)
    plain = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    with pytest.raises(ValueError, match="has no features"):
        AttackDetector(Defended(plain, model.defense))
