"""The soak's own eyes: what is lost, and what passes unnoticed, is counted as such."""

import random

import numpy as np

from experiments import cells
from invgan_tf import files
from tools import damage, soak, soak_programs


def test_units_that_are_gone_or_made_again_are_lost():
    before = {"attack-1.npz": 5, "attack-2.npz": 6, "step": 8}
    assert soak._undone(before, {**before, "attack-3.npz": 9, "step": 10}) == 0
    assert soak._undone(before, {"attack-1.npz": 5, "attack-2.npz": 7, "step": 8}) == 1
    assert soak._undone(before, {"attack-1.npz": 5, "step": 6}) == 2


def test_half_written_files_are_no_finished_units(tmp_path):
    for name in ("ckpt-4", "ckpt-6.0123.tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "attack-1.npz.0123.tmp").write_text("half")
    assert soak_programs.finished(tmp_path) == {"step": 4}


def test_final_states_differ_where_anything_but_time_does(tmp_path):
    def run(name, value, seconds):
        folder = tmp_path / name
        store = cells.CellStore(folder / "cells")
        store.get("attack", {"key": 1}, lambda: {"images": np.full(3, value)})
        results = {"cells": [{"value": value, "seconds": seconds}], "complete": True}
        files.write_sealed(folder / "results.json", {**results, "comparisons": [], "findings": [], "seconds": seconds})
        return soak_programs.state(folder)

    assert run("first", 0.5, 1.0) == run("second", 0.5, 2.0)
    assert run("third", 0.25, 1.0) != run("first", 0.5, 1.0)


def test_damage_is_noticed_harmless_or_silent(tmp_path):
    path = tmp_path / "source" / "text"
    path.parent.mkdir()
    path.write_bytes(bytes(range(1, 256)) * 4)

    def refuse(path, original):
        if path != original:
            raise damage.Noticed

    readers = {
        "noticed": refuse,
        "harmless": lambda path, original: len(path.parts) and None,
        "silent": lambda path, original: path.read_bytes(),
    }
    for expected, read in readers.items():
        for seed in range(20):
            assert damage._judge(path, read, tmp_path / "scratch", random.Random(seed)) == expected
    assert path.read_bytes() == bytes(range(1, 256)) * 4
