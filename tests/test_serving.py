"""The SavedModel: the library's answers, where the library is not."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

import invgan_tf
from benchmarks import serving as latency
from experiments import common_flags, export
from invgan_tf import AttackDetector, Defended, DefenseGAN, InvGAN, attacks, models, serving
from tests.experiments import colour

_ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("invgan_tf", "experiments", "cleverhans", "safetensors"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf

loaded, images, found = tf.saved_model.load(sys.argv[1]), np.load(sys.argv[2]), {}
for name, value in loaded.signatures["serving_default"](images=tf.constant(images)).items():
    found[f"baked.{name}"] = value.numpy()
for steps in map(int, sys.argv[4:]):
    for name, value in loaded.signatures["with_steps"](images=tf.constant(images), steps=tf.constant(steps)).items():
        found[f"{steps}.{name}"] = value.numpy()
try:
    loaded.signatures["serving_default"](images=tf.constant(2.0 * images))
except tf.errors.InvalidArgumentError as error:
    found["refused"] = np.array(str(error))
assert "invgan_tf" not in sys.modules
np.savez(sys.argv[3], **found)
"""


@pytest.fixture(scope="module")
def mixed(digits):
    """Clean and attacked digits."""
    attacked = attacks.fgsm(invgan_tf.load_classifier("mnist", "A"), digits.images[8:16], eps=0.3)
    return np.concatenate([digits.images[:8], attacked])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A SavedModel that the program wrote, and what the program was given."""
    folder = tmp_path_factory.mktemp("exported")
    flags.FLAGS(["program"])
    given = {"preset": "mnist", "steps": 3, "calibration_images": 40, "projection_dtype": "float32"}
    with flagsaver.flagsaver(output_dir=str(folder), **given):
        export.main()
    return folder


def _served(folder, images, scratch, *steps):
    """Loads a SavedModel where nothing but TensorFlow is; returns what it answers, by "T.field"."""
    np.save(scratch / "images.npy", images)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", _ALONE, str(folder), str(scratch / "images.npy"), str(scratch / "found.npz")]
    command += map(str, steps)
    done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(scratch / "found.npz")


def _largest_difference(folder, images, found, name, steps):
    """Compares with the library's answers at T; classes and flags must be the same."""
    defended = Defended(invgan_tf.load_classifier("mnist", "A"), InvGAN.from_preset("mnist"), steps=steps)
    detector = AttackDetector(defended)
    detector.threshold = _threshold(folder)
    expected = serving.answers(detector, images)
    np.testing.assert_array_equal(found[f"{name}.class"], expected["class"])
    np.testing.assert_array_equal(found[f"{name}.flag"], expected["flag"])
    np.testing.assert_allclose(expected["score"], detector.score(images), rtol=1e-5)
    np.testing.assert_array_equal(expected["class"], defended.predict(images).argmax(axis=1))
    return max(np.abs(found[f"{name}.{field}"] - expected[field]).max() for field in ("probabilities", "score"))


def test_answers_are_the_librarys_where_only_tensorflow_is(exported, mixed, tmp_path):
    found = _served(exported, mixed, tmp_path, 8)
    assert "Expected finite pixels in [0, 1]" in str(found["refused"])
    for name, steps in (("baked", 3), ("8", 8)):
        assert _largest_difference(exported, mixed, found, name, steps) <= 1e-4


@pytest.mark.slow
def test_answers_are_the_librarys_after_many_steps_too(exported, mixed, tmp_path, capsys):
    steps = (0, 50, 200, 1000)
    found = _served(exported, mixed, tmp_path, *steps)
    for count in steps:
        difference = _largest_difference(exported, mixed, found, str(count), count)
        with capsys.disabled():
            print(f"\nT = {count}: {difference:.2g} apart at most, {len(mixed)} images")
        assert difference <= 1e-4


def _threshold(folder):
    return json.loads((folder / "invgan.json").read_text())["threshold"]


def test_the_threshold_flags_the_share_it_was_asked_for(exported):
    clean = invgan_tf.data.load("mnist", "test").images[-40:]
    loaded = tf.saved_model.load(str(exported))
    found = loaded.signatures[serving.BAKED](images=tf.constant(clean))
    score, threshold = found["score"].numpy(), np.float32(_threshold(exported))
    np.testing.assert_array_equal(found["flag"].numpy(), score > threshold)
    # Of 40, at 5 %. The third image's score is the threshold: how this graph rounds it is nobody's promise.
    assert np.sum(score > 1.0001 * threshold) == 2
    assert np.sum(score > 0.9999 * threshold) == 3


def test_a_random_defence_is_exported_with_its_restarts(digits, tmp_path):
    keras.utils.set_random_seed(3)
    defense = DefenseGAN(models.build_generator(width=4), steps=4, restarts=3)
    detector = AttackDetector(Defended(models.build_classifier("A"), defense, seed=5))
    with pytest.raises(ValueError, match="no threshold"):
        serving.export(detector, tmp_path)
    detector.threshold = 0.01
    server = serving.Server(detector)
    found = {name: value.numpy() for name, value in server.functions[serving.BAKED](digits.images[:5]).items()}
    expected = serving.answers(detector, digits.images[:5])
    for field in ("probabilities", "score"):
        np.testing.assert_allclose(found[field], expected[field], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="exact projector"):
        fast = AttackDetector(Defended(models.build_classifier("A"), defense, projector="fast"))
        fast.threshold = 0.0
        serving.Server(fast)


def test_latency_is_told_of_every_size(exported, tmp_path, capsys):
    flags.FLAGS(["program"])
    given = {"served_steps": ["0", "2"], "served_batches": ["1", "3"], "requests": 2}
    with flagsaver.flagsaver(output_dir=str(tmp_path), saved_model=str(exported), **given):
        latency.main()
    assert capsys.readouterr().out.count("\n|") == 1 + 4
    with (
        flagsaver.flagsaver(output_dir=str(tmp_path), saved_model=str(tmp_path)),
        pytest.raises(common_flags.FlagError, match="holds no SavedModel"),
    ):
        latency.main()


def test_wrong_flags_are_refused_before_work(tmp_path):
    flags.FLAGS(["program"])
    for given, message in (({"projector": "fast"}, "--projector must be exact"), ({"preset": "nothing"}, "No preset")):
        with flagsaver.flagsaver(output_dir=str(tmp_path / "new"), **given), pytest.raises(ValueError, match=message):
            export.main()
    assert not (tmp_path / "new").exists()


def test_the_classifier_that_a_preset_has_is_exported(tmp_path):
    preset = colour.write_preset(tmp_path / "preset", "cifar10", colour.RESIDUAL_PARTS, "small")
    flags.FLAGS(["program"])
    with flagsaver.flagsaver(preset=str(preset), output_dir=str(tmp_path / "out"), threshold=1.0, steps=1):
        export.main()
    told = json.loads((tmp_path / "out" / "invgan.json").read_text())
    assert {*told["networks"]} == {"generator", "inverter", "classifier_small"}
