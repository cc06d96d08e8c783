"""Curves no defender can fake, on the shipped MNIST weights."""

import itertools

import numpy as np
import pytest

from invgan_tf import attacks, data, presets
from invgan_tf.attacks.reparameterization import reparameterized
from invgan_tf.defenses import Defended, InvGAN
from invgan_tf.evaluation import accuracy

EPSILONS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
SLACK = 0.03  # images of a hundred that may come back by chance between two neighbouring strengths


@pytest.fixture(scope="module")
def examples():
    return data.load("mnist", "test", limit=100)


@pytest.fixture(scope="module", params=["bare", "behind_the_inverter"])
def model(request):
    classifier = presets.load_classifier("mnist", "A")
    if request.param == "bare":
        return classifier
    return reparameterized(Defended(classifier, InvGAN.from_preset("mnist")))


def _survives(model, attacked, labels):
    return float(np.mean(accuracy.predict(model, attacked) == labels))


def _pgd(*arguments, **options):
    return attacks.pgd(*arguments, steps=20, **options)


@pytest.mark.parametrize("attack", [attacks.fgsm, _pgd], ids=["fgsm", "pgd"])
def test_accuracy_falls_with_eps_to_chance(request, model, examples, attack):
    if request.node.callspec.params == {"model": "bare", "attack": attacks.fgsm}:
        # Measured on 2,000 test images: 0.068 at eps 0.3, 0.025 at 0.5, 0.176 [0.160, 0.194] at 1.
        reason = "one step of length 1 overshoots: FGSM's curve on bare A turns up and ends above chance"
        request.applymarker(pytest.mark.xfail(raises=AssertionError, strict=True, reason=reason))
    images, labels = examples.images, examples.labels
    curve = [_survives(model, attack(model, images, eps=eps, labels=labels), labels) for eps in EPSILONS]
    assert all(later <= earlier + SLACK for earlier, later in itertools.pairwise(curve))
    assert curve[-1] <= 0.15


def test_pgd_is_never_weaker_than_fgsm_and_noise_is_weaker_than_both(model, examples):
    images, labels = examples.images, examples.labels
    signs = np.sign(np.random.default_rng(0).standard_normal(images.shape)).astype(np.float32)
    for eps in EPSILONS[:4]:
        pgd = _survives(model, attacks.pgd(model, images, eps=eps, steps=40, labels=labels), labels)
        fgsm = _survives(model, attacks.fgsm(model, images, eps=eps, labels=labels), labels)
        noise = _survives(model, np.clip(images + eps * signs, 0, 1), labels)
        assert pgd <= fgsm + SLACK
        assert max(pgd, fgsm) <= noise


def test_more_steps_never_help_the_defender(model, examples):
    images, labels = examples.images, examples.labels
    curve = [
        _survives(model, attacks.pgd(model, images, eps=0.1, steps=steps, labels=labels), labels)
        for steps in (1, 5, 20, 40)
    ]
    assert all(later <= earlier + SLACK for earlier, later in itertools.pairwise(curve))


@pytest.mark.slow
def test_fgsm_overshoots_at_eps_one_and_pgd_does_not():
    """The figures behind the expected failure above: bare A, 2,000 test images."""
    model, examples = presets.load_classifier("mnist", "A"), data.load("mnist", "test", limit=2000)
    left = {}
    for eps in (0.3, 0.5, 1.0):
        attacked = attacks.fgsm(model, examples.images, eps=eps, labels=examples.labels)
        left["FGSM", eps] = accuracy.Proportion.of(accuracy.predict(model, attacked) == examples.labels)
    attacked = _pgd(model, examples.images[:500], eps=1.0, labels=examples.labels[:500])
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
