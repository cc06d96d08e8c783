"""Weights on disk: what comes back is what was saved, and nothing foreign or damaged is accepted."""

import importlib.resources
import pathlib
import pickle

import keras
import numpy as np
import pytest
import safetensors.numpy
from keras import layers

import invgan_tf
from invgan_tf import data, files, inversion, models, presets
from invgan_tf.evaluation import accuracy

PART = "classifier_e"


def _write_card(folder, **facts):
    card = {PART: {"sha256": presets.checksum(folder / f"{PART}.safetensors"), "dataset": "mnist", **facts}}
    files.write_json(folder / "card.json", card)


@pytest.fixture
def saved(tmp_path):
    """A preset folder with one classifier, and the classifier."""
    model = models.build_classifier("E")
    presets.save_weights(model, tmp_path / f"{PART}.safetensors")
    _write_card(tmp_path)
    return tmp_path, model


@pytest.mark.parametrize("name", ["generator", "discriminator", "inverter"])
def test_round_trip_in_float16(tmp_path, name):
    builder = getattr(models, f"build_{name}")
    model, other = builder(width=4), builder(width=4)
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.path)).normal(size=weight.shape))
    path = tmp_path / "weights.safetensors"
    presets.save_weights(model, path)
    assert {array.dtype for array in safetensors.numpy.load_file(path).values()} == {np.dtype(np.float16)}
    assert presets.load_weights(other, path) is other
    for weight, loaded in zip(model.get_weights(), other.get_weights()):
        assert loaded.dtype == np.float32
        np.testing.assert_array_equal(loaded, weight.astype(np.float16))
    digest = presets.checksum(path)
    presets.save_weights(other, path)
    assert presets.checksum(path) == digest


def test_round_trip_in_float32_is_exact(tmp_path):
    model, other = models.build_inverter(width=4), models.build_inverter(width=4)
    presets.save_weights(model, tmp_path / "weights.safetensors", dtype="float32")
    presets.load_weights(other, tmp_path / "weights.safetensors")
    for weight, loaded in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(loaded, weight)


def test_load_builds_the_part_with_its_weights(saved, digits):
    folder, model = saved
    loaded = presets.load(folder, PART)
    expected = [weight.astype(np.float16) for weight in model.get_weights()]
    for weight, array in zip(loaded.get_weights(), expected):
        np.testing.assert_array_equal(weight, array)
    rounded = presets.load(str(folder), PART, dtype="mixed_bfloat16")
    logits = rounded(digits.images[:4])
    assert logits.dtype == "float32"
    assert not np.array_equal(logits, loaded(digits.images[:4]))


def test_load_classifier_names_its_part(saved, digits):
    folder, model = saved
    loaded = presets.load_classifier(folder, "E")
    np.testing.assert_allclose(loaded.features(digits.images[:4]), model.features(digits.images[:4]), atol=0.01)
    with pytest.raises(presets.PresetError, match=r"no part 'classifier_a'"):
        presets.load_classifier(folder)


def test_other_checksum_is_refused(saved):
    folder, _ = saved
    presets.save_weights(models.build_classifier("E"), folder / f"{PART}.safetensors")
    with pytest.raises(presets.PresetError, match=rf"{PART}\.safetensors is damaged or foreign.*sha256"):
        presets.load(folder, PART)


def test_missing_weights_are_named(saved):
    folder, _ = saved
    (folder / f"{PART}.safetensors").unlink()
    with pytest.raises(presets.PresetError, match=rf"{PART}\.safetensors is missing"):
        presets.load(folder, PART)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_refused(saved, keep):
    folder, model = saved
    path = folder / f"{PART}.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(presets.PresetError, match="sha256"):
        presets.load(folder, PART)
    before = model.get_weights()
    with pytest.raises(presets.PresetError, match="not a readable safetensors file"):
        presets.load_weights(model, path)
    for weight, old in zip(model.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(presets.PresetError, match="not a readable safetensors file"):
        presets.load_weights(models.build_inverter(width=4), tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    "foreign",
    [
        lambda: models.build_generator(width=4),
        lambda: models.build_inverter(width=8),
        lambda: models.build_inverter((28, 28, 3), width=4),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path, foreign):
    presets.save_weights(foreign(), tmp_path / "foreign.safetensors")
    model = models.build_inverter(width=4)
    before = model.get_weights()
    with pytest.raises(presets.PresetError, match=r"foreign\.safetensors does not hold the weights of inverter"):
        presets.load_weights(model, tmp_path / "foreign.safetensors")
    for weight, old in zip(model.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_missing_weight_is_named(tmp_path):
    model, path = models.build_inverter(width=4), tmp_path / "weights.safetensors"
    presets.save_weights(model, path)
    arrays = safetensors.numpy.load_file(path)
    del arrays["conv2/bias"]
    safetensors.numpy.save_file(arrays, path)
    with pytest.raises(presets.PresetError, match=r"conv2/bias is missing in the file and \(8,\) in the model"):
        presets.load_weights(model, path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_weights_that_float16_cannot_hold_are_not_saved(tmp_path, value):
    model, path = models.build_inverter(width=4), tmp_path / "weights.safetensors"
    presets.save_weights(model, path)
    before = path.read_bytes()
    kernel = model.get_layer("conv2").kernel
    kernel.assign(np.full(kernel.shape, value))
    with np.errstate(over="ignore"), pytest.raises(presets.PresetError, match="conv2/kernel is not finite as float16"):
        presets.save_weights(model, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


def test_equal_weight_paths_are_not_saved(tmp_path):
    twins = [keras.Sequential([keras.Input((2,)), layers.Dense(1, name="dense")], name="twin") for _ in range(2)]
    inputs = keras.Input((2,))
    outputs = layers.Add()([layers.Dense(1, name="dense")(inputs), twins[0](inputs)])
    model = keras.Model(inputs, outputs)
    for weight in model.weights:
        weight._path = "same/path"
    with pytest.raises(presets.PresetError, match="equal paths"):
        presets.save_weights(model, tmp_path / "weights.safetensors")
    assert not list(tmp_path.iterdir())


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickle_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "pickle_ran"
    path = tmp_path / f"{PART}.safetensors"
    path.write_bytes(pickle.dumps(_Bomb(mark)))
    _write_card(tmp_path)
    with pytest.raises(presets.PresetError, match="not a readable safetensors file"):
        presets.load(tmp_path, PART)
    assert not mark.exists()
    pickle.loads(path.read_bytes()).close()
    assert mark.exists()


def test_unknown_preset_lists_the_packaged_ones(tmp_path, monkeypatch):
    for name in ("beta", "alpha"):
        (tmp_path / "presets" / name).mkdir(parents=True)
        (tmp_path / "presets" / name / "card.json").write_text("{}")
    (tmp_path / "presets" / "no_card").mkdir()
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(presets.PresetError, match=r"No preset 'gamma'.*\(alpha, beta\).*card\.json"):
        presets.find("gamma")
    assert presets.find("alpha") == tmp_path / "presets" / "alpha"
    assert presets.find(tmp_path / "presets" / "beta") == tmp_path / "presets" / "beta"


@pytest.mark.parametrize("part", ["generator", "classifier_z"])
def test_unknown_part_lists_the_known_ones(saved, part):
    folder, _ = saved
    with pytest.raises(presets.PresetError, match=rf"no part '{part}'; it has {PART}"):
        presets.load(folder, part)


@pytest.mark.parametrize("content", ["", "{", b"\xff\xfe\x00"])
def test_unreadable_card_is_refused(saved, content):
    folder, _ = saved
    (folder / "card.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(presets.PresetError, match=r"card\.json is not a readable card"):
        presets.load(folder, PART)


def test_checksum_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert presets.checksum(tmp_path / "abc") == expected


def _card(path, **parts):
    files.write_json(path / "card.json", parts)
    return path


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"generator": {"dataset": "mnist"}}, "sha256 and a known dataset of generator"),
        ({"generator": {"dataset": "nope", "sha256": "ab"}}, "sha256 and a known dataset of generator"),
        ({"generator": {"dataset": "fashion_mnist", "sha256": "ab"}}, "trained on fashion_mnist, not on mnist"),
        ({"generator": 3}, "not a card"),
        (
            {
                "generator": {"dataset": "mnist", "sha256": "ab"},
                "inverter": {"dataset": "mnist", "sha256": "cd", "generator_sha256": "0" * 64},
            },
            "trained for another generator",
        ),
    ],
)
def test_cards_that_do_not_fit_are_refused(tmp_path, parts, message):
    with pytest.raises(presets.PresetError, match=message):
        presets.read_card(_card(tmp_path, **parts), "mnist")


def test_shipped_card_fits_its_dataset_alone():
    assert "inverter" in presets.read_card("mnist", "mnist")
    with pytest.raises(presets.PresetError, match="trained on mnist, not on cifar10"):
        presets.read_card("mnist", "cifar10")


PACKAGED = [(preset, name) for preset in presets.list_presets() for name in presets.read_card(preset)]


def test_every_dataset_has_a_packaged_classifier():
    found = {preset for preset, name in PACKAGED if name.startswith("classifier")}
    assert found == {"mnist", "fashion_mnist", "cifar10"}


@pytest.mark.parametrize(("preset", "name"), [pair for pair in PACKAGED if pair[1].startswith("classifier")])
def test_packaged_classifiers_are_as_accurate_as_their_cards_say(preset, name):
    facts = presets.read_card(preset)[name]
    examples = data.load(facts["dataset"], "test", limit=500)
    told = facts["test_accuracy"]["value"]
    found = np.mean(accuracy.predict(presets.load(preset, name), examples.images) == examples.labels)
    assert abs(found - told) < 4.0 * np.sqrt(told * (1.0 - told) / 500)


@pytest.mark.parametrize(("preset", "name"), [pair for pair in PACKAGED if pair[1].endswith("inverter")])
def test_packaged_inverters_recover_what_their_cards_say(preset, name):
    told = presets.read_card(preset)[name]["fresh_latents"]
    found = inversion.recovery(presets.load(preset, "generator"), presets.load(preset, name))["Inverter"]
    for measure in ("latent_mse", "image_mse"):
        low, high = getattr(found, measure).ci95  # of latents other than those that the older cards took
        assert abs(getattr(found, measure).value - told[measure]) < 1.5 * (high - low), measure


def test_weights_and_images_in_the_package_stay_small():
    package = pathlib.Path(invgan_tf.__file__).parent
    kept = [
        path for folder in ("presets", "embedded") for path in (package / folder).rglob("*") if path.suffix != ".py"
    ]
    assert 25 * 2**20 < sum(path.stat().st_size for path in kept) < 45 * 2**20
