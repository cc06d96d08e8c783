"""Shards of a table and what `experiments.merge` makes of them."""

import fcntl
import json
import os
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import common_flags, figure4, merge, shards, table2, table4
from invgan_tf import files

_FEW = {"attacks": ["clean", "fgsm"], "defenses": ["none", "invgan"], "num_images": 120, "steps": 1}
_TYPED = ["--attacks=clean,fgsm", "--defenses=none,invgan", "--num_images=120", "--steps=1", "--dataset=mnist"]
_TYPED += ["--defensegan_steps=2", "--restarts=2", "--bpda_images=2", "--bpda_steps=1", "--projection_dtype=float32"]


def _run_shard(run_program, program, folder, shard, typed, **values):
    """Runs a shard in this process, as if it had been typed."""
    figure4._evaluation.cache_clear()  # it holds the store of an earlier run
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(
            sys,
            "argv",
            [f"{program.__name__.rpartition('.')[2]}.py", *typed, f"--shard={shard}", "--output_dir", str(folder)],
        )
        run_program(program, folder, shard=shard, **values)
    assert ended.value.code == 0


def _merge(folder, *parts):
    flags.FLAGS(["program"])
    with flagsaver.flagsaver(shards=list(map(str, parts)), output_dir=str(folder)):
        merge.main()


@pytest.fixture(scope="module")
def parts(run_program, preset, tmp_path_factory):
    """Three shards of 50, 50 and 20 images."""
    folders = [tmp_path_factory.mktemp("shard") for _ in range(3)]
    for number, folder in enumerate(folders, start=1):
        typed = [*_TYPED, f"--preset_dir={preset}", "--workers", "1"]
        _run_shard(run_program, table2, folder, f"{number}/3", typed, **_FEW)
    return folders


def test_a_shard_holds_its_images_and_no_table(parts):
    found = []
    for folder in parts:
        assert not (folder / "results.json").exists()
        for path in (folder / "cells").glob("projection-*.npz"):
            with np.load(path) as file:
                found += file["indices"].tolist()
    assert sorted(found) == sorted(2 * list(range(120)))  # clean and attacked, each image once


def test_merged_shards_are_the_table_of_one_machine(run_program, parts, tmp_path, capfd):
    alone = run_program(table2, tmp_path / "alone", **_FEW)
    with pytest.raises(SystemExit) as ended:
        _merge(tmp_path / "merged", *reversed(parts))
    assert ended.value.code == 0
    assert "3 shards" in (printed := capfd.readouterr().out) and "; 0 were not among them" in printed
    merged = json.loads((tmp_path / "merged" / "results.json").read_text())
    assert merged["complete"] is True
    for cell, other in zip(merged["cells"], alone["cells"], strict=True):
        assert {**cell, "seconds": 0} == {**other, "seconds": 0}
    assert merged["comparisons"] == alone["comparisons"]
    names = [{path.name for path in (tmp_path / run / "cells").iterdir()} for run in ("alone", "merged")]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folders: folders.pop(), r"needs shards 1 to 3, each once, got \[1, 2\]"),
        (lambda folders: folders.append(f"{folders[0]}/"), "each once"),
        (lambda folders: folders.append(folders[0].parent), "holds no finished shard"),
        (lambda folders: (folders[2] / shards.FILE).write_text("{}"), "is damaged"),
        (lambda folders: _change(folders[2], program="train_gan"), "is not of table2, table3"),
        (lambda folders: _change(folders[2], settings={"steps": 2}), "different programs, settings"),
        (lambda folders: _change(folders[2], shard=[3, 4]), "different programs, settings or numbers of shards"),
    ],
)
def test_shards_that_make_no_table_are_refused(tmp_path, spoil, message):
    folders = [tmp_path / str(number) for number in (1, 2, 3)]
    for number, folder in enumerate(folders, start=1):
        folder.mkdir()
        content = {
            "program": "table2",
            "shard": [number, 3],
            "arguments": [],
            "settings": {"steps": 1},
            "cells": "cells",
        }
        files.write_sealed(folder / shards.FILE, content)
    spoil(folders)
    with pytest.raises((common_flags.FlagError, files.DamagedError), match=message):
        _merge(tmp_path / "merged", *folders)
    assert not (tmp_path / "merged").exists()


def _change(folder, **values):
    files.write_sealed(folder / shards.FILE, files.read_sealed(folder / shards.FILE) | values)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/", "a/b", "-1/4", "1/4/2", ""])
def test_what_is_no_shard_is_refused(text):
    with flagsaver.flagsaver(), pytest.raises(flags.IllegalFlagValueError, match="shard"):
        flags.FLAGS(["program", f"--shard={text}", "--output_dir=out"])
    with flagsaver.flagsaver(), pytest.raises(flags.IllegalFlagValueError, match="needs an --output_dir"):
        flags.FLAGS(["program", "--shard=1/2"])


@pytest.mark.parametrize(("count", "blocks"), [(1, 7), (2, 7), (4, 7), (7, 7), (10, 7), (3, 1)])
def test_every_block_is_in_one_shard(count, blocks):
    found = []
    flags.FLAGS(["program"])
    for number in range(1, count + 1):
        with flagsaver.flagsaver(shard=f"{number}/{count}", output_dir="out"):
            found += shards.mine(range(blocks))
    assert found == list(range(blocks))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "values", "typed"),
    [
        (figure4, {"num_images": 60}, ["--num_images=60", "--invgan_steps=0,2", "--defensegan_marks=1,2"]),
        (table4, {"num_images": 60, "bare_images": 60}, ["--num_images=60", "--bare_images=60"]),
    ],
)
def test_merged_shards_of_other_programs(run_program, preset, tmp_path, program, values, typed, capfd):
    few = {"steps": 2, "defensegan_steps": 2, "restarts": 2, "substitute_rounds": 2}
    lists = {"invgan_steps": ["0", "2"], "defensegan_marks": ["1", "2"], "restarts_shown": ["1", "2"]}
    values |= few | lists
    typed = [*typed, "--restarts_shown=1,2"] if program is figure4 else [*typed, "--substitute_rounds=2"]
    typed += ["--steps=2", "--defensegan_steps=2", "--restarts=2", "--dataset=mnist", f"--preset_dir={preset}"]
    typed += ["--workers=1", "--projection_dtype=float32"]
    alone = run_program(program, tmp_path / "alone", **values)
    for number in (1, 2):
        _run_shard(run_program, program, tmp_path / str(number), f"{number}/2", typed, **values)
    with pytest.raises(SystemExit):
        _merge(tmp_path / "merged", tmp_path / "1", tmp_path / "2")
    assert "; 0 were not among them" in capfd.readouterr().out
    merged = json.loads((tmp_path / "merged" / "results.json").read_text())
    for cell, other in zip(merged["cells"], alone["cells"], strict=True):
        assert {**cell, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.slow
def test_four_shards_predict_as_one_run_does(run_program, tmp_path, capfd):
    """On the packaged preset, without --deterministic: the share of predictions that agree, image by image."""
    count = 200
    values = {"preset_dir": None, "attacks": ["clean", "fgsm"], "num_images": count, "steps": 20, "defensegan_steps": 5}
    typed = [f"--num_images={count}", "--attacks=clean,fgsm", "--steps=20", "--defensegan_steps=5", "--restarts=2"]
    typed += ["--dataset=mnist", "--projection_dtype=float32", "--bpda_images=2", "--bpda_steps=1", "--workers=1"]
    parts = [tmp_path / str(number) for number in (1, 2, 3, 4)]
    for number, folder in enumerate(parts, start=1):
        _run_shard(run_program, table2, folder, f"{number}/4", typed, **values)
    with pytest.raises(SystemExit):
        _merge(tmp_path / "merged", *parts)
    projections = list((tmp_path / "merged" / "cells").glob("projection-*.npz"))
    assert len(projections) == 2 * 2 * 4  # the shards' own: none was made again
    predicted = [_predictions(run_program, tmp_path / run, values) for run in ("alone", "merged")]
    agree = predicted[0] == predicted[1]
    with capfd.disabled():
        print(f"\n{agree.sum()} of {agree.size} predictions agree ({agree.shape[0]} cells of {agree.shape[1]} images)")
    assert agree.shape == (6, count)
    assert agree.mean(axis=1).min() >= 0.995


def _predictions(run_program, folder, values):
    """Runs the table over what is stored, and returns the classes that its cells were counted from, `[cells, n]`."""
    joined = []
    with pytest.MonkeyPatch.context() as patch:
        add = table2._add

        def note(table, attack, defense, outcome):
            joined.append(outcome.logits.argmax(axis=1))
            add(table, attack, defense, outcome)

        patch.setattr(table2, "_add", note)
        run_program(table2, folder, **values)
    return np.array(joined)


def test_a_second_run_on_one_folder_is_refused(run_program, tmp_path):
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(files.InUseError, match="is in use by another run"):
        run_program(table2, tmp_path, **_FEW)
    assert not list(tmp_path.iterdir())
    os.close(other)
