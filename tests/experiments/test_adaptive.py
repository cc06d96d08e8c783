"""The adaptive evaluation as a user runs it, on an untrained preset, and its images scored again."""

import importlib.util
import shutil

import numpy as np
import pytest
import tensorflow as tf

from experiments import adaptive, adaptive_curves, adaptive_evaluation, report
from experiments.adaptive_evaluation import CLEAN, Ball, Cell, Outcome
from invgan_tf import data, files
from tools import rescore

if importlib.util.find_spec("art") is None:
    pytest.skip("the Adversarial Robustness Toolbox is not installed", allow_module_level=True)

FEW = {
    "num_images": 4,
    "inside_images": 3,
    "detector_images": 4,
    "linf_eps": ["0.1", "0.3"],
    "l2_eps": ["2"],
    "few_eps": ["0.3"],
    "attack_steps": 2,
    "attack_restarts": 2,
    "queries": ["1", "2"],
}


@pytest.fixture(scope="module")
def finished(run_program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adaptive")
    adaptive_evaluation.from_flags.cache_clear()
    return folder, run_program(adaptive, folder, **FEW)


def test_every_cell_is_there_and_the_worst_case_is_no_higher_than_any_attack(finished):
    folder, results = finished
    assert results["complete"] is True
    values = {(cell["row"], cell["column"]): cell for cell in results["cells"]}
    for row in ("No Defense", "DefenseGAN", "InvGAN"):
        assert {column for name, column in values if name == row} == {"Clean", "Linf 0.1", "Linf 0.3", "L2 2"}
        left = [values[row, column]["value"] for column in ("Clean", "Linf 0.1", "Linf 0.3")]
        assert left[1] >= left[2]
    for row in ("DefenseGAN with detector", "InvGAN with detector"):  # where an attack aims at it
        assert {column for name, column in values if name == row} == {"Clean", "Linf 0.3", "L2 2"}
    said = {(finding["row"], finding["column"]) for finding in results["findings"] if "flagged" in finding}
    assert said == {(row, column) for row in ("DefenseGAN", "InvGAN") for column in ("Linf 0.3", "L2 2")}
    attacks = [place for place in values if place[0].startswith("InvGAN: ") and place[1] == "Linf 0.3"]
    assert len(attacks) == 11
    for path in (folder / "images").glob("invgan-*-Linf0.3.npz"):
        with np.load(path) as file:
            single = np.mean((file["predicted"] == file["labels"])[: FEW["inside_images"]])
        assert values["InvGAN", "Linf 0.3"]["value"] <= single
    assert values["InvGAN: transfer of PGD from the bare classifier", "Linf 0.1"]["n"] == 4
    assert values["InvGAN: latent space", "Linf 0.1"]["n"] == values["InvGAN", "Linf 0.1"]["n"] == 3


def test_pictures_and_scalars_of_the_curves(finished):
    folder, _ = finished
    assert (folder / "robust_accuracy.png").read_bytes()[:4] == b"\x89PNG"
    tags = set()
    for path in folder.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {"robust_accuracy", "robust_accuracy_inf/InvGAN", "robust_accuracy_2/DefenseGAN"} <= tags


def test_scored_again_the_images_give_the_same_numbers(finished, preset):
    folder, _ = finished
    problems, checked = rescore.check(folder, str(preset), images=None)
    assert problems == [] and checked == len(list((folder / "images").iterdir()))


@pytest.mark.parametrize("spoilt", ["attacked", "predicted", "results", "unfinished"])
def test_a_number_that_is_not_that_of_its_images_is_named(finished, preset, tmp_path, spoilt):
    folder, _ = finished
    results = report.read(folder / "results.json")
    (tmp_path / "images").mkdir()
    for path in (folder / "images").glob("none-bare-Linf*.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        if spoilt == "attacked":
            arrays["attacked"] = np.clip(arrays["attacked"] + 0.5, 0, 1)
        if spoilt == "predicted":
            arrays["predicted"] = (arrays["predicted"] + 1) % 10
        np.savez(tmp_path / "images" / path.name, **arrays)
    if spoilt == "results":
        for cell in results["cells"]:
            cell["value"] = 0.123
    if spoilt == "unfinished":
        results["cells"] = [cell for cell in results["cells"] if cell["row"] != "No Defense"]
    files.write_sealed(tmp_path / "results.json", results)
    problems, _ = rescore.check(tmp_path, str(preset), images=None)
    said = {"attacked": "outside", "predicted": "predict", "results": "0.123", "unfinished": "not complete"}[spoilt]
    assert any(said in line for line in problems)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dataset": "cifar10"}, "--dataset must be mnist or fashion_mnist here, got cifar10"),
        ({"few_eps": ["0.7"]}, "--few_eps must list some of --linf_eps"),
        ({"defenses": ["invgan"]}, "--defenses must list defensegan and invgan"),
        ({"num_images": 9998}, "--num_images reaches into the images that calibrate"),
        ({"inside_images": 5}, "--inside_images must not exceed --num_images"),
        ({"only": ["rp"]}, "--only must list some of pgd, bpda_pgd"),
    ],
)
def test_flags_that_do_not_fit_are_refused(refused, values, said):
    assert said in refused(adaptive, **{**FEW, **values})


def test_a_detector_row_that_is_not_that_of_its_images_is_named(finished, preset, tmp_path):
    folder, _ = finished
    results = report.read(folder / "results.json")
    shutil.copytree(folder / "images", tmp_path / "images")
    changed = [cell for cell in results["cells"] if cell["row"] == "InvGAN with detector"]
    for cell in changed:
        cell["value"] += 0.125  # no share of 3 or 4 images lies there
    files.write_sealed(tmp_path / "results.json", results)
    problems, _ = rescore.check(tmp_path, str(preset), images=None)
    assert {line.split(":")[0] for line in problems} == {f"{cell['row']}, {cell['column']}" for cell in changed}


def test_only_the_attacks_asked_for_on_the_split_asked_for(run_program, tmp_path, monkeypatch):
    adaptive_evaluation.from_flags.cache_clear()
    loaded, load = [], data.load
    monkeypatch.setattr(
        data, "load", lambda name, split, **others: loaded.append(split) or load(name, "test", **others)
    )
    results = run_program(adaptive, tmp_path, **FEW, only=["latent"], split="validation")
    adaptive_evaluation.from_flags.cache_clear()
    assert set(loaded) == {"validation"} and results["settings"]["split"] == "validation"
    single = {cell["row"] for cell in results["cells"] if ":" in cell["row"]}
    assert single == {
        "No Defense: no attack",
        *(f"{row}: {what}" for row in ("DefenseGAN", "InvGAN") for what in ("no attack", "latent space")),
    }


def test_least_perturbation_counts_every_ball(finished):
    folder, _ = finished
    assert report.read(folder / "results.json")["experiment"] == "adaptive"
    clean = np.zeros((3, 2, 2, 1), np.float32)
    labels, fooled = np.zeros(3, int), np.array([0, 1, 1])

    def outcome(shift, predicted):
        return Outcome(clean, clean + np.float32(shift), labels, np.asarray(predicted), np.zeros(3), 0.0)

    outcomes = {
        Cell(CLEAN, "none", Ball("inf", 0.0)): outcome(0.0, [0, 0, 1]),
        Cell("a", "none", Ball("inf", 0.3)): outcome(0.25, fooled),
        Cell("b", "none", Ball("2", 1.0)): outcome(0.1, [0, 1, 0]),
    }
    sizes, won = adaptive_curves.least(outcomes, "inf", 3)
    np.testing.assert_allclose(sizes, [np.inf, 0.1, 0.0])
    assert [cell and cell.attack for cell in won] == [None, "b", CLEAN]
    np.testing.assert_allclose(adaptive_curves.least(outcomes, "2", 3)[0], [np.inf, 0.2, 0.0], rtol=1e-6)


def test_a_detector_that_flags_a_clean_image_costs_it_and_one_that_flags_an_attack_saves_it():
    clean, labels = np.zeros((3, 2, 2, 1), np.float32), np.zeros(3, int)
    outcomes = {
        Cell(CLEAN, "none", Ball("inf", 0.0)): Outcome(clean, clean, labels, labels, np.array([9.0, 1.0, 1.0]), 0.0),
        Cell("a", "none", Ball("inf", 0.1)): Outcome(
            clean, clean + np.float32(0.1), labels, labels + 1, np.array([1.0, 9.0, 1.0]), 0.0
        ),
    }
    np.testing.assert_allclose(adaptive_curves.least(outcomes, "inf", 3, threshold=5.0)[0], [0.0, np.inf, 0.1])
    np.testing.assert_allclose(adaptive_curves.least(outcomes, "inf", 3)[0], [0.1] * 3)
