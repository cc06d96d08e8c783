"""What must hold for any input: of projection, attacks, intervals, areas under curves and distances."""

import functools

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import linalg
from sklearn import metrics

import invgan_tf
from invgan_tf import attacks, projection
from invgan_tf.evaluation import accuracy, detection, frechet

_SHAPE, _N = (6, 6, 1), 4
few = hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
many = hypothesis.settings(max_examples=60, deadline=None, derandomize=True)

images_in_range = hnp.arrays(np.float32, (_N, *_SHAPE), elements=st.floats(0.0, 1.0, width=32))
seeds = st.integers(0, 2**31 - 1)
flag_vectors = st.lists(st.booleans(), min_size=1, max_size=60).map(lambda flags: np.array(flags, bool))
score_pairs = st.integers(2, 30).flatmap(
    lambda n: st.tuples(*[hnp.arrays(float, n, elements=st.integers(-5, 5).map(float)) for _ in range(2)])
)


@functools.cache
def _networks():
    keras.utils.set_random_seed(3)
    layers = keras.layers
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(36, "sigmoid"), layers.Reshape(_SHAPE)])
    inverter = keras.Sequential([keras.Input(_SHAPE), layers.Flatten(), layers.Dense(3)])
    classifier = keras.Sequential([keras.Input(_SHAPE), layers.Flatten(), layers.Dense(5)])
    invgan = invgan_tf.InvGAN(generator, inverter, steps=4)
    defensegan = invgan_tf.DefenseGAN(generator, steps=4, restarts=3, optimizer=projection.Momentum(0.1, 0.7))
    return generator, classifier, {"invgan": invgan, "defensegan": defensegan}


@pytest.mark.parametrize("name", ["invgan", "defensegan"])
@few
@hypothesis.given(images=images_in_range, seed=seeds, first=st.integers(0, 10**6))
def test_a_projection_is_the_generators_image_and_its_loss(name, images, seed, first):
    generator, _, defenses = _networks()
    before = images.copy()
    found = defenses[name].project(images, seed=seed, indices=np.arange(first, first + _N))
    assert found.images.min() >= 0.0 and found.images.max() <= 1.0 and np.isfinite(found.latents).all()
    np.testing.assert_allclose(found.images, generator(found.latents), atol=1e-6)
    np.testing.assert_allclose(found.loss, np.square(found.images - images).mean(axis=(1, 2, 3)), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", ["invgan", "defensegan"])
@few
@hypothesis.given(images=images_in_range, seed=seeds, order=st.permutations(range(_N)))
def test_an_images_projection_does_not_depend_on_its_place(name, images, seed, order):
    defense = _networks()[2][name]
    whole = defense.project(images, seed=seed)
    moved = defense.project(images[order], seed=seed, indices=np.array(order))
    np.testing.assert_allclose(moved.latents, whole.latents[order], atol=1e-5)


@few
@hypothesis.given(images=images_in_range, seed=seeds)
def test_more_restarts_never_raise_the_loss(images, seed):
    defense = _networks()[2]["defensegan"]
    one, three = (defense.project(images, seed=seed, restarts=restarts).loss for restarts in (1, 3))
    assert np.all(three <= one + 1e-6)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
@few
@hypothesis.given(
    images=images_in_range, eps=st.floats(1e-3, 0.9), labels=hnp.arrays(np.int32, _N, elements=st.integers(0, 4))
)
def test_bounded_attacks_stay_in_ball_and_range(name, images, eps, labels):
    before = images.copy()
    more = {"steps": 3} if name == "pgd" else {}
    attacked = getattr(attacks, name)(_networks()[1], images, eps=eps, labels=labels, **more)
    assert attacked.shape == images.shape and attacked.dtype == np.float32
    assert attacked.min() >= 0.0 and attacked.max() <= 1.0
    assert np.abs(attacked - images).max() <= eps + 1e-6
    np.testing.assert_array_equal(images, before)


@few
@hypothesis.given(images=images_in_range)
def test_carlini_wagner_changes_only_what_it_fools(images):
    classifier = _networks()[1]
    attacked = attacks.carlini_wagner_l2(classifier, images, max_iterations=10, binary_search_steps=2)
    assert attacked.min() >= 0.0 and attacked.max() <= 1.0
    own, then = (accuracy.predict(classifier, given) for given in (images, attacked))
    changed = np.any(attacked != images, axis=(1, 2, 3))
    assert np.all(then[changed] != own[changed])


@many
@hypothesis.given(flags=flag_vectors)
def test_wilsons_interval_holds_its_share_and_mirrors(flags):
    share, rest = accuracy.Proportion.of(flags), accuracy.Proportion.of(~flags)
    low, high = share.ci95
    assert 0.0 <= low <= share.value + 1e-12 and share.value <= high + 1e-12 and high <= 1.0
    assert (1 - rest.ci95[1], 1 - rest.ci95[0]) == pytest.approx((low, high), abs=1e-9)
    fourfold = accuracy.Proportion.of(np.tile(flags, 4))
    assert fourfold.ci95[1] - fourfold.ci95[0] < high - low


@many
@hypothesis.given(flags=flag_vectors, seed=seeds)
def test_paired_comparisons_turn_with_their_rows(flags, seed):
    other = np.random.default_rng(seed).random(len(flags)) < 0.5
    difference, (low, high) = accuracy.paired_difference(flags, other)
    turned, (turned_low, turned_high) = accuracy.paired_difference(other, flags)
    assert (turned, turned_low, turned_high) == pytest.approx((-difference, -high, -low))
    assert low <= high and difference == pytest.approx(flags.mean() - other.mean())
    p = accuracy.mcnemar(flags, other)
    assert 0.0 < p <= 1.0 and p == accuracy.mcnemar(other, flags)
    assert accuracy.mcnemar(flags, flags) == 1.0


@many
@hypothesis.given(scores=score_pairs)
def test_the_area_is_scikit_learns_and_follows_ranks_alone(scores):
    clean, attacked = scores
    area = detection.AUC.of(clean, attacked)
    truth = np.repeat([0, 1], len(clean))
    assert area.value == pytest.approx(metrics.roc_auc_score(truth, np.concatenate(scores)))
    low, high = area.ci95
    assert 0.0 <= low <= area.value + 1e-9 and area.value <= high + 1e-9 and high <= 1.0
    risen = detection.AUC.of(np.exp(clean), np.exp(attacked))
    assert (risen.value, *risen.ci95) == pytest.approx((area.value, *area.ci95))
    assert detection.AUC.of(attacked, clean).value == pytest.approx(1.0 - area.value)


def _moments(seed, n=40, shift=0.0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5)) + shift
    return frechet.Moments(n, features.mean(axis=0), np.cov(features, rowvar=False))


@many
@hypothesis.given(first=seeds, second=seeds, shift=st.floats(-5.0, 5.0))
def test_frechet_distance_is_one(first, second, shift):
    one, other = _moments(first), _moments(second)
    found = frechet.distance(one, other)
    root = linalg.sqrtm(one.covariance @ other.covariance).real
    expected = np.square(one.mean - other.mean).sum() + np.trace(one.covariance + other.covariance - 2 * root)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found == pytest.approx(frechet.distance(other, one), rel=1e-6, abs=1e-9) and found >= 0.0
    assert frechet.distance(one, one) == pytest.approx(0.0, abs=1e-9)
    assert frechet.distance(one, _moments(first, shift=shift)) == pytest.approx(5 * shift**2, rel=1e-6, abs=1e-6)
