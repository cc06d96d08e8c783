"""The program for a user's own generator."""

import re

import keras
import numpy as np
import pytest

import invgan_tf
from experiments import invert
from invgan_tf import data, presets


@pytest.fixture(scope="module")
def generator_file(tmp_path_factory):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(48, activation="tanh"), keras.layers.Reshape((4, 4, 3))], name="mine"
    )
    path = tmp_path_factory.mktemp("mine") / "mine.keras"
    model.save(path)
    return path


GIVEN = {
    "pixel_range": ["-1", "1"],
    "training_steps": 150,
    "batch_size": 32,
    "inverter_width": 8,
    "loss_weights": ["0", "10", "1"],
    "inverter_learning_rate": 0.01,
    "fresh_latents": 50,
    "seed": 3,
}


def test_a_generator_of_another_shape_gets_an_inverter_without_data(generator_file, run_program, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dataset was opened")

    for name in ("load", "stream", "_read"):
        monkeypatch.setattr(data, name, refuse)
    given = GIVEN | {"generator": str(generator_file)}
    results = run_program(invert, tmp_path, **given)
    assert results["complete"]
    found = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    assert len(found) == 6
    defense = invgan_tf.InvGAN.from_preset(tmp_path)
    latents = np.random.default_rng(0).standard_normal((400, 5)).astype(np.float32)
    images = defense.generator(latents).numpy()
    for row, recovered in (("Inverter", defense.invert(images)), ("Constant", np.zeros_like(latents))):
        assert found[row, "Latents"] == pytest.approx(np.mean((recovered - latents) ** 2), rel=0.3)
        again = defense.generator(recovered).numpy()
        assert found[row, "Images"] == pytest.approx(np.mean((again - images) ** 2), rel=0.3)
    assert found["Inverter", "Images"] < found["Constant", "Images"] / 2
    better = results["findings"][0]["times_better"]
    assert better["Random"] == pytest.approx(found["Random", "Images"] / found["Inverter", "Images"])
    card = presets.read_card(tmp_path)
    assert card["inverter"]["generator_file_sha256"] == presets.checksum(generator_file)
    assert card["inverter"]["steps"] == 150 and card["inverter"]["dataset"] is None
    before = (tmp_path / "inverter.safetensors").read_bytes()
    assert run_program(invert, tmp_path, **given)["cells"] == results["cells"]  # nothing left to train
    assert (tmp_path / "inverter.safetensors").read_bytes() == before


def test_wrong_flags_are_refused_in_one_line(refused, generator_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "text.keras").write_text("no model")
    good = str(generator_file)
    for given, message in (
        ({"generator": None}, "--generator is missing"),
        ({"generator": good}, r"--generator=.*draws pixels from .*value_range is \[0.0, 1.0\]"),
        ({"generator": good, "pixel_range": ["1", "-1"]}, "pixel_range.*must be LOW,HIGH"),
        ({"generator": good, "pixel_range": ["zero", "1"]}, "pixel_range.*2 finite numbers"),
        ({"generator": good, "loss_weights": ["1"]}, "loss_weights.*must be 3 finite numbers"),
        ({"generator": str(folder / "text.keras")}, "not a readable .keras file"),
    ):
        text = refused(invert, **given)
        assert re.search(message, text), text
        assert "\n" not in text
