"""The reproduction job: its report, its check against expected cells, and a planted regression."""

import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from experiments import common_flags, inference, regression, reproduce, table1
from invgan_tf import files, presets


def _cell(value, n, row="InvGAN", column="Clean"):
    ci95 = proportion_confint(round(value * n), n, 0.05, "wilson")
    return {"row": row, "column": column, "value": value, "ci95": list(ci95), "n": n}


def _results(*cells, complete=True):
    return {"table2": {"complete": complete, "cells": list(cells)}}


def test_an_accuracys_interval_is_wilsons_at_its_part_of_a_thousandth():
    low, high = regression.interval(_cell(0.9, 100), 0.001 / 7)
    assert (low, high) == pytest.approx(proportion_confint(90, 100, 0.001 / 7, "wilson"))


def test_an_areas_interval_widens_on_the_logit_scale():
    area = {"value": 0.9, "ci95": [0.85, 0.9340], "n": 60, "row": "InvGAN", "column": "FGSM"}
    assert regression.interval(area, 0.05) == pytest.approx((0.85, 0.934), abs=2e-3)
    low, high = regression.interval(area, 0.001 / 30)
    assert 0.6 < low < 0.82 and 0.95 < high < 0.99


def test_an_errors_interval_widens_by_the_normal_quantiles_and_does_not_fall_below_zero():
    error = {"value": 4.0, "ci95": [3.02, 4.98], "n": 200, "row": "ALI", "column": "classifier-FID"}  # sigma: 0.5
    assert regression.interval(error, 0.001) == pytest.approx((4.0 - 1.6453, 4.0 + 1.6453), abs=1e-3)  # 3.2905 sigma
    assert regression.interval(error | {"value": 0.5, "ci95": [0.0, 1.5]}, 0.001)[0] == 0.0
    checked = regression.check({"table1": [error]}, {"table1": {"cells": [error | {"value": 5.7}]}})
    assert len(checked.wrong) == 1 and "none can drop" in checked.text  # a lower distance is none that fell


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        (_cell(0.9, 100), None),
        (_cell(0.85, 100), None),
        (_cell(0.6, 100), "is 0.600, outside"),
        (_cell(0.9, 50), "rests on n = 50, expected 100"),
        (_cell(0.9, 100, column="FGSM"), "is missing"),
    ],
)
def test_what_is_wrong_with_a_cell(now, problem):
    checked = regression.check({"table2": [_cell(0.9, 100)]}, _results(now))
    assert [line.startswith(f"table2, InvGAN, Clean {problem}") for line in checked.wrong] == [True] * bool(problem)
    low = proportion_confint(90, 100, 0.001, "wilson")[0]
    assert f"smallest drop this would catch is one of {0.9 - low:.3f}" in checked.text


def test_the_level_is_shared_among_the_cells():
    rows = [_cell(0.9, 100, row=str(row)) for row in range(20)]
    fallen = [_cell(0.74, 100, row="0"), *rows[1:]]
    assert proportion_confint(90, 100, 0.001, "wilson")[0] > 0.74  # alone it would be wrong
    assert not regression.check({"table2": rows}, _results(*fallen)).wrong


def test_written_cells_are_read_back(tmp_path):
    regression.write(tmp_path / "cells.json", _results(_cell(0.9, 100) | {"seconds": 3.0, "paper": 0.99}))
    assert regression.read(tmp_path / "cells.json", ["table2"]) == {"table2": [_cell(0.9, 100)]}


# One program that shows what the inverter is worth.
_SMALL = {"table2": ["--num_images=60", "--steps=0", "--defenses=invgan", "--attacks=clean,fgsm", "--workers=1"]}


def _run(folder, expected_dir, monkeypatch, *given):
    """Runs the job in this process, its programs in theirs; returns the exit status."""
    common = ["--budget=ci", "--datasets=mnist", "--programs=table2", f"--expected_dir={expected_dir}"]
    monkeypatch.setattr(sys, "argv", ["reproduce"])
    reproduce.FLAGS(["reproduce", *common, f"--output_dir={folder}", *given])
    try:
        reproduce.main()
    except SystemExit as error:
        return error.code
    finally:
        reproduce.FLAGS.unparse_flags()
        for name in ("budget", "datasets", "programs", "expected_dir", "output_dir", "check", "update_expected"):
            reproduce.FLAGS[name].unparse()
        reproduce.FLAGS["preset_dir"].unparse()
    return 0


def test_the_shipped_preset_passes_and_a_noisy_inverter_does_not(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(reproduce.BUDGETS, "ci", _SMALL)
    small = tmp_path / "expected"
    assert _run(tmp_path / "first", small, monkeypatch, "--update_expected") == 0
    assert _run(tmp_path / "first", small, monkeypatch, "--check") == 0

    damaged = tmp_path / "damaged"
    damaged.mkdir()
    source, rng = presets.find("mnist"), np.random.default_rng(0)
    for path in source.glob("*.safetensors"):
        (damaged / path.name).write_bytes(path.read_bytes())
    inverter, card = presets.load("mnist", "inverter"), presets.read_card("mnist")
    for weight in inverter.weights:
        weight.assign(weight + rng.normal(scale=0.05, size=weight.shape))
    presets.save_weights(inverter, damaged / "inverter.safetensors")
    card["inverter"]["sha256"] = presets.checksum(damaged / "inverter.safetensors")
    files.write_json(damaged / "card.json", card)
    capfd.readouterr()
    assert _run(tmp_path / "second", small, monkeypatch, "--check", f"--preset_dir={damaged}") == 1
    assert "FAILED: mnist: table2, InvGAN, Clean is" in capfd.readouterr().err

    text, page = ((tmp_path / "second" / name).read_text() for name in ("report.md", "report.html"))
    for written in (text, page):
        assert "smallest drop this would catch" in written and "FAILED" in written and "Table 2, mnist" in written
    assert "<table>" in page


def test_a_missing_expectation_is_one_line_before_any_work(tmp_path):
    command = [sys.executable, "-m", "experiments.reproduce", "--check", "--datasets=mnist", "--programs=table2"]
    done = subprocess.run(
        [*command, f"--expected_dir={tmp_path}", f"--output_dir={tmp_path / 'out'}"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "write it with --update_expected" in done.stderr
    assert "Traceback" not in done.stderr and not list((tmp_path / "out").glob("table2*"))


def test_programs_that_no_dataset_has_are_refused_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(common_flags.FlagError, match="--programs=table2: none of them is of cifar10"):
        _run(tmp_path / "out", tmp_path, monkeypatch, "--datasets=cifar10")
    assert not (tmp_path / "out").exists()


def test_what_cifar10s_programs_need_is_what_their_rows_name():
    reproduce.FLAGS(["reproduce"])
    rows = [*table1.rows().values(), inference.ABLATION]
    assert reproduce._DATASETS["cifar10"].parts == {part for row in rows for part in row.parts}


def test_pictures_are_inside_the_page(tmp_path):
    (tmp_path / "table3_mnist").mkdir()
    (tmp_path / "table3_mnist" / "roc.png").write_bytes(b"\x89PNG picture")
    page = reproduce._html(
        tmp_path, "# Title\n\n![roc, mnist](table3_mnist/roc.png)\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    )
    assert 'src="data:image/png;base64,iVBORyBwaWN0dXJl"' in page and "<td>1</td>" in page


def test_every_budget_names_flags_that_exist():
    for budget in reproduce.BUDGETS.values():
        assert set(budget) == set(reproduce._PROGRAMS)
        for program, given in budget.items():
            importlib.import_module(f"experiments.{program}")
            for flag in given:
                name = flag.removeprefix("--").split("=")[0]
                assert name == "flagfile" or name in reproduce.FLAGS, flag
    files_ = {
        flag.removeprefix("--flagfile=").format(dataset=dataset)
        for dataset, programs in reproduce._DATASETS.items()
        for budget in reproduce.BUDGETS.values()
        for program in programs.names
        for flag in budget[program]
        if flag.startswith("--flagfile=")
    }
    assert len(files_) == 3
    for name in files_:
        lines = pathlib.Path(name).read_text(encoding="utf-8").split()
        assert all(line.removeprefix("--").split("=")[0] in reproduce.FLAGS for line in lines if line.startswith("--"))


def test_expected_cells_that_ship_are_whole():
    for path in (pathlib.Path(reproduce.__file__).parent / "expected").glob("*.json"):
        kept = json.loads(path.read_text())
        assert set(kept) == set(reproduce._DATASETS[path.stem.removeprefix("ci_")].names)
        assert all(cell["ci95"][0] <= cell["value"] <= cell["ci95"][1] for cells in kept.values() for cell in cells)
