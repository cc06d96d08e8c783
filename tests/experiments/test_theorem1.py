"""Theorem 1's quantities against what can be computed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments import common_flags, theorem1
from invgan_tf import files, presets
from invgan_tf.training import inverter as inverter_training


def test_slopes_are_the_spectral_norms_of_a_linear_chain():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 12)).astype(np.float32), rng.normal(size=(12, 5)).astype(np.float32)
    dense = [keras.layers.Dense(12, use_bias=False), keras.layers.Dense(5, use_bias=False)]
    generator = keras.Sequential([keras.Input((5,)), dense[0], keras.layers.Reshape((3, 4, 1))])
    inverter = keras.Sequential([keras.Input((3, 4, 1)), keras.layers.Flatten(), dense[1]])
    dense[0].set_weights([first])
    dense[1].set_weights([second])
    slopes = theorem1.lipschitz(generator, inverter, rng.normal(size=(7, 5)).astype(np.float32), block=3)
    np.testing.assert_allclose(slopes, np.full(7, np.linalg.norm(first @ second, 2)), rtol=1e-5)


def test_training_latents_are_those_a_trainer_draws(monkeypatch):
    drawn = []

    def recorded(seed, step, role, shape):
        drawn.append((int(step), role))
        return original(seed, step, role, shape)

    original = inverter_training.loop.latents
    latents = theorem1.training_latents(seed=7, steps=9, batch_size=4, count=10, latent_dim=3)
    assert latents.shape == (10, 3)
    expected = [original(7, tf.constant(step, tf.int64), 1, (4, 3)).numpy() for step in (0, 4, 8)]
    np.testing.assert_array_equal(latents, np.concatenate(expected)[:10])
    generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Reshape((2, 2, 1))])
    inverter = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    trainer = inverter_training.InverterTrainer(
        generator, inverter, keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]),
        batch_size=4, seed=7,
    )  # fmt: skip
    monkeypatch.setattr(inverter_training.loop, "latents", recorded)
    trainer.train_step(tf.constant(4, tf.int64), None)
    assert (4, theorem1._STEP_ROLE) in drawn


def test_nearest_training_latents_by_brute_force():
    latents = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    known = np.concatenate([theorem1._batch(2, step, 5, 3) for step in range(8)])
    distances = np.linalg.norm(latents[:, None] - known[None], axis=2).min(axis=1)
    np.testing.assert_allclose(theorem1.nearest_training_latents(latents, 2, 8, 5), distances, rtol=1e-3)


def test_bound_says_nothing_near_the_mean_and_everything_far_away():
    """By hand: d = 18, L = 1, one training latent, reach 2 sqrt(2 d): 1 - exp(-(2 - 1)^2)."""
    error = 0.5 + 2.0 * 2.0 * np.sqrt(2.0 * 18.0)
    found = theorem1.bound(np.array([0.2, 10.0, error, 1e4]), 0.5, 1.0, 1, 18)
    np.testing.assert_allclose(found, [0.0, 0.0, 1.0 - np.exp(-1.0), 1.0], rtol=1e-6)


def test_the_program_measures_both_kinds_of_latents(preset, run_program, tmp_path):
    card = presets.read_card(preset)
    with pytest.raises(common_flags.FlagError, match="tells no seed, steps and batch_size"):
        run_program(theorem1, tmp_path / "refused", latents=20, jacobians=2)
    copy = tmp_path / "preset"
    copy.mkdir()
    for path in preset.glob("*.safetensors"):
        (copy / path.name).write_bytes(path.read_bytes())
    card["inverter"] |= {"seed": 1, "steps": 30, "batch_size": 2}
    files.write_json(copy / "card.json", card)
    results = run_program(theorem1, tmp_path / "run", latents=20, jacobians=2, preset_dir=str(copy))
    found = {(cell["row"], cell["column"]): cell for cell in results["cells"]}
    assert results["complete"] and len(found) == 4
    # Untrained: I answers near 0, whatever z is; the error is that of the latents' own length.
    for row in theorem1._ROWS:
        assert found[row, theorem1._COLUMNS[0]]["value"] == pytest.approx(np.sqrt(128), rel=0.1)
    assert results["findings"][1]["holds_on"] == 1.0
    assert (tmp_path / "run" / "theorem1.png").stat().st_size > 10_000
