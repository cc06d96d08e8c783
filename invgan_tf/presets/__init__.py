"""Weights on disk: safetensors files of float16, and the cards that say how they were made."""

import functools
import hashlib
import importlib.resources
import json
import os
import pathlib
import uuid

import keras
import numpy as np
import safetensors
import safetensors.numpy

from invgan_tf import data, models

_BUILDERS = {
    "generator": models.build_generator,
    "discriminator": models.build_discriminator,
    "inverter": models.build_inverter,
    **{
        f"classifier_{architecture.lower()}": functools.partial(models.build_classifier, architecture)
        for architecture in models.ARCHITECTURES
    },
}


class PresetError(ValueError):
    """A weights file or card that cannot be used; the message names the file and the reason."""


def checksum(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_name(path: pathlib.Path) -> pathlib.Path:
    """Returns a name beside `path` that nobody else writes to."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes text to a temporary name, syncs and renames: the file is whole or the old one."""
    path = pathlib.Path(path)
    temporary = temporary_name(path)
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: str | os.PathLike, content) -> None:
    """Writes JSON, as `write_text` does; ValueError for a number JSON does not have."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


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
    temporary = temporary_name(path)
    safetensors.numpy.save_file(arrays, temporary)
    os.chmod(temporary, 0o644)  # safetensors writes for its owner alone
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


def find(preset: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of a preset: one of the package's by name ("mnist"), or a folder with a card.json.

    Raises:
        PresetError: if there is neither.
    """
    packaged = pathlib.Path(str(importlib.resources.files("invgan_tf"))) / "presets"
    for folder in (packaged / str(preset), pathlib.Path(preset)):
        if (folder / "card.json").is_file():
            return folder
    names = sorted(card.parent.name for card in packaged.glob("*/card.json"))
    raise PresetError(
        f"No preset {str(preset)!r}: give the name of a packaged one ({', '.join(names) or 'there are none'}) "
        "or a folder that holds card.json and its weights."
    )


def read_card(preset: str | os.PathLike) -> dict:
    """Returns a preset's card: for each part, how it was made and its weights' sha256."""
    path = find(preset) / "card.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PresetError(f"{path} is not a readable card: {error}.") from error


def load(preset: str | os.PathLike, part: str, *, dtype: str = "float32") -> keras.Model:
    """Builds a part of a preset and loads its weights, checked against the card.

    Args:
        preset: a packaged preset's name or a folder.
        part: "generator", "discriminator", "inverter" or "classifier_a" to "classifier_f".
        dtype: Keras dtype policy of the model.

    Raises:
        PresetError: for an unknown preset or part, or weights that are not those of the card.
    """
    folder, card = find(preset), read_card(preset)
    if part not in card or part not in _BUILDERS:
        raise PresetError(f"Preset {folder} has no part {part!r}; it has {', '.join(sorted(card))}.")
    path = folder / f"{part}.safetensors"
    if not path.is_file():
        raise PresetError(f"{path} is missing; the preset's card names it.")
    if checksum(path) != card[part]["sha256"]:
        raise PresetError(f"{path} is damaged or foreign: its sha256 is not the one on the preset's card.")
    shape = data.spec(card[part]["dataset"]).image_shape
    return load_weights(_BUILDERS[part](shape, dtype=dtype), path)


def load_classifier(preset: str | os.PathLike, architecture: str = "A", *, dtype: str = "float32") -> models.Classifier:
    """Loads a preset's classifier: images to logits, with `.features(images)` for Phi of Eq. 7.

    Args:
        preset: a packaged preset's name or a folder.
        architecture: "A" to "F", of those the preset has.
        dtype: Keras dtype policy of the layers before the last.

    Raises:
        PresetError: as `load` does.
    """
    return load(preset, f"classifier_{architecture.lower()}", dtype=dtype)
