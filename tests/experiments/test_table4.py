"""Table 4 as a user runs it: rows, questions counted, work resumed and never taken from another run."""

import json
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import paper, table4, whitebox
from invgan_tf import attacks, data, models, presets
from invgan_tf.attacks import substitute
from invgan_tf.evaluation import accuracy

FEW = {"bare_images": 8, "substitute_rounds": 2, "steps": 1, "defensegan_steps": 1, "restarts": 1}
TYPED = ["--dataset=mnist", "--num_images=6", "--projection_dtype=float32"]
TYPED += [f"--{name}={value}" for name, value in FEW.items()]
ROWS = ["No Defense", "DefenseGAN", "InvGAN"]


@pytest.fixture(autouse=True, scope="module")
def _fresh():
    yield
    table4._attack.cache_clear()


@pytest.fixture(scope="module")
def run(run_program):
    def run(folder, **values):
        table4._attack.cache_clear()
        return run_program(table4, folder, **FEW | values)

    return run


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table4")
    return folder, run(folder)


def _times(folder, kind="*"):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").glob(f"{kind}-*.npz")}


def _stored(folder, kind):
    """Returns (key, arrays) of what a run kept."""
    found = []
    for path in (folder / "cells").glob(f"{kind}-*.npz"):
        with np.load(path, allow_pickle=False) as file:
            found.append((json.loads(str(file["key"])), dict(file)))
    return found


def test_results_hold_every_row(finished):
    folder, results = finished
    assert results["complete"] is True and results["experiment"] == "table4"
    assert [(cell["row"], cell["column"]) for cell in results["cells"]] == [(row, "Black box") for row in ROWS]
    assert [cell["n"] for cell in results["cells"]] == [8, 6, 6]
    assert [cell["queries"] for cell in results["cells"]] == [150, 150, 150]
    assert [cell["paper"] for cell in results["cells"]] == [0.6631, 0.9398, 0.9449]
    for cell in results["cells"]:
        assert cell["ci95"][0] <= cell["value"] <= cell["ci95"][1]
        assert cell["linf_median"] == pytest.approx(0.3, abs=1e-6) and cell["seconds"] > 0
        assert (cell["projection_loss"] is None) == (cell["row"] == "No Defense")
    (answer,) = results["comparisons"]  # the rows of as many images
    assert answer["rows"] == ["InvGAN", "DefenseGAN"] and answer["margin"] == 0.01
    assert results["settings"]["steps"] == 1 and results["settings"]["substitute"]["rounds"] == 2
    assert "150 queries" in (folder / "table.md").read_text()


def test_paper_has_both_datasets():
    assert paper.TABLE4["fashion_mnist"] == dict(zip([(row, "Black box") for row in ROWS], (0.4988, 0.6320, 0.6596)))


def test_every_point_is_asked_about_once_and_numbered_apart_from_the_evaluated_images(finished):
    projections = _stored(finished[0], "projection")
    for defense in ("DefenseGAN", "InvGAN"):
        numbers = [n for key, _ in projections if key["defense"]["defense"] == defense for n in key["indices"]]
        assert sorted(numbers) == [*range(150, 156), *range(10_150, 10_300)]


def test_the_bare_row_is_the_librarys_attack(finished, preset):
    folder, results = finished
    oracle, examples = presets.load_classifier(preset, "F"), data.load("mnist", "test", limit=158)
    keras.utils.set_random_seed(11241991)  # the attacker's
    model = models.build_classifier("E")
    *_, last = attacks.train_substitute(
        model,
        lambda images: accuracy.predict(oracle, images),
        examples.images[:150],
        examples.labels[:150],
        settings=substitute.Settings(rounds=2),
        seed=11241991,
    )
    kept = [arrays for key, arrays in _stored(folder, "substitute") if key["round"] == 2]
    assert any(
        all(np.allclose(arrays[f"weight{place}"], weight, atol=1e-5) for place, weight in enumerate(last.weights))
        for arrays in kept
    )
    attacked = attacks.fgsm(model, examples.images[150:], eps=0.3)
    correct = accuracy.predict(oracle, attacked) == examples.labels[150:]
    assert results["cells"][0]["value"] == pytest.approx(correct.mean())


def test_a_second_run_computes_nothing_again(run, finished):
    folder, first = finished
    before = _times(folder)
    assert run(folder)["cells"] == first["cells"]
    assert _times(folder) == before


def test_other_networks_never_meet_old_cells(run, write_preset, finished, tmp_path):
    folder, _ = finished
    before = {kind: len(_times(folder, kind)) for kind in ("projection", "prediction")}
    other = write_preset(tmp_path / "other", 2)
    run(tmp_path / "out", preset_dir=str(other), cells_dir=str(folder / "cells"))
    # Two defences, three blocks of questions and one of evaluated images each; one and one without defence.
    assert len(_times(folder, "projection")) == before["projection"] + 8
    assert len(_times(folder, "prediction")) == before["prediction"] + 10


@pytest.mark.parametrize("change", ["answer", "seed", "weights", "settings"])
def test_a_round_is_that_of_its_own_oracle_and_recipe(finished, preset, monkeypatch, change):
    folder, _ = finished
    flags.FLAGS(["program"])
    values = FEW | {"preset_dir": str(preset), "output_dir": str(folder), "num_images": 6}
    with flagsaver.flagsaver(**values | ({"seed": 5} if change == "seed" else {})):
        table4._attack.cache_clear()
        attack = table4._attack()
        if change == "answer":  # the oracle says another thing of one point
            ask = attack.ask

            def other(defense, number, block):
                labels, seconds = ask(defense, number, block)
                return np.append(labels[:-1], (labels[-1:] + 1) % 10), seconds

            monkeypatch.setattr(attack, "ask", other)
        elif change == "weights":
            weights = [array + 1e-7 for array in attack._first.weights]
            monkeypatch.setattr(attack, "_first", attack._first._replace(weights=weights))
        elif change == "settings":
            monkeypatch.setattr(attack, "settings", substitute.Settings(rounds=2, learning_rate=1.1e-3))
        before = set(_times(folder, "substitute"))
        attack.round("none", 2)
        assert len(set(_times(folder, "substitute")) - before) == (1 if change == "answer" else 2)
    table4._attack.cache_clear()


def test_an_interrupted_run_goes_on_inside_an_oracles_answer(run, finished, tmp_path, monkeypatch):
    project, left = whitebox.WhiteBox.projected, [2]

    def interrupted(*arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return project(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(whitebox.WhiteBox, "projected", interrupted)
        run(tmp_path)
    kept = _times(tmp_path)
    assert len(_times(tmp_path, "projection")) == 2
    assert json.loads((tmp_path / "results.json").read_text())["complete"] is False  # the bare row is done
    results = run(tmp_path)
    assert results["complete"] is True
    assert {name: _times(tmp_path)[name] for name in kept} == kept
    for cell, other in zip(results["cells"], finished[1]["cells"]):
        assert {**cell, "seconds": 0} == {**other, "seconds": 0}


def test_a_killed_run_on_two_cores_goes_on(preset, finished, tmp_path):
    command = [sys.executable, "-m", "experiments.table4", *TYPED, "--workers=2"]
    command += [f"--preset_dir={preset}", f"--output_dir={tmp_path}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not _times(tmp_path, "projection") and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    kept = _times(tmp_path)
    assert kept
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {name: _times(tmp_path)[name] for name in kept} == kept
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["complete"] is True and (tmp_path / "table.md").read_text().strip() in done.stdout
    for cell, alone in zip(results["cells"], finished[1]["cells"]):  # one thread a process rounds otherwise
        assert cell["n"] == alone["n"] and cell["queries"] == alone["queries"]
        assert cell["value"] == pytest.approx(alone["value"], abs=1 / 6 + 1e-9)


def test_a_fast_projector_is_first_compared_with_the_exact_one(run, tmp_path, capsys):
    few = {"steps": None, "defensegan_steps": None, "num_images": 2, "agreement_images": 2, "substitute_rounds": 1}
    results = run(tmp_path, projector="fast", defenses=["defensegan"], **few)
    table, printed = (tmp_path / "table.md").read_text(), capsys.readouterr().out
    assert [cell["row"] for cell in results["cells"]] == ["DefenseGAN"]
    assert {cell["queries"] for cell in results["cells"]} == {0}  # a single round asks nothing
    (finding,) = results["findings"]
    assert finding["row"] == "DefenseGAN" and finding["n"] == 2 and 0 <= finding["agreement"] <= 1
    assert 0 <= finding["another_seed"] <= 1
    assert finding["text"] in table and printed.index(finding["text"]) < printed.index("## Table 4")
    assert "Fast projector in place of" in table
    used = {
        (key["indices"][0], key["defense"]["projector"].split("(")[0], key["seed"])
        for key, _ in _stored(tmp_path, "projection")
    }
    seed = results["settings"]["seed"]
    assert used == {(150, "ExactProjector", seed), (150, "ExactProjector", seed + 2), (150, "FastProjector", seed)}


def test_t_is_200_unless_it_is_given(preset):
    flags.FLAGS(["program"])
    for given, expected in ((None, 200), (1000, 1000)):
        with flagsaver.flagsaver(steps=given, preset_dir=str(preset), num_images=1, bare_images=1, agreement_images=1):
            table4._attack.cache_clear()
            attack = table4._attack()
            assert attack._model("invgan").steps == expected and attack._model("invgan").projector == "exact"
            assert attack._model("defensegan").steps == 200


@pytest.mark.parametrize("name", ["num_images", "bare_images", "agreement_images"])
def test_more_images_than_are_left_are_refused(refused, name):
    assert f"--{name} is 9,851, and 9,850 test images are left" in refused(table4, **{name: 9851})


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--num_images=9851", "--num_images is 9,851"),
        ("--substitute_rounds=0", "substitute_rounds"),
        ("--preset_dir=nowhere", "nowhere"),
    ],
)
def test_usage_errors_are_one_line(flag, named, tmp_path):
    command = [sys.executable, "-m", "experiments.table4", flag, f"--output_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert named in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
