"""Curves that no defender can fake, for the attacks on a whole defence: shipped MNIST weights, short descents."""

import itertools

import numpy as np
import pytest

from invgan_tf import attacks, presets
from invgan_tf.attacks.reparameterization import reparameterized
from invgan_tf.defenses import Defended, InvGAN
from invgan_tf.evaluation import accuracy

CHANCE = 0.1
COUNT = 40

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples(digits):
    return digits.images[:COUNT], digits.labels[:COUNT]


@pytest.fixture(scope="module")
def classifier():
    return presets.load_classifier("mnist", "A")


@pytest.fixture(scope="module")
def defended(classifier):
    """T = 20: the curves are of the attack, and a long descent would only make them dear."""
    return Defended(classifier, InvGAN.from_preset("mnist", steps=20), seed=99)


def _never_rises(name, curve, labels):
    """Later entries of a curve are stronger: none leaves more, beyond the paired 95 % interval."""
    left = [predicted == labels for predicted in curve]
    print(name, [round(float(np.mean(flags)), 3) for flags in left], flush=True)
    for weaker, stronger in itertools.pairwise(left):
        difference, (low, _) = accuracy.paired_difference(stronger, weaker)
        assert difference <= 0.0 or low <= 0.0, name
    return [float(np.mean(flags)) for flags in left]


def _attack(function, model, examples, judge=None, **options):
    images, labels = examples
    attacked = function(model, images, labels=labels, seed=3, **options)
    return (judge or model).predict(attacked, verbose=0).argmax(axis=1)


@pytest.mark.parametrize("name", ["bpda_pgd", "apgd", "latent_space", "pgd on G(I(x))"])
def test_more_eps_never_helps_the_defender_and_eps_one_leaves_chance(name, defended, examples):
    pytest.importorskip("art")
    function, model, options = {
        "bpda_pgd": (attacks.bpda_pgd, defended, {}),
        "apgd": (attacks.auto_pgd, defended, {"steps": 50}),
        "latent_space": (attacks.latent_space, defended, {}),
        "pgd on G(I(x))": (attacks.pgd_restarts, reparameterized(defended), {"restarts": 3}),
    }[name]
    curve = [_attack(function, model, examples, eps=eps, **options) for eps in (0.05, 0.1, 0.2, 0.3, 1.0)]
    left = _never_rises(f"{name}, eps", curve, examples[1])
    assert left[-1] <= CHANCE


def test_more_steps_restarts_and_queries_never_help_the_defender(classifier, defended, examples):
    pytest.importorskip("art")
    labels = examples[1]
    ball = {"eps": 0.1}
    steps = [_attack(attacks.pgd_restarts, classifier, examples, steps=n, restarts=1, **ball) for n in (1, 5, 20, 100)]
    _never_rises("PGD on the bare classifier, steps", steps, labels)
    model = reparameterized(defended)
    restarts = [_attack(attacks.pgd_restarts, model, examples, steps=20, restarts=n, eps=0.05) for n in (1, 3, 10)]
    _never_rises("PGD on G(I(x)), restarts", restarts, labels)
    rounds = [_attack(attacks.bpda_pgd, defended, examples, steps=20, restarts=n, eps=0.2) for n in (1, 2, 4)]
    _never_rises("BPDA PGD, rounds", rounds, labels)
    queries = [_attack(attacks.square, classifier, examples, queries=n, eps=0.2) for n in (10, 100, 1000)]
    _never_rises("Square on the bare classifier, queries", queries, labels)


def test_who_sees_the_defence_is_no_weaker_than_who_does_not(classifier, defended, examples):
    images, labels = examples
    for eps in (0.1, 0.2, 0.3):
        transfer = attacks.pgd_restarts(classifier, images, eps=eps, labels=labels, confidence=10.0, seed=3)
        step = attacks.fgsm(classifier, images, eps=eps, labels=labels)
        seen = _attack(attacks.bpda_pgd, defended, examples, eps=eps)
        for name, attacked in (("PGD", transfer), ("FGSM", step)):
            curve = [defended.predict(attacked).argmax(axis=1), seen]
            _never_rises(f"eps {eps}: transfer of {name}, then BPDA PGD", curve, labels)
