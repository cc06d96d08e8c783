"""The keys of what an evaluation keeps: everything that makes a projection another one."""

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import (
    adaptive,
    false_positives,
    figure4,
    figure5,
    gan_steps,
    invert,
    table1,
    table2,
    table4,
    train_classifier,
    whitebox,
)
from invgan_tf import data, fast_projection, models, projection
from invgan_tf.defenses import Defended, DefenseGAN


def _key(seed=1, policy="float32", value=0.5, steps=3, restarts=2, projector="exact", stages=None, **options):
    keras.utils.set_random_seed(seed)
    defense = DefenseGAN(models.build_generator(width=4, dtype=policy), steps=steps, restarts=restarts, **options)
    examples = data.Examples(np.full((1, 28, 28, 1), value, np.float32), np.zeros(1, np.int32))
    classifier = models.build_classifier("E")
    box = whitebox.WhiteBox(None, data.spec("mnist"), classifier, {"defensegan": defense}, examples)
    if stages:
        defense.projectors["fast"] = fast_projection.FastProjector(defense.generator, stages)
    return box.defense_key(Defended(classifier, defense, projector=projector))


@pytest.fixture(autouse=True)
def _parsed_flags():
    whitebox.FLAGS(["program"])


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"steps": 4},
        {"restarts": 3},
        {"dtype": "bfloat16"},
        {"policy": "mixed_bfloat16"},
        {"projector": "fast"},
        {"optimizer": projection.Momentum(learning_rate=9.0)},
        {"optimizer": projection.Momentum(momentum=0.8)},
        {"optimizer": projection.Adam()},
    ],
)
def test_projections_key_follows_all_that_makes_it(change):
    assert _key() == _key(value=0.7)
    assert _key() != _key(**change)


def test_a_fast_projections_key_follows_its_stages():
    keys = [
        _key(projector="fast", stages=[fast_projection.Stage(*stage)])
        for stage in [(5,), (6,), (5, 0.5), (5, 1.0, True)]
    ]
    assert all(one != other for i, one in enumerate(keys) for other in keys[:i])


@pytest.mark.parametrize(
    ("program", "dataset", "typed"),
    [
        (table4, "mnist", "--attacks=fgsm"),
        (table4, "mnist", "--bpda_steps=3"),
        (figure4, "mnist", "--false_positive_rate=0.1"),
        (figure4, "mnist", "--restarts=2"),
        (table1, "cifar10", "--restarts=2"),
        (adaptive, "mnist", "--attacks=fgsm"),
        (table2, "mnist", "--false_positive_rate=0.1"),
        (figure5, "cifar10", "--attacks=fgsm"),
        (gan_steps, "mnist", "--bpda_images=3"),
        (false_positives, "mnist", "--attacks=fgsm"),
        (train_classifier, "mnist", "--width=32"),
        (invert, "mnist", "--dtype=mixed_bfloat16"),
    ],
)
def test_flags_of_other_tables_are_refused(refused, program, dataset, typed):
    with flagsaver.flagsaver():
        flags.FLAGS(["program", typed])
        assert f"{typed.partition('=')[0]} means nothing here" in refused(program, dataset=dataset)
