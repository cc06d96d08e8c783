"""Wilson intervals and McNemar's test against hand-worked values and statsmodels."""

import keras
import numpy as np
import pytest
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportion_confint

from invgan_tf.evaluation import accuracy


def _flags(correct, n):
    return np.arange(n) < correct


@pytest.mark.parametrize("correct, n", [(8, 10), (0, 7), (7, 7), (1, 1), (93, 100), (9_876, 10_000)])
def test_wilson_interval_equals_statsmodels(correct, n):
    proportion = accuracy.Proportion.of(_flags(correct, n))
    assert proportion.value == pytest.approx(correct / n)
    assert proportion.n == n
    assert proportion.ci95 == pytest.approx(proportion_confint(correct, n, 0.05, "wilson"), abs=1e-12)


def test_wilson_interval_by_hand():
    # p = .5, n = 4, z = 1.96: centre .5, half width 1.96 * sqrt(.25/4 + 1.96^2/64) / (1 + 1.96^2/4) = .35
    assert accuracy.Proportion.of([True, False, True, False]).ci95 == pytest.approx((0.15, 0.85), abs=1e-3)


def test_proportion_is_plain_numbers():
    proportion = accuracy.Proportion.of(np.array([True, True, False]))
    assert {type(number) for number in (proportion.value, *proportion.ci95)} == {float}
    assert type(proportion.n) is int


@pytest.mark.parametrize("flags", [[], [[True, False]], True])
def test_proportion_of_no_vector_is_refused(flags):
    with pytest.raises(ValueError, match="vector of at least one flag"):
        accuracy.Proportion.of(flags)


@pytest.mark.parametrize("cells", [(50, 3, 12, 35), (0, 1, 0, 0), (10, 6, 6, 2), (0, 40, 11, 0), (5, 0, 20, 5)])
def test_mcnemar_equals_statsmodels(cells):
    both, only_first, only_second, neither = cells
    first = np.repeat([True, True, False, False], cells)
    second = np.repeat([True, False, True, False], cells)
    table = [[both, only_first], [only_second, neither]]
    expected = contingency_tables.mcnemar(table, exact=True).pvalue
    assert accuracy.mcnemar(first, second) == pytest.approx(expected)
    assert accuracy.mcnemar(second, first) == pytest.approx(expected)


def test_mcnemar_by_hand():
    # one of six disagreements: 2 * (1 + 6) / 2^6
    assert accuracy.mcnemar(_flags(1, 6), ~_flags(1, 6)) == pytest.approx(14 / 64)


def test_mcnemar_without_disagreement_is_one():
    assert accuracy.mcnemar(_flags(3, 5), _flags(3, 5)) == 1.0


def test_mcnemar_of_unpaired_rows_is_refused():
    with pytest.raises(ValueError, match=r"\(5,\) and \(4,\)"):
        accuracy.mcnemar(_flags(3, 5), _flags(3, 4))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_outputs_are_those_of_one_inference_call(count):
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])
    inputs = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    outputs = accuracy.outputs(model, inputs, batch_size=3)
    np.testing.assert_allclose(outputs, inputs / np.sqrt(1.001), rtol=1e-5)


def test_predict_is_the_argmax_over_all_batches():
    classifier = keras.Sequential([keras.Input((1, 3, 1)), keras.layers.Flatten()])
    logits = np.random.default_rng(0).normal(size=(501, 3)).astype(np.float32)
    predictions = accuracy.predict(classifier, logits[:, None, :, None])
    assert predictions.dtype == np.int32
    np.testing.assert_array_equal(predictions, [max(range(3), key=row.__getitem__) for row in logits.tolist()])


def test_paired_difference_by_hand():
    first = np.array([1] * 6 + [1] * 3 + [0] * 1 + [0] * 2, bool)
    second = np.array([1] * 6 + [0] * 3 + [1] * 1 + [0] * 2, bool)
    difference, (low, high) = accuracy.paired_difference(first, second)
    assert difference == pytest.approx(2 / 12)
    gained, lost = 4 / 14, 2 / 14  # one more disagreement of each kind, two more images
    half = 1.959964 * np.sqrt((gained + lost - (gained - lost) ** 2) / 14)
    assert (low, high) == (pytest.approx(2 / 14 - half), pytest.approx(2 / 14 + half))


def test_paired_difference_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        kind = rng.choice(4, 200, p=[0.85, 0.06, 0.02, 0.07])
        low, high = accuracy.paired_difference((kind == 0) | (kind == 1), (kind == 0) | (kind == 2))[1]
        covered += low <= 0.04 <= high
    assert covered / 400 > 0.92
