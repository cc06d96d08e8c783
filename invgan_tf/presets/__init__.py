"""Weights on disk: safetensors files of float16, and the cards that say how they were made."""

import hashlib
import json
import os
import pathlib

import keras
import numpy as np
import safetensors
import safetensors.numpy


class PresetError(ValueError):
    """A weights file or card that cannot be used; the message names the file and the reason."""


def checksum(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | os.PathLike, content) -> None:
    """Writes JSON to a temporary name, syncs and renames: the file is whole or the old one."""
    path = pathlib.Path(path)
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_weights(model: keras.Model, path: str | os.PathLike, dtype: str = "float16") -> None:
    """Writes a model's weights under their Keras paths; whole or not at all.

    Args:
        model: any Keras model with unique weight paths.
        path: the file to write, `*.safetensors`.
        dtype: the dtype on disk.

    Raises:
        PresetError: if two weights share a path, or one leaves the range of `dtype`.
    """
    path = pathlib.Path(path)
    arrays = {weight.path: keras.ops.convert_to_numpy(weight).astype(dtype) for weight in model.weights}
    if len(arrays) != len(model.weights):
        raise PresetError(f"{model.name} has weights of equal paths; name its layers.")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise PresetError(f"{model.name}'s weight {name} is not finite as {dtype}; nothing was written.")
    temporary = path.with_suffix(".tmp")
    safetensors.numpy.save_file(arrays, temporary)
    os.replace(temporary, path)


def load_weights(model: keras.Model, path: str | os.PathLike) -> keras.Model:
    """Reads weights that `save_weights` wrote into a model of the same architecture; returns it.

    Raises:
        PresetError: if the file is unreadable, or its weights are not the model's by name or shape.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise PresetError(f"{path} is not a readable safetensors file: {error}.") from error
    expected = {weight.path: tuple(weight.shape) for weight in model.weights}
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected:
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise PresetError(
            f"{path} does not hold the weights of {model.name}: {wrong[0]} is {found.get(wrong[0], 'missing')} "
            f"in the file and {expected.get(wrong[0], 'absent')} in the model ({len(wrong)} such weights)."
        )
    for weight in model.weights:
        weight.assign(arrays[weight.path].astype(weight.dtype))
    return model
