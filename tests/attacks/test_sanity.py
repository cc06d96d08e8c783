"""Curves no defender can fake, on the shipped MNIST weights."""

import functools
import itertools

import numpy as np
import pytest

from invgan_tf import attacks, data, presets
from invgan_tf.attacks.reparameterization import reparameterized
from invgan_tf.defenses import Defended, InvGAN
from invgan_tf.evaluation import accuracy

EPSILONS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
SLACK = 0.03  # images of a hundred that may come back by chance between two neighbouring strengths
STEPS = 20


@pytest.fixture(scope="module")
def examples():
    return data.load("mnist", "test", limit=100)


@pytest.fixture(scope="module", params=["bare", "behind_the_inverter"])
def model(request):
    classifier = presets.load_classifier("mnist", "A")
    if request.param == "bare":
        return classifier
    return reparameterized(Defended(classifier, InvGAN.from_preset("mnist")))


def _accuracy(model, attacked, labels):
    return float(np.mean(accuracy.predict(model, attacked) == labels))


@pytest.fixture(scope="module")
def left(model, examples):
    """Accuracy under PGD of so many steps, or under FGSM (None), at eps: each measured once for all tests."""

    @functools.cache
    def measure(eps, steps):
        options = {"eps": eps, "labels": examples.labels}
        if steps is None:
            return _accuracy(model, attacks.fgsm(model, examples.images, **options), examples.labels)
        return _accuracy(model, attacks.pgd(model, examples.images, steps=steps, **options), examples.labels)

    return measure


def _never_rises(curve):
    return all(later <= earlier + SLACK for earlier, later in itertools.pairwise(curve))


@pytest.mark.parametrize("steps", [None, STEPS], ids=["fgsm", "pgd"])
def test_accuracy_falls_with_eps_to_chance(request, left, steps):
    if request.node.callspec.params == {"model": "bare", "steps": None}:
        # Measured on 2,000 test images: 0.068 at eps 0.3, 0.025 at 0.5, 0.176 [0.160, 0.194] at 1.
        reason = "one step of length 1 overshoots: FGSM's curve on bare A turns up and ends above chance"
        request.applymarker(pytest.mark.xfail(raises=AssertionError, strict=True, reason=reason))
    curve = [left(eps, steps) for eps in EPSILONS]
    assert _never_rises(curve)
    assert curve[-1] <= 0.15


def test_pgd_is_never_weaker_than_fgsm_and_noise_is_weaker_than_both(model, examples, left):
    images, labels = examples.images, examples.labels
    signs = np.sign(np.random.default_rng(0).standard_normal(images.shape)).astype(np.float32)
    for eps in EPSILONS[:4]:
        noise = _accuracy(model, np.clip(images + eps * signs, 0, 1), labels)
        assert left(eps, STEPS) <= left(eps, None) + SLACK
        assert max(left(eps, STEPS), left(eps, None)) <= noise


def test_more_steps_never_help_the_defender(left):
    assert _never_rises([left(0.1, steps) for steps in (1, 5, STEPS, 2 * STEPS)])


@pytest.mark.slow
def test_fgsm_overshoots_at_eps_one_and_pgd_does_not():
    """The figures behind the expected failure above: bare A, 2,000 test images."""
    model, examples = presets.load_classifier("mnist", "A"), data.load("mnist", "test", limit=2000)
    left = {}
    for eps in (0.3, 0.5, 1.0):
        attacked = attacks.fgsm(model, examples.images, eps=eps, labels=examples.labels)
        left["FGSM", eps] = accuracy.Proportion.of(accuracy.predict(model, attacked) == examples.labels)
    attacked = attacks.pgd(model, examples.images[:500], eps=1.0, steps=STEPS, labels=examples.labels[:500])
    left["PGD", 1.0] = accuracy.Proportion.of(accuracy.predict(model, attacked) == examples.labels[:500])
    for (name, eps), measured in left.items():
        low, high = measured.ci95
        print(f"{name} at eps {eps}: {measured.value:.3f} [{low:.3f}, {high:.3f}], n = {measured.n}")
    assert left["FGSM", 0.5].value < left["FGSM", 0.3].value
    assert left["FGSM", 1.0].ci95[0] > 0.1 >= left["PGD", 1.0].value


def test_every_image_has_a_gradient(examples):
    classifier = presets.load_classifier("mnist", "A")
    attacked = attacks.fgsm(classifier, examples.images, eps=0.3)
    moved = np.mean(np.abs(attacked - examples.images) > 0.1, axis=(1, 2, 3))
    assert moved.min() > 0.2  # clipping keeps about half of the black pixels where they are
