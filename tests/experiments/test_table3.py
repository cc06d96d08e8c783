"""Table 3 as a user runs it, after Table 2 and on its own."""

import json

import numpy as np
import pytest
import tensorflow as tf

from experiments import table2, table3
from invgan_tf import data, presets
from invgan_tf.evaluation import detection

ATTACKS = ["clean", "fgsm", "rp", "bpda"]


@pytest.fixture(scope="module")
def finished(run_program, tmp_path_factory):
    folders = [tmp_path_factory.mktemp("table2"), tmp_path_factory.mktemp("table3")]
    cells_dir = str(folders[0] / "cells")
    run_program(table2, folders[0], attacks=ATTACKS)
    before = {path.name: path.stat().st_mtime_ns for path in (folders[0] / "cells").iterdir()}
    results = run_program(table3, folders[1], attacks=ATTACKS, cells_dir=cells_dir)
    after = {path.name: path.stat().st_mtime_ns for path in (folders[0] / "cells").iterdir()}
    return folders[1], results, before, after


def test_it_has_every_cell_and_reuses_table_2(finished):
    _, results, before, after = finished
    assert results["experiment"] == "table3" and results["complete"] is True
    rows = ["DefenseGAN", "InvGAN", "DefenseGAN (image space)", "InvGAN (image space)"]
    places = [(cell["row"], cell["column"]) for cell in results["cells"]]
    assert places == [(row, column) for row in rows for column in ("FGSM", "RP", "BPDA")]
    assert before == after  # nothing was computed again, nor anew
    published = {(cell["row"], cell["column"]): cell["paper"] for cell in results["cells"]}
    assert published["InvGAN", "FGSM"] == 0.9985 and published["InvGAN (image space)", "FGSM"] is None
    for cell in results["cells"]:
        assert cell["n"] == (2 if cell["column"] == "BPDA" else 6)
        assert cell["ci95"][0] <= cell["value"] <= cell["ci95"][1]


def test_cells_are_the_areas_of_the_stored_projections(finished, preset):
    folder, results, before, _ = finished
    generator, classifier = presets.load(preset, "generator"), presets.load_classifier(preset, "A")
    clean = data.load("mnist", "test", limit=6).images
    stored = {}
    for name in before:
        with np.load(folder.parent / "table20" / "cells" / name, allow_pickle=False) as file:
            key = json.loads(str(file["key"]))
            stored.setdefault(key["kind"], []).append((key, dict(file)))
    attacked = next(arrays["images"] for key, arrays in stored["attack"] if key["attack"] == "fgsm")
    from experiments import cells

    def scores(images):
        wanted = cells.fingerprint(images)
        (latents,) = (
            arrays["latents"]
            for key, arrays in stored["projection"]
            if key["images"] == wanted and key["defense"]["defense"] == "InvGAN"
        )
        return detection.feature_score(classifier, images, generator(latents).numpy())

    value = detection.AUC.of(scores(clean), scores(attacked)).value
    found = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    assert found["InvGAN", "FGSM"] == pytest.approx(value)


def test_claims_are_answered_for_every_attack(finished):
    _, results, _, _ = finished
    claims = {(given["claim"], given["column"]): given for given in results["comparisons"]}
    assert len(claims) == 3 * 3
    better = claims["InvGAN detects better than DefenseGAN", "FGSM"]
    values = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    assert better["difference"] == pytest.approx(values["InvGAN", "FGSM"] - values["DefenseGAN", "FGSM"])
    assert better["verdict"] in ("confirmed", "refuted", "undecided") and 0 <= better["p"] <= 1


def test_files_and_tensorboard_show_it(finished):
    folder, _, _, _ = finished
    table = (folder / "table.md").read_text()
    assert "(paper: 0.9985)" in table and "feature space beats image space" in table
    assert (folder / "roc.png").read_bytes()[:4] == b"\x89PNG"
    plugins = {}
    for path in folder.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            plugins |= {value.tag: value.metadata.plugin_data.plugin_name for value in event.summary.value}
    assert plugins["detection/InvGAN/FGSM/pr_curves"] == "pr_curves"
    assert plugins["score/InvGAN/FGSM/attacked"] == "histograms"
    assert plugins["roc"] == "images" and plugins["table3/InvGAN/FGSM"] == "scalars"
    assert "hparams" in plugins.values()


@pytest.mark.parametrize("values", [{"attacks": ["clean"]}, {"defenses": ["none"]}])
def test_nothing_to_detect_is_refused(refused, values):
    assert "name an attack and a defence" in refused(table3, **values)
