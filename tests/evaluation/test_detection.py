"""Scores by hand, AUC against scikit-learn, its intervals and paired tests against the bootstrap and by counting."""

import keras
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from invgan_tf import models
from invgan_tf.evaluation import detection


def _scores(n, shift, seed=0, shared=0.8):
    """Scores of n clean images and of their attacked copies, which have part of their luck in common."""
    rng = np.random.default_rng(seed)
    luck = rng.normal(size=n)
    clean, attacked = (shared * luck + np.sqrt(1 - shared**2) * rng.normal(size=n) for _ in range(2))
    return clean, attacked + shift


def _sklearn(clean, attacked):
    return metrics.roc_auc_score(np.repeat([0, 1], len(clean)), np.concatenate([clean, attacked]))


def test_feature_score_by_hand():
    extractor = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.Flatten(), keras.layers.Rescaling(2.0)])
    classifier = models.Classifier(extractor, keras.layers.Dense(3))
    images = np.array([[1.0, 0.0], [0.5, 0.5]], np.float32).reshape(2, 1, 2, 1)
    projected = np.array([[0.0, 0.5], [0.5, 0.5]], np.float32).reshape(2, 1, 2, 1)
    # (2 * 1)^2 and (2 * .5)^2, mean over two features
    np.testing.assert_allclose(detection.feature_score(classifier, images, projected), [2.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(detection.image_score(images, projected), [0.625, 0.0], atol=1e-6)


def test_a_classifier_without_features_is_refused():
    with pytest.raises(ValueError, match="has no features"):
        detection.feature_score(keras.Sequential(), np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1, 1)))


@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.3, 2.0])
def test_auc_equals_scikit_learn(shift):
    clean, attacked = _scores(200, shift)
    assert detection.AUC.of(clean, attacked).value == pytest.approx(_sklearn(clean, attacked))
    tied = np.round(clean, 1), np.round(attacked, 1)
    assert detection.AUC.of(*tied).value == pytest.approx(_sklearn(*tied))


def test_auc_by_hand():
    area = detection.AUC.of([1.0, 2.0], [2.0, 3.0])  # 2 > 1, 2 = 2, 3 > 1, 3 > 2
    assert area.value == 3.5 / 4
    # attacked: 2 is above 1.5 of 2, 3 above 2 of 2; clean: 1 is below 2 of 2, 2 below 1.5 of 2
    np.testing.assert_allclose(area.components, [0.75 + 1.0, 1.0 + 0.75])
    assert area.n == 2 and type(area.value) is float and {type(bound) for bound in area.ci95} == {float}


def test_interval_is_the_bootstraps_over_images():
    clean, attacked = _scores(300, 0.7)
    low, high = detection.AUC.of(clean, attacked).ci95
    boot = stats.bootstrap(
        (clean, attacked), _sklearn, paired=True, vectorized=False, n_resamples=600, method="percentile", rng=0
    ).confidence_interval
    assert (low, high) == (pytest.approx(boot.low, abs=0.01), pytest.approx(boot.high, abs=0.01))


def test_interval_covers_the_truth():
    truth = stats.norm.cdf(1.0 / np.sqrt(2.0))  # P(N(1, 1) > N(0, 1)); an image's luck leaves it as it is
    intervals = [detection.AUC.of(*_scores(80, 1.0, seed)).ci95 for seed in range(300)]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.92 < covered < 0.98


def test_perfect_detection_keeps_an_interval():
    area = detection.AUC.of(np.arange(50.0), np.arange(50.0) + 100.0)
    assert area.value == 1.0 and area.ci95 == pytest.approx((50 / (50 + 1.959964**2), 1.0), abs=1e-6)


def test_paired_comparison_against_the_bootstrap():
    clean, attacked = _scores(300, 0.7)
    noisier = clean + _scores(300, 0.0, 1)[0], attacked + _scores(300, 0.0, 2)[0]
    found = detection.AUC.of(clean, attacked).compare(detection.AUC.of(*noisier))
    assert found.difference == pytest.approx(_sklearn(clean, attacked) - _sklearn(*noisier))
    rng, differences = np.random.default_rng(0), []
    for _ in range(400):
        chosen = rng.integers(0, 300, 300)
        differences.append(_sklearn(clean[chosen], attacked[chosen]) - _sklearn(noisier[0][chosen], noisier[1][chosen]))
    assert found.ci95 == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=0.015)
    assert found.p == pytest.approx(2 * stats.norm.sf(found.difference / np.std(differences)), abs=0.02)


def test_false_alarms_of_the_paired_test_are_as_many_as_it_says():
    alarms = 0
    for seed in range(300):
        clean, attacked = _scores(100, 1.0, seed)
        rows = [(clean + a, attacked + b) for a, b in np.random.default_rng(10_000 + seed).normal(size=(2, 2, 100))]
        alarms += detection.AUC.of(*rows[0]).compare(detection.AUC.of(*rows[1])).p < 0.05
    assert 0.02 < alarms / 300 < 0.09


def test_equal_rows_do_not_differ():
    area = detection.AUC.of(*_scores(50, 1.0))
    assert area.compare(area) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize(
    ("clean", "attacked", "message"),
    [
        ([1.0, 2.0], [1.0], r"\(2,\) and \(1,\)"),
        ([1.0], [1.0], "two or more"),
        ([[1.0], [2.0]], [[1.0], [2.0]], "shapes"),
        ([1.0, np.nan], [1.0, 2.0], "finite"),
    ],
)
def test_bad_scores_are_refused(clean, attacked, message):
    with pytest.raises(ValueError, match=message):
        detection.AUC.of(clean, attacked)
    with pytest.raises(ValueError, match="same images"):
        detection.AUC.of([1.0, 2.0], [3.0, 4.0]).compare(detection.AUC.of([1.0, 2.0, 3.0], [3.0, 4.0, 5.0]))
