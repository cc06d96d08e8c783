"""APGD and Square on linear classifiers, whose strongest point in a ball is known."""

import keras
import numpy as np
import pytest

from invgan_tf import attacks

pytest.importorskip("art")

SIDE, EPS = 6, 0.1


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0.45, 0.55, (8, SIDE, SIDE, 1)).astype(np.float32)


def _classifier(lead, signed=True):
    """Class 0 leads class 1 by about `lead`, whatever the pixels; class 2 never counts."""
    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    way = np.random.default_rng(1).standard_normal(SIDE * SIDE).astype(np.float32)
    way = way if signed else np.abs(way)
    kernel = np.stack([way / 2, -way / 2, 0 * way], axis=1)
    model.layers[-1].set_weights([kernel, np.array([lead - way.sum() / 4, way.sum() / 4, -50.0], np.float32)])
    return model, way


def _lead(model, images):
    logits = model.predict(images, verbose=0)
    return logits[:, 0] - logits[:, 1]


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_that_fails_returns_the_strongest_point_it_saw(images, loss):
    model, way = _classifier(lead=20.0)
    attacked = attacks.auto_pgd(model, images, eps=EPS, loss=loss, steps=20, labels=np.zeros(len(images), int))
    corner = images - EPS * np.sign(way).reshape(1, SIDE, SIDE, 1)
    assert _lead(model, corner).min() > 10.0  # nothing in the ball fools it
    np.testing.assert_allclose(_lead(model, attacked), _lead(model, corner), rtol=1e-3)


def test_apgd_that_fools_returns_the_strongest_point_it_saw(images):
    model, way = _classifier(lead=1.0)
    attacked = attacks.auto_pgd(model, images, eps=EPS, steps=20, labels=np.zeros(len(images), int))
    np.testing.assert_allclose(_lead(model, attacked), _lead(model, images) - EPS * np.abs(way).sum(), atol=2e-3)


def test_square_that_is_to_win_by_more_goes_on(images):
    model, way = _classifier(lead=1.0, signed=False)  # squares of one sign can reach the best corner
    reach = _lead(model, images) - EPS * np.abs(way).sum()
    confidence = float(-reach.max() / 2)
    assert confidence > 0.2
    labels, leads = np.zeros(len(images), int), {}
    for asked in (0.0, confidence):
        attacked = attacks.square(model, images, eps=EPS, queries=400, confidence=asked, labels=labels, seed=3)
        assert np.abs(attacked - images).max() <= EPS + 1e-6
        leads[asked] = _lead(model, attacked)
    assert leads[0.0].max() < 0.0 and leads[0.0].mean() > -confidence  # content at once
    assert np.sum(leads[confidence] < leads[0.0] - 0.1) >= len(images) // 2


def test_square_searches_anew_where_its_judge_refuses_and_keeps_what_came_furthest(images):
    model, _ = _classifier(lead=1.0, signed=False)
    asked = []

    def judge(found, labels, rows):
        assert len(labels) == len(rows) == len(found) and not labels.any()
        asked.append((rows.tolist(), found))
        return np.where(rows == 2, (0.5, 0.8, 0.3, 0.1)[len(asked) - 1], 1.0)

    attacked = attacks.square(model, images, eps=EPS, queries=80, judge=judge, labels=np.zeros(len(images), int))
    assert [rows for rows, _ in asked] == [list(range(len(images))), [2], [2], [2]]
    found = np.stack([asked[0][1][2], *(proposed[0] for _, proposed in asked[1:])])
    assert len(np.unique(found, axis=0)) > 1  # other proposals; of six stripes some come twice
    np.testing.assert_array_equal(attacked[2], found[1])
    np.testing.assert_array_equal(np.delete(attacked, 2, axis=0), np.delete(asked[0][1], 2, axis=0))
    assert np.abs(found - images[2]).max() <= EPS + 1e-6


def test_square_that_does_not_fool_its_model_spends_all_queries_in_one_search(images):
    model, _ = _classifier(lead=20.0)  # nothing in the ball fools it
    asked = []
    given = {"eps": EPS, "queries": 40, "labels": np.zeros(len(images), int)}
    attacked = attacks.square(model, images, judge=lambda *call: asked.append(call) or np.zeros(len(call[0])), **given)
    assert len(asked) == 1
    np.testing.assert_array_equal(attacked, attacks.square(model, images, **given))
