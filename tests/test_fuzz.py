"""Files of random damage: every reader refuses them with its documented error, or reads them; nothing else happens."""

import json
import random

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cells, common_flags, report, whitebox_flags
from invgan_tf import files, models, presets
from tools import damage

ROUNDS = 150


@pytest.fixture(scope="module")
def network():
    return models.build_generator(width=2)


def _spoilt(path, draw):
    """Damages a file one to three times."""
    for _ in range(draw.randint(1, 3)):
        if path.stat().st_size:
            damage.spoil(path, draw)


def test_weights_files(network, tmp_path):
    """Read without a card: what its checksum would have caught reaches the parser."""
    whole = tmp_path / "whole.safetensors"
    presets.save_weights(network, whole)
    path, refused = tmp_path / "generator.safetensors", 0
    for seed in range(ROUNDS):
        path.write_bytes(whole.read_bytes())
        _spoilt(path, random.Random(seed))
        before = network.get_weights()
        try:
            presets.load_weights(network, path)
        except presets.PresetError as error:
            refused += 1
            assert path.name in str(error)
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, network.get_weights()))
    assert refused > ROUNDS / 4


def test_weights_headers(network, tmp_path):
    """The header is where a reader can be led astray: sizes, offsets, kinds, names."""
    path = tmp_path / "generator.safetensors"
    presets.save_weights(network, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, draw = content[8 : 8 + length], random.Random(0)
    for _ in range(ROUNDS):
        spoilt = bytearray(header)
        for _ in range(draw.randint(1, 4)):
            spoilt[draw.randrange(len(spoilt))] = draw.choice(b'0123456789,:"{}[]-eF')
        path.write_bytes(len(spoilt).to_bytes(8, "little") + spoilt + content[8 + length :])
        try:
            presets.load_weights(network, path)
        except presets.PresetError:
            continue
    for size in (0, 1, 2**31, 2**63 - 1, 2**64 - 1):
        path.write_bytes(size.to_bytes(8, "little") + content[8:])
        with pytest.raises(presets.PresetError):
            presets.load_weights(network, path)


def test_cards(tmp_path):
    path = tmp_path / "card.json"
    card = {
        part: {"dataset": "mnist", "sha256": 64 * "0", "family": "dcgan", "width": 8, "steps": 3}
        for part in ("generator", "inverter")
    }
    for seed in range(ROUNDS):
        draw = random.Random(seed)
        text = json.dumps(card)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(text))
            text = text[:place] + draw.choice('{}[]",:0x\x00\ud7ff-') + text[place + draw.randint(0, 3) :]
        path.write_text(text, encoding="utf-8")
        if seed % 3 == 0:
            damage.spoil(path, draw)
        for read in (lambda: presets.read_card(tmp_path, "mnist"), lambda: presets.load(tmp_path, "generator")):
            try:
                read()
            except presets.PresetError as error:
                assert "\n" not in str(error).strip()


def test_results(tmp_path):
    path = tmp_path / "results.json"
    content = {"cells": [{"row": "InvGAN", "value": 0.5, "ci95": [0.4, 0.6]}], "complete": True}
    for seed in range(ROUNDS):
        files.write_sealed(path, content)
        _spoilt(path, random.Random(seed))
        try:
            assert report.read(path) == content
        except files.DamagedError as error:
            assert "results.json is damaged" in str(error)


def test_cells(tmp_path):
    store = cells.CellStore(tmp_path)
    for seed in range(ROUNDS):
        store.get("attack", {"key": 1}, lambda: {"images": np.arange(40.0)})
        (path,) = tmp_path.glob("*.npz")
        _spoilt(path, random.Random(seed))
        np.testing.assert_array_equal(
            store.get("attack", {"key": 1}, lambda: {"images": np.arange(40.0)})[0]["images"], np.arange(40.0)
        )


def test_flag_files(tmp_path):
    path = tmp_path / "run.flags"
    known = [
        "--num_images=3",
        "--dataset=mnist",
        "--attacks=clean,rp",
        "--deterministic",
        "# a comment",
        "--seed=7",
        "",
    ]
    for seed in range(ROUNDS):
        draw = random.Random(seed)
        text = "\n".join(draw.choices(known, k=draw.randint(1, 6)))
        for _ in range(draw.randint(0, 3)):
            place = draw.randrange(len(text) + 1)
            text = text[:place] + draw.choice("-=,#\n\x00 $`é") + text[place + draw.randint(0, 2) :]
        path.write_text(text, encoding="utf-8")
        with flagsaver.flagsaver():
            try:
                flags.FLAGS(["program", f"--flagfile={path}"])
            except flags.Error:
                continue
            assert set(whitebox_flags.FLAGS.attacks) <= set(whitebox_flags.COLUMNS)
    path.write_bytes(b"--seed=\xff\xfe")
    with flagsaver.flagsaver(), pytest.raises(SystemExit, match="--flagfile names a file that is no text"):
        common_flags.parse(["program", f"--flagfile={path}"])
