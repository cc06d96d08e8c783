"""Writes a preset of one's own: a folder with networks, weights and a card, which `from_preset` loads."""

import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras

from invgan_tf import data, files, presets
from invgan_tf.presets import architectures

if TYPE_CHECKING:
    from invgan_tf import defenses

_CLASSIFIER = "classifier_a"  # the one that load_classifier asks for


def save_preset(
    folder: str | os.PathLike,
    defense: "defenses.Defense",
    *,
    classifier: keras.Model | None = None,
    dataset: str | None = None,
    dtype: str = "float32",
    facts: Mapping | None = None,
) -> dict:
    """Writes a defence's networks to a folder that `from_preset` and `load_classifier` load.

    Nothing is pickled: each network is its Keras configuration (`NAME.json`), its weights (`NAME.safetensors`), and
    the checksums of both on the card (`card.json`).

    Args:
        folder: the preset's folder; made if it is not there, its files replaced.
        defense: an `InvGAN` or `DefenseGAN` over models of Keras's own layers, images `[n, h, w, c]`.
        classifier: Keras model from images in the defence's range to logits; None for none.
        dataset: a known dataset that all of it was trained on ("mnist"); None for a dataset of your own.
        dtype: of the weights on disk, "float32" or "float16".
        facts: what else the card shall tell of every network: command, seed, measured figures, as JSON can write it.

    Returns:
        The card: for each network its checksums, range of pixels and facts (paper, section 3.3, for what each is).

    Raises:
        ValueError: for an unknown dataset or dtype.
        ArchitectureError: for a network that holds anything but Keras's layers.
        PresetError: for weights that leave the range of `dtype`.

    Example:
        >>> invgan = invgan_tf.InvGAN.from_preset("mnist")
        >>> card = invgan_tf.save_preset("my_preset", invgan, dataset="mnist")
        >>> sorted(card), invgan_tf.InvGAN.from_preset("my_preset").latent_dim
        (['generator', 'inverter'], 128)
    """
    if dataset is not None:
        data.spec(dataset)
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype must be 'float32' or 'float16', got {dtype!r}.")
    networks = {part: getattr(defense, part) for part in defense.parts}
    if classifier is not None:
        networks[_CLASSIFIER] = classifier
    folder, card = pathlib.Path(folder), {}
    folder.mkdir(parents=True, exist_ok=True)
    for part, network in networks.items():
        weights, architecture = folder / f"{part}.safetensors", folder / f"{part}.json"
        architectures.save(network, architecture)
        presets.save_weights(network, weights, dtype, numbered=True)
        card[part] = {
            "sha256": presets.checksum(weights),
            "architecture_sha256": presets.checksum(architecture),
            "dataset": dataset,
            "value_range": list(map(float, defense.value_range)),
            "weights_dtype": dtype,
            **(facts or {}),
        }
    if "inverter" in card:
        card["inverter"]["generator_sha256"] = card["generator"]["sha256"]
    files.write_json(folder / "card.json", card)
    return card
