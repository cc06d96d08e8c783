"""The cost model: straight lines through costs, operations counted by hand."""

import pytest
from absl import flags

from benchmarks import cost_model, scaling
from invgan_tf import models


def _phase(name, start, slope):
    return cost_model.Phase(name, "units", [10, 20, 40], [start + slope * work for work in (10, 20, 40)])


def test_a_line_finds_what_made_its_costs():
    assert _phase("any", 0.5, 0.25).line() == pytest.approx((0.5, 0.25, 1.0))


def test_multiplications_of_the_generator_by_hand():
    dense = 128 * 4 * 4 * 256
    deconvolutions = 4 * 4 * 256 * 128 * 25 + 7 * 7 * 128 * 64 * 25 + 14 * 14 * 64 * 1 * 25
    assert cost_model.multiply_adds(models.build_generator()) == dense + deconvolutions
    convolutions = 14 * 14 * 25 * 64 + 7 * 7 * 25 * 64 * 128 + 4 * 4 * 25 * 128 * 256
    assert cost_model.multiply_adds(models.build_inverter()) == convolutions + 4096 * 128


def test_the_papers_budget_follows_the_lines():
    many = scaling._IMAGES[-1]
    phases = [
        _phase("GAN training", 0.1, 0.01),
        _phase("inverter training", 0.2, 0.02),
        _phase("CW on the classifier", 0.0, 0.001),
        _phase(f"InvGAN, {many} images", 9.0, 0.003),
        _phase(f"DefenseGAN, R = 4, {many} images", 9.0, 0.002),
    ]
    hours = cost_model.budget(phases, many)
    assert hours["GAN training"] == pytest.approx(200_000 * 0.6 / 3600)
    assert hours["inverter training"] == pytest.approx(100_000 * 0.7 / 3600)
    assert hours["InvGAN, four columns"] == pytest.approx(4 * 10_000 * 1000 * 0.003 / 3600)
    assert hours["BPDA on DefenseGAN, cold"] == pytest.approx(10_000 * 400 * 2000 * 0.002 / 3600)
    flags.FLAGS(["program"])
    text = scaling._tables(phases, {"a step": [scaling.Spent(2.0, 2.0), scaling.Spent(2.5, 1.6)]})
    assert "| 1.60 " in text and "| 1.25 " in text and set(cost_model.operations()) == set(hours)
    assert all(name in text for name in hours)
