"""The training programs: errors as one line, and what a run writes."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import common_flags, train_age, train_ali, train_classifier, train_gan, train_inverter, training_flags
from invgan_tf import data, files, models, presets
from invgan_tf.evaluation import accuracy
from invgan_tf.training import loop, replicas

ROOT = pathlib.Path(__file__).parents[2]

_NO_NETWORK = """
import socket, urllib3

def refuse(*args, **kwargs):
    raise OSError("the test has no network")

socket.socket.connect = socket.getaddrinfo = refuse
urllib3.util.retry.Retry.sleep = lambda *args, **kwargs: None
"""


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Three programs started wrongly, at once, where no connection can be made: (status, output) each."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("run")
    (site / "sitecustomize.py").write_text(_NO_NETWORK)
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    commands = {
        "no data": ("train_gan", "--dataset=mnist", f"--data_dir={folder / 'empty'}", "--training_steps=1"),
        "no steps": ("train_inverter", "--training_steps=0"),
        "no such dataset": ("train_classifier", "--dataset=nope"),
    }
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", f"experiments.{program}", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, (program, *arguments) in commands.items()
    }
    outputs = {name: process.communicate(timeout=300)[0] for name, process in running.items()}
    made = [path.name for path in folder.rglob("*.safetensors")]
    return {name: (running[name].returncode, output) for name, output in outputs.items()}, folder, made


def test_missing_data_ends_in_one_clear_line(failures):
    (status, output), folder = failures[0]["no data"], failures[1]
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert status == 1
    assert "Traceback" not in output
    assert len(lines) == 1
    for part in ("mnist", str(folder / "empty"), "--data_dir", "TFDS_DATA_DIR"):
        assert part in lines[0]


@pytest.mark.parametrize("name, flag", [("no steps", "--training_steps=0"), ("no such dataset", "--dataset=nope")])
def test_bad_flags_are_named(failures, name, flag):
    status, output = failures[0][name]
    assert status != 0
    assert f"flag {flag}" in output
    assert "Traceback" not in output


def test_failed_programs_write_no_weights(failures):
    assert failures[2] == []


@pytest.fixture
def narrow(monkeypatch, digits):
    """Programs that find 200 digits in every split; they build networks of width 4."""
    images = np.rint(255 * digits.images).astype(np.uint8)
    monkeypatch.setattr(data, "_read", lambda *args: (images, digits.labels))


def _run(program, folder, **values):
    flags.FLAGS(["program"])
    with flagsaver.flagsaver(output_dir=str(folder), seed=5, width=4, **values):
        program.main()
    return json.loads((folder / "card.json").read_text())


def _assert_card(card, folder, parts, **facts):
    assert sorted(card) == sorted(parts)
    for part in parts:
        assert card[part]["sha256"] == presets.checksum(folder / f"{part}.safetensors")
        assert {name: card[part][name] for name in facts} == facts
        assert {"command", "environment"} <= set(card[part])


def test_gan_program_writes_weights_and_card(narrow, tmp_path):
    card = _run(train_gan, tmp_path, dataset="fashion_mnist", training_steps=2, batch_size=4)
    facts = {"dataset": "fashion_mnist", "steps": 2, "batch_size": 4, "seed": 5, "dtype": "float32"}
    _assert_card(card, tmp_path, ["generator", "discriminator"], **facts)
    assert presets.load(tmp_path, "generator").output_shape == (None, 28, 28, 1)


def test_inverter_program_opens_no_dataset(narrow, tmp_path, monkeypatch):
    source, target = tmp_path / "gan", tmp_path / "inverter"
    source.mkdir()
    weights = source / "generator.safetensors"
    presets.save_weights(models.build_generator(width=4), weights)
    checksum = presets.checksum(weights)
    files.write_json(source / "card.json", {"generator": {"dataset": "mnist", "sha256": checksum, "width": 4}})

    def refuse(*args, **kwargs):
        raise AssertionError("a dataset was opened")

    for name in ("load", "stream", "_read"):
        monkeypatch.setattr(data, name, refuse)
    card = _run(train_inverter, target, preset_dir=str(source), training_steps=2, batch_size=4)
    facts = {"dataset": "mnist", "steps": 2, "batch_size": 4, "seed": 5, "generator_sha256": checksum}
    _assert_card(card, target, ["inverter", "inverter_discriminator"], **facts)
    assert presets.checksum(weights) == checksum


def test_inverter_program_without_generator_names_the_preset(narrow, tmp_path):
    with pytest.raises(presets.PresetError, match="No preset"):
        _run(train_inverter, tmp_path, preset_dir=str(tmp_path / "nothing"), training_steps=1)


def test_classifier_program_measures_the_stored_weights(narrow, tmp_path, digits, monkeypatch):
    measured_as_stored = []

    def predict(model, images):
        measured_as_stored.append(all(np.array_equal(w, w.astype(np.float16)) for w in model.get_weights()))
        return np.argmax(model(images), axis=1)

    monkeypatch.setattr(accuracy, "predict", predict)
    card = _run(train_classifier, tmp_path, classifier="E", training_steps=30, batch_size=50)
    model = presets.load(tmp_path, "classifier_e")
    share = float(np.mean(np.argmax(model(digits.images), axis=1) == digits.labels))
    assert share > 0.5
    assert measured_as_stored[-1]
    facts = {"steps": 30, "batch_size": 50, "validation_accuracy": share, "validation_n": 200}
    _assert_card(card, tmp_path, ["classifier_e"], **facts)


def test_classifier_program_counts_its_steps_in_epochs(narrow, tmp_path, monkeypatch):
    monkeypatch.setitem(data.DATASETS["mnist"].sizes, "train", 205)
    card = _run(train_classifier, tmp_path, classifier="E", epochs=3, batch_size=50)
    assert card["classifier_e"]["steps"] == 3 * 4


def test_card_tells_of_the_run_that_trained(narrow, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_classifier.py", "--first"])
    first = _run(train_classifier, tmp_path, classifier="E", training_steps=2, batch_size=4)
    monkeypatch.setattr(sys, "argv", ["train_classifier.py", "--second"])
    assert _run(train_classifier, tmp_path, classifier="E", training_steps=2, batch_size=4) == first
    assert first["classifier_e"]["command"] == "python -m experiments.train_classifier --first"


def test_fewer_steps_than_are_trained_are_refused(narrow, tmp_path):
    _run(train_classifier, tmp_path, classifier="E", training_steps=3, batch_size=4)
    with pytest.raises(common_flags.FlagError, match="a training of 3 steps, more than the 2 asked for"):
        _run(train_classifier, tmp_path, classifier="E", training_steps=2, batch_size=4)


def test_one_replica_of_a_strategy_trains_as_none_and_goes_on(narrow, tmp_path):
    flags.FLAGS(["program"])
    values = {"classifier": "E", "batch_size": 8}
    keras.utils.set_random_seed(7)  # the program's own start does this, and is not part of the test
    alone = _run(train_classifier, tmp_path / "one", training_steps=4, **values)
    for steps in (2, 4):
        keras.utils.set_random_seed(7)
        shared = _run(train_classifier, tmp_path / "shared", training_steps=steps, distribution="mirrored", **values)
    networks = [presets.load(tmp_path / run, "classifier_e") for run in ("one", "shared")]
    for first, second in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-3)  # in float16
    assert shared["classifier_e"]["validation_n"] == alone["classifier_e"]["validation_n"]


def test_distributions_that_cannot_be_are_refused(narrow, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(common_flags.FlagError, match=r"--distribution=multi_worker: .*needs a cluster in TF_CONFIG"):
        _run(train_classifier, tmp_path, classifier="E", training_steps=2, distribution="multi_worker")
    monkeypatch.setattr(replicas, "count", lambda: 3)
    with pytest.raises(common_flags.FlagError, match="--batch_size=4 cannot be shared by 3 replicas"):
        _run(train_classifier, tmp_path, classifier="E", training_steps=2, batch_size=4)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_another_run_in_the_folder_is_refused(narrow, tmp_path):
    _run(train_classifier, tmp_path, classifier="E", training_steps=1, batch_size=4)
    with pytest.raises(common_flags.FlagError, match="batch_size = 4, this one has 5"):
        _run(train_classifier, tmp_path, classifier="E", training_steps=1, batch_size=5)


def test_interrupted_training_keeps_its_last_step(narrow, tmp_path, monkeypatch):
    """The signal comes at step 3, between two checkpoints."""
    train = loop.train

    def interrupting(*args, **kwargs):
        for state in train(*args, chunk=1, **kwargs):
            if state.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield state

    monkeypatch.setattr(loop, "train", interrupting)
    received = []

    def stop(number):
        received.append(number)
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "raise_signal", stop)
    with pytest.raises(KeyboardInterrupt):
        _run(train_classifier, tmp_path, classifier="E", training_steps=9, batch_size=4)
    assert received == [signal.SIGTERM]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["ckpt-3"]


def test_same_command_goes_on_where_the_run_ended(narrow, tmp_path):
    checksums = []
    for steps in (2, 2, 3):
        card = _run(train_classifier, tmp_path, classifier="E", training_steps=steps, batch_size=4)
        checksums.append(card["classifier_e"]["sha256"])
    assert checksums[0] == checksums[1] != checksums[2]


@pytest.fixture
def colour_images(monkeypatch):
    """Programs that find 40 images of noise, of the dataset's shape, in every split; what they streamed."""
    streamed = []

    def read(name, split, data_dir, limit):
        rng, row = np.random.default_rng(0), data.spec(name)
        streamed.append(name)
        images = rng.integers(0, 256, (40, *row.image_shape)).astype(np.uint8)
        return images[:limit], (np.arange(40) % row.num_classes).astype(np.int32)[:limit]

    monkeypatch.setattr(data, "_read", read)
    return streamed


def test_rivals_programs_write_what_table_1_reads(colour_images, tmp_path):
    parts = {
        train_ali: ["ali_encoder", "ali_decoder", "ali_discriminator"],
        train_age: ["age_encoder", "age_generator"],
    }
    for program, written in parts.items():
        folder = tmp_path / written[0]
        card = _run(program, folder, dataset="cifar10", training_steps=1, batch_size=4)
        facts = {"dataset": "cifar10", "family": written[0][:3], "width": 4, "steps": 1, "batch_size": 4}
        _assert_card(card, folder, written, **facts)
        for part in written:
            assert presets.load(folder, part).count_params() > 0
    assert set(colour_images) == {"cifar10"}


def test_rivals_are_defined_for_cifar10_alone(colour_images, tmp_path):
    for program in (train_ali, train_age):
        with pytest.raises(models.ImageShapeError, match=r"defined for 32x32x3 images, got .*\(28, 28, 1\)"):
            _run(program, tmp_path / "out", dataset="mnist", training_steps=1)
    assert not (tmp_path / "out").exists()


def test_ablation_is_trained_beside_the_inverter(colour_images, tmp_path):
    gan = _run(train_gan, tmp_path / "gan", dataset="cifar10", family="dcgan", training_steps=1, batch_size=3)
    assert gan["generator"]["family"] == "dcgan" and gan["generator"]["width"] == 4
    folder = tmp_path / "ablation"
    arguments = {"dataset": "cifar10", "preset_dir": str(tmp_path / "gan"), "training_steps": 1, "batch_size": 3}
    card = _run(train_inverter, folder, ablation=True, **arguments)
    losses = {"adversarial_weight": 0.0, "semantic_weight": 1.0, "latent_weight": 0.0, "semantic_margin": 0.0}
    facts = {"family": "dcgan", "width": 4, "losses": losses, "generator_sha256": gan["generator"]["sha256"]}
    _assert_card(card, folder, ["ablation_inverter", "inverter_discriminator"], **facts)
    assert presets.load(folder, "ablation_inverter").input_shape == (None, 32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "images", "classifier"), [("celeb_a", 2 * 20, "classifier_y"), ("cifar10", 50, "classifier_small")]
)
def test_residual_networks_are_a_datasets_own(colour_images, tmp_path, monkeypatch, dataset, images, classifier):
    asked, stream = [], data.stream
    monkeypatch.setattr(
        data, "stream", lambda *a, batch_size, **k: asked.append(batch_size) or stream(*a, batch_size=batch_size, **k)
    )
    monkeypatch.setitem(data.DATASETS[dataset].sizes, "train", 40)
    card = _run(train_gan, tmp_path / "gan", dataset=dataset, training_steps=1)
    assert asked == [images]  # CelebA's discriminator makes two steps of 20
    assert card["generator"]["family"] == "sn_resnet"
    arguments = {"dataset": dataset, "preset_dir": str(tmp_path / "gan"), "training_steps": 1}
    assert _run(train_inverter, tmp_path / "inverter", **arguments)["inverter"]["family"] == "sn_resnet"
    name = {"celeb_a": None, "cifar10": "small"}[dataset]  # CelebA's default is Y
    card = _run(train_classifier, tmp_path / "c", dataset=dataset, classifier=name, training_steps=2, batch_size=8)
    assert list(card) == [classifier] and presets.load(tmp_path / "c", classifier).head.units in (2, 10)


@pytest.mark.parametrize("path", sorted((ROOT / "flags").glob("*_*.flags")), ids=lambda path: path.stem)
def test_flag_files_name_flags_of_their_program(path):
    kinds = {"gan": train_gan, "inverter": train_inverter, "ablation": train_inverter, "classifier": train_classifier}
    kinds |= {"ali": train_ali, "age": train_age}
    program = next((kinds[word] for word in reversed(path.stem.split("_")) if word in kinds), None)
    if program is None:
        pytest.skip("a table's")
    by_module = flags.FLAGS.flags_by_module_dict()
    known = {
        flag.name: flag
        for module in (program, training_flags, common_flags)
        for flag in by_module.get(module.__name__, [])
    }
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    given = dict(line.removeprefix("--").partition("=")[::2] for line in lines)
    for name, text in given.items():
        assert not text or known[name].parser.parse(text) is not None
    assert path.stem.startswith(given["dataset"]) and set(given) <= set(known)
