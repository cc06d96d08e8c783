"""The programs that `tools.soak` kills: narrow networks, few images, small blocks, so that a run takes seconds."""

import hashlib
import json
import os
import pathlib
import sys

import keras
import numpy as np

from experiments import common_flags, table2, table4, train_gan, train_inverter, whitebox
from invgan_tf import data, files, models, presets

_WIDTH, _IMAGES = 8, 400
_TRAINING = [f"--width={_WIDTH}", "--batch_size=8", "--training_steps=60", "--checkpoint_every=2"]
_TABLE = ["--workers=1", "--num_images=8", "--steps=3", "--defensegan_steps=2", "--restarts=2"]
_TABLE += ["--projection_dtype=float32"]
PHASES = {
    "GAN training": (train_gan, _TRAINING),
    "inverter training": (train_inverter, _TRAINING),
    "Table 2": (table2, [*_TABLE, "--attacks=clean,fgsm,rp"]),
    "Table 4": (table4, [*_TABLE, "--bare_images=8", "--substitute_rounds=2"]),
}


def shorten() -> None:
    """Makes the programs of this process small beyond their flags: the images they train on, their blocks."""
    whitebox._BLOCK = 2
    read = data._read

    def few(name, split, data_dir, limit):  # training needs no prepared dataset
        return read(name, "test", None, _IMAGES) if split == "train" else read(name, split, data_dir, limit)

    data._read = few


def write_preset(folder: pathlib.Path) -> None:
    """Writes an untrained preset of narrow networks."""
    keras.utils.set_random_seed(1)
    networks = {part: models.build(part, (28, 28, 1), width=_WIDTH) for part in ("generator", "inverter")}
    networks |= {f"classifier_{name.lower()}": models.build_classifier(name) for name in "AEF"}
    folder.mkdir(parents=True)
    card = {}
    for name, network in networks.items():
        presets.save_weights(network, folder / f"{name}.safetensors")
        card[name] = {"dataset": "mnist", "sha256": presets.checksum(folder / f"{name}.safetensors")}
        card[name] |= {} if name.startswith("classifier") else {"family": "dcgan", "width": _WIDTH}
    files.write_json(folder / "card.json", card)


def prepare(folder: str) -> None:
    """Writes the preset, in a process of its own: who forks later must not have used TensorFlow."""
    write_preset(pathlib.Path(folder))


def run(phase: str, folder: str, preset: str, log: str, deterministic: bool = True) -> None:
    """Runs a phase's program in this process as a user would, to its end or until it is killed."""
    program, arguments = PHASES[phase]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    shorten()
    sys.argv = [f"{program.__name__.rpartition('.')[2]}.py", *arguments, f"--output_dir={folder}"]
    sys.argv += [f"--preset_dir={preset}", f"--deterministic={deterministic}", "--dataset=mnist"]
    common_flags.run(program.main)


def state(folder: pathlib.Path) -> dict[str, str]:
    """Returns a checksum of everything final in a folder, by name, without seconds, paths and dates."""
    import tensorflow as tf

    found = {}
    for path in folder.rglob("*.safetensors"):
        found[str(path.relative_to(folder))] = presets.checksum(path)
    for path in folder.glob("checkpoints/ckpt-*"):
        reader = tf.train.load_checkpoint(str(path / "state"))
        for name in reader.get_variable_to_shape_map():
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
                found[f"{path.name}/{name}"] = _digest(reader.get_tensor(name))
    for path in folder.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            found |= {f"{path.name}/{name}": _digest(file[name]) for name in set(file.files) - {"seconds", "sha256"}}
    if (folder / "results.json").is_file():
        results = files.read_sealed(folder / "results.json")
        cells = [{**cell, "seconds": 0} for cell in results["cells"]]
        found["results.json"] = json.dumps([results["complete"], cells, results["comparisons"], results["findings"]])
    return found


def _digest(array):
    return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"


def finished(folder: pathlib.Path) -> dict[str, int]:
    """Returns what a run must not do again: cells with their dates, and the newest checkpoint's step."""
    units = {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    names = [path.name for path in folder.glob("checkpoints/ckpt-*") if path.suffix != ".tmp"]
    return units | {"step": max((int(name.removeprefix("ckpt-")) for name in names), default=0)}
