"""Presets of one's own: what is saved comes back, and nothing that carries code is built."""

import json
import zipfile

import keras
import numpy as np
import pytest

import invgan_tf
from invgan_tf import InvGAN, inversion, models, presets
from invgan_tf.presets import architectures


@pytest.fixture(scope="module")
def own():
    """A defence of no packaged shape, and a classifier for it."""
    keras.utils.set_random_seed(4)
    generator = keras.Sequential(
        [
            keras.Input((7,)),
            keras.layers.Dense(4 * 4 * 3),
            keras.layers.Reshape((4, 4, 3)),
            keras.layers.UpSampling2D(3),
            keras.layers.Conv2D(3, 3, padding="same", activation="tanh"),
        ],
        name="mine",
    )
    body = keras.Sequential([keras.Input((12, 12, 3)), keras.layers.Flatten(), keras.layers.Dense(5)], name="features")
    classifier = models.Classifier(body, keras.layers.Dense(3, name="logits"), name="mine_too")
    classifier.build((None, 12, 12, 3))
    inverter = inversion.any_shape.build_inverter_for(generator, width=4)
    return InvGAN(generator, inverter, steps=2, value_range=(-1.0, 1.0)), classifier


@pytest.fixture
def saved(own, tmp_path):
    defense, classifier = own
    invgan_tf.save_preset(tmp_path, defense, classifier=classifier, facts={"seed": 4})
    return tmp_path


def test_a_saved_preset_answers_as_the_defence_did(own, saved):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 12, 12, 3)).astype(np.float32)
    loaded = InvGAN.from_preset(saved, steps=2)
    assert loaded.value_range == (-1.0, 1.0) and loaded.latent_dim == 7
    np.testing.assert_array_equal(loaded.project(images).images, own[0].project(images).images)
    classifier = invgan_tf.load_classifier(saved)
    np.testing.assert_array_equal(classifier(images), own[1](images))
    np.testing.assert_array_equal(classifier.features(images), own[1].features(images))
    card = presets.read_card(saved)
    assert {name: part["seed"] for name, part in card.items()} == {"generator": 4, "inverter": 4, "classifier_a": 4}
    assert card["inverter"]["generator_sha256"] == card["generator"]["sha256"]


def test_saved_float16_weights_are_rounded_and_a_dataset_gives_the_range(saved, tmp_path):
    packaged = InvGAN.from_preset("mnist")
    invgan_tf.save_preset(tmp_path / "copy", packaged, dataset="mnist", dtype="float16")
    again = InvGAN.from_preset(tmp_path / "copy")
    for one, two in zip(packaged.generator.get_weights(), again.generator.get_weights()):
        np.testing.assert_array_equal(one, two)  # they were float16 on disk before
    assert presets.read_card(tmp_path / "copy", "mnist")
    with pytest.raises(presets.PresetError, match="trained on mnist, not on cifar10"):
        presets.read_card(tmp_path / "copy", "cifar10")


@pytest.mark.parametrize("name", ["generator.json", "generator.safetensors"])
def test_a_changed_file_is_refused(saved, name):
    (saved / name).write_bytes((saved / name).read_bytes() + b" ")
    with pytest.raises(presets.PresetError, match=rf"{name} is damaged or foreign"):
        InvGAN.from_preset(saved)


@pytest.mark.parametrize("given", [{"value_range": None}, {"value_range": [1, 0]}, {"value_range": "0..1"}])
def test_a_card_without_range_or_dataset_is_refused(saved, given):
    card = json.loads((saved / "card.json").read_text())
    card["generator"] |= given
    (saved / "card.json").write_text(json.dumps(card))
    with pytest.raises(presets.PresetError, match="nor its pixels' range"):
        InvGAN.from_preset(saved)


@pytest.mark.parametrize("given", [{"dataset": "nothing"}, {"dtype": "float8"}])
def test_wrong_arguments_are_refused_before_anything_is_written(own, tmp_path, given):
    with pytest.raises(ValueError, match=r"nothing|float8"):
        invgan_tf.save_preset(tmp_path / "new", own[0], **given)
    assert not (tmp_path / "new").exists()


def _with_lambda(tmp_path):
    mark = tmp_path / "code_ran"
    inputs = keras.Input((4,))
    x = keras.layers.Lambda(lambda z, mark=str(mark): (open(mark, "w").close(), z)[1], output_shape=(4,))(inputs)
    x = keras.layers.Reshape((2, 2, 1))(x)
    model = keras.Model(inputs, x)
    mark.unlink(missing_ok=True)
    return model, mark


def test_a_lambda_is_refused_and_not_run(tmp_path):
    model, mark = _with_lambda(tmp_path)
    model.save(tmp_path / "evil.keras")
    mark.unlink(missing_ok=True)
    with pytest.raises(architectures.ArchitectureError, match=r"'Lambda'.*not be run"):
        architectures.load_keras_file(tmp_path / "evil.keras")
    with pytest.raises(architectures.ArchitectureError, match=r"not be run|cannot be described"):
        architectures.save(model, tmp_path / "evil.json")
    assert not mark.exists() and not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize(
    "part",
    [
        {"class_name": "Lambda", "module": "keras.layers", "config": {}},
        {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": "/somewhere"}},
        {"class_name": "system", "module": "os", "config": "true"},
        {"class_name": "Popen", "module": "subprocess", "registered_name": "Custom>Popen", "config": {}},
    ],
)
def test_configurations_that_name_code_are_refused_wherever_it_hides(tmp_path, part):
    config = {"class_name": "Sequential", "module": "keras", "config": {"layers": [{"deep": [{"er": part}]}]}}
    (tmp_path / "model.json").write_text(json.dumps(config))
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    for load, name in ((architectures.load, "model.json"), (architectures.load_keras_file, "model.keras")):
        with pytest.raises(architectures.ArchitectureError, match=f"{part['class_name']!r}"):
            load(tmp_path / name)


def test_files_that_are_no_models_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.keras").write_text("not a zip")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "module": "keras", "config": {}}))
    (tmp_path / "model.h5").write_text("")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "layer.json").write_text(json.dumps(keras.saving.serialize_keras_object(keras.layers.Dense(3))))
    for name in ("text.keras", "empty.keras", "model.h5", "absent.keras"):
        with pytest.raises(architectures.ArchitectureError) as caught:
            architectures.load_keras_file(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    for name in ("broken.json", "layer.json", "absent.json"):
        with pytest.raises(architectures.ArchitectureError, match=name):
            architectures.load(tmp_path / name)
