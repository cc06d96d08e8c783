"""Damages files one at a time and reads them as the programs do: is it noticed, harmless or silent?"""

import pathlib
import random
import shutil
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from experiments import cells, report
from invgan_tf import files, presets
from invgan_tf.training import checkpoints


class Noticed(Exception):
    """The program's reader refused the file."""


def spoil(path: pathlib.Path, draw: random.Random) -> None:
    """Flips a bit, cuts the end off, blanks a stretch, or puts foreign bytes in."""
    content = bytearray(path.read_bytes())
    place, kind = draw.randrange(len(content)), draw.randrange(4)
    if kind == 0:
        content[place] ^= 1 << draw.randrange(8)
    elif kind == 1:
        del content[place:]
    elif kind == 2:
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    else:
        content[place : place + 64] = draw.randbytes(len(content[place : place + 64]))
    path.write_bytes(content)


def soak(folder: pathlib.Path, preset: pathlib.Path, count: int, draw: random.Random) -> dict[str, dict[str, int]]:
    """Damages `count` files of finished runs, each a copy; returns what became of it, by kind of file.

    Args:
        folder: of `tools.soak`, with a `whole` run of each program.
        preset: folder of weights with their card.
        count: how many, spread over checkpoints, weights, cells and results.
        draw: of files and damage.
    """
    sources = {
        "checkpoint": (sorted(folder.glob("*/whole/checkpoints/ckpt-*/*")), _checkpoint),
        "weights": (sorted(preset.glob("*.safetensors")), _weights),
        "stored cell": (sorted(folder.glob("*/whole/cells/*.npz")), _cell),
        "results.json": (sorted(folder.glob("*/whole/results.json")), _results),
    }
    found = {}
    for number, (kind, (paths, read)) in enumerate(sources.items()):
        found[kind] = {"damaged": 0, "noticed": 0, "harmless": 0, "silent": 0}
        for _ in range((count + number) // len(sources)):
            found[kind]["damaged"] += 1
            found[kind][_judge(draw.choice(paths), read, folder / "damaged", draw)] += 1
    return found


def _judge(path: pathlib.Path, read: Callable, scratch: pathlib.Path, draw: random.Random) -> str:
    before = read(path, path)
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(path.parent, scratch)
    spoil(scratch / path.name, draw)
    try:
        after = read(scratch / path.name, path)
    except Noticed:
        return "noticed"
    return "harmless" if before == after else "silent"


def _checkpoint(path, _):
    if checkpoints.damage(path.parent):
        raise Noticed
    reader = tf.train.load_checkpoint(str(path.parent / "state"))
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in reader.get_variable_to_shape_map()}


def _weights(path, _):
    try:
        model = presets.load(path.parent, path.stem)
    except presets.PresetError as error:
        raise Noticed from error
    return [weight.numpy().tobytes() for weight in model.weights]


def _cell(path, original):
    with np.load(original, allow_pickle=False) as file:
        key = str(file["key"])
    arrays = cells.read(path, key)
    if arrays is None:
        raise Noticed
    return {name: array.tobytes() for name, array in arrays.items()}


def _results(path, _):
    try:
        return report.read(path)
    except files.DamagedError as error:
        raise Noticed from error
