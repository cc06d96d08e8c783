"""Weights on disk: safetensors files, the package's own in float16, and the cards that say how they were made."""

import importlib.resources
import json
import os
import pathlib

import keras
import numpy as np
import safetensors
import safetensors.numpy

from invgan_tf import data, files, models
from invgan_tf.presets import architectures


class PresetError(ValueError):
    """A weights file or card that cannot be used; the message names the file and the reason."""


def checksum(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file, in hexadecimal."""
    return files.checksum(path)


def _named(model: keras.Model, numbered: bool) -> dict:
    """Returns a model's weights by Keras path, or by number: a path changes when a nested model is built anew."""
    return {f"{index:04d}" if numbered else weight.path: weight for index, weight in enumerate(model.weights)}


def save_weights(
    model: keras.Model, path: str | os.PathLike, dtype: str = "float16", *, numbered: bool = False
) -> None:
    """Writes a model's weights under their Keras paths; whole or not at all.

    Args:
        model: any Keras model with unique weight paths.
        path: the file to write, `*.safetensors`.
        dtype: the dtype on disk.
        numbered: under their numbers instead, for a model whose configuration is kept beside them.

    Raises:
        PresetError: if two weights share a path, or one leaves the range of `dtype`.
        WriteError: if the disk is full; the file that was there stays.
    """
    path = pathlib.Path(path)
    named = _named(model, numbered)
    arrays = {name: keras.ops.convert_to_numpy(weight).astype(dtype) for name, weight in named.items()}
    if len(arrays) != len(model.weights):
        raise PresetError(f"{model.name} has weights of equal paths; name its layers.")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise PresetError(f"{model.name}'s weight {name} is not finite as {dtype}; nothing was written.")
    with files.replacing(path) as temporary:
        try:
            safetensors.numpy.save_file(arrays, temporary)
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        os.chmod(temporary, 0o644)  # safetensors writes for its owner alone


def load_weights(model: keras.Model, path: str | os.PathLike, *, numbered: bool = False) -> keras.Model:
    """Reads weights that `save_weights` wrote, `numbered` as there, into a model of the same architecture; returns it.

    Raises:
        PresetError: if the file is unreadable, or its weights are not the model's by name or shape.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise PresetError(f"{path} is not a readable safetensors file: {error}.") from error
    named = _named(model, numbered)
    expected = {name: tuple(weight.shape) for name, weight in named.items()}
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected:
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise PresetError(
            f"{path} does not hold the weights of {model.name}: {wrong[0]} is {found.get(wrong[0], 'missing')} "
            f"in the file and {expected.get(wrong[0], 'absent')} in the model ({len(wrong)} such weights)."
        )
    for name, weight in named.items():
        weight.assign(arrays[name].astype(weight.dtype))
    return model


def _packaged() -> pathlib.Path:
    return pathlib.Path(str(importlib.resources.files("invgan_tf"))) / "presets"


def list_presets() -> list[str]:
    """Returns the names of the packaged presets, sorted: what `from_preset` and `load_classifier` take.

    A preset is a trained generator and inverter, images `[n, h, w, c]` in its dataset's range, and classifiers of it
    (paper, section 4); "cifar10_dcgan" holds Table 1's rivals too, and takes the classifier of "cifar10", which is in
    progress (WORKSPACE.md says what it lacks). A folder with a card.json, as `save_preset` writes it, is taken too;
    any other name is a PresetError there.

    Example:
        >>> "mnist" in invgan_tf.list_presets()
        True
    """
    return sorted(card.parent.name for card in _packaged().glob("*/card.json"))


def find(preset: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of a preset: one of the package's by name ("mnist"), or a folder with a card.json.

    Raises:
        PresetError: if there is neither.
    """
    for folder in (_packaged() / str(preset), pathlib.Path(preset)):
        if (folder / "card.json").is_file():
            return folder
    raise PresetError(
        f"No preset {str(preset)!r}: give the name of a packaged one ({', '.join(list_presets()) or 'there are none'}) "
        "or a folder that holds card.json and its weights."
    )


def read_card(preset: str | os.PathLike, dataset: str | None = None) -> dict:
    """Returns a preset's card: for each part, how it was made and its weights' sha256.

    Args:
        preset: a packaged preset's name or a folder.
        dataset: what the caller will use it on; None for anything.

    Raises:
        PresetError: for an unknown preset, a card that is not one, parts that were trained on another dataset,
            or an inverter that was trained for another generator.
    """
    path = find(preset) / "card.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PresetError(f"{path} is not a readable card: {error}.") from error
    if not isinstance(card, dict) or not all(isinstance(part, dict) for part in card.values()):
        raise PresetError(f"{path} is not a card: expected an object with one object a part.")
    for name, part in card.items():
        if not isinstance(part.get("sha256"), str) or (_range_of(part) is None):
            raise PresetError(f"{path} does not say sha256 and a known dataset of {name}, nor its pixels' range.")
        if dataset not in (None, part.get("dataset")):
            raise PresetError(f"{path}: {name} was trained on {part.get('dataset')}, not on {dataset}.")
    for name in ("inverter", "ablation_inverter") if "generator" in card else ():
        wanted = card.get(name, {}).get("generator_sha256", card["generator"]["sha256"])
        if wanted != card["generator"]["sha256"]:
            raise PresetError(f"{path}: the {name} was trained for another generator, sha256 {wanted[:12]}...")
    return card


def _range_of(part: dict) -> tuple[float, float] | None:
    """Returns the lowest and highest pixel that a part of a card tells of; None if it does not."""
    if part.get("dataset") in data.DATASETS:
        return data.spec(part["dataset"]).value_range
    given = part.get("value_range") if part.get("dataset") is None else None
    numbers = isinstance(given, list) and len(given) == 2 and all(isinstance(end, int | float) for end in given)
    return (float(given[0]), float(given[1])) if numbers and given[0] < given[1] else None


def value_range(preset: str | os.PathLike) -> tuple[float, float]:
    """Returns the lowest and highest pixel of a preset's images; PresetError as `read_card`."""
    return _range_of(next(iter(read_card(preset).values()), {})) or (0.0, 1.0)


def load(preset: str | os.PathLike, part: str, *, dtype: str = "float32") -> keras.Model:
    """Builds a part of a preset and loads its weights, both checked against the card.

    Args:
        preset: a packaged preset's name or a folder.
        part: "classifier_a" and so on, or a part that `models.build` knows, "generator" for one.
        dtype: Keras dtype policy of the model; a network that is not the package's own keeps its own.

    Raises:
        PresetError: for an unknown preset or part, or weights that are not those of the card.
    """
    folder, card = find(preset), read_card(preset)
    if part not in card:
        raise PresetError(f"Preset {folder} has no part {part!r}; it has {', '.join(sorted(card))}.")
    path = _checked(folder / f"{part}.safetensors", card[part]["sha256"])
    if "architecture_sha256" in card[part]:
        described = _checked(folder / f"{part}.json", card[part]["architecture_sha256"])
        try:
            return load_weights(architectures.load(described), path, numbered=True)
        except architectures.ArchitectureError as error:
            raise PresetError(str(error)) from error
    if card[part].get("dataset") is None:
        raise PresetError(f"{folder / 'card.json'} tells neither dataset nor architecture_sha256 of {part}.")
    try:
        model = _build(part, card[part], dtype)
    except (ValueError, TypeError) as error:
        raise PresetError(f"{folder / 'card.json'} tells of no network for {part}: {error}") from error
    return load_weights(model, path)


def _build(part, facts, dtype):
    dataset, prefix = data.spec(facts["dataset"]), "classifier_"
    if part.startswith(prefix):
        architecture = {name.lower(): name for name in models.ARCHITECTURES}.get(part.removeprefix(prefix), part)
        return models.build_classifier(architecture, dataset.image_shape, num_classes=dataset.num_classes, dtype=dtype)
    family, width = facts.get("family", "dcgan"), facts.get("width", models.DEFAULT_WIDTH)
    return models.build(part, dataset.image_shape, family=family, width=width, dtype=dtype)


def _checked(path: pathlib.Path, sha256: str) -> pathlib.Path:
    """Returns the path of a file that a card names; PresetError if it is missing or another one."""
    if not path.is_file():
        raise PresetError(f"{path} is missing; the preset's card names it.")
    if checksum(path) != sha256:
        raise PresetError(f"{path} is damaged or foreign: its sha256 is not the one on the preset's card.")
    return path


def load_classifier(preset: str | os.PathLike, architecture: str = "A", *, dtype: str = "float32") -> models.Classifier:
    """Loads a preset's classifier: images `[n, h, w, c]` to logits `[n, classes]`.

    Images are in the range of the preset's dataset ([0, 1] for MNIST); `.features(images)` is Phi of Eq. 7.

    Args:
        preset: a packaged preset's name or a folder.
        architecture: "A" to "F", "Y", "wide" or "small", of those the preset has.
        dtype: Keras dtype policy of the layers before the last.

    Raises:
        PresetError: as `load` does.

    Example:
        >>> classifier = invgan_tf.load_classifier("mnist", "A")
        >>> images = data.load("mnist", "test", limit=2).images
        >>> classifier(images).shape, classifier.features(images).shape
        (TensorShape([2, 10]), TensorShape([2, 128]))
    """
    return load(preset, f"classifier_{architecture.lower()}", dtype=dtype)
