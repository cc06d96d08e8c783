"""Figures 2, 4 and 7: what their pictures and tables hold."""

import numpy as np
import pytest
from matplotlib import image

from experiments import figure2, figure4, figure7, pictures
from invgan_tf import data, defenses, presets
from invgan_tf.evaluation import accuracy


@pytest.fixture(scope="module")
def cells_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cells"))


@pytest.mark.parametrize(
    ("program", "name", "attacks", "defended"),
    [(figure2, "figure2", ["bpda"], ["defensegan", "invgan"]), (figure7, "figure7", ["fgsm", "rp"], ["invgan"])],
)
def test_pictures_of_removal(run_program, cells_dir, tmp_path, program, name, attacks, defended):
    results = run_program(program, tmp_path, attacks=attacks, defenses=defended, cells_dir=cells_dir, shown=2)
    assert results["complete"] is True and len(results["cells"]) == 2
    for cell in results["cells"]:  # an untrained classifier may leave an attack nothing to do
        assert cell["n"] == 2 and (cell["attack_failures"] == 2 or cell["l2_median"] > 0)
    drawn = image.imread(tmp_path / f"{name}.png")
    assert drawn.shape[0] > 600 and len(np.unique(drawn.reshape(-1, drawn.shape[-1]), axis=0)) > 100


@pytest.mark.parametrize("values", [{"attacks": ["clean"]}, {"attacks": ["fgsm"], "defenses": ["none", "invgan"]}])
def test_removal_needs_attacks_and_defences(refused, values):
    assert "not clean, not none" in refused(figure7, **values)


def test_a_grid_lays_rows_under_each_other():
    rows = [np.full((3, 2, 2, 1), value, np.float32) for value in (-1.0, 1.0)]
    rows[0][2] = 0.0
    drawn = pictures.grid(rows, "cifar10")  # of pixels from -1 to 1
    assert drawn.shape == (4, 6, 1)
    np.testing.assert_array_equal(drawn[:2, :, 0], [[0, 0, 0, 0, 0.5, 0.5]] * 2)
    np.testing.assert_array_equal(drawn[2:], 1.0)


def test_a_row_of_fewer_images_ends_early():
    def strip(count):
        return pictures.Strip("row", np.zeros((count, 4, 4, 3), np.float32), [("1", pictures.RIGHT)] * count)

    figure = pictures.strips("title", [strip(2), strip(3)], "cifar10")
    assert [axes.axison for axes in figure.axes] == [True, True, False, True, True, True]


@pytest.fixture(scope="module")
def curves(run_program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure4")
    marks = {"invgan_steps": ["0", "2", "3"], "defensegan_marks": ["1", "4"], "restarts_shown": ["1", "2"]}
    return folder, run_program(figure4, folder, **marks)


def test_every_effort_is_a_cell(curves):
    folder, results = curves
    assert results["complete"] is True
    found = {(cell["row"], cell["column"]) for cell in results["cells"]}
    expected = {("DefenseGAN, R = 1", f"R*T = {e}") for e in (1, 4)}
    expected |= {("DefenseGAN, R = 2", f"R*T = {e}") for e in (2, 8)}
    expected |= {(row, f"R*T = {e}") for row in ("InvGAN", "InvGAN, Adam 0.1") for e in (0, 2, 3)}
    assert found == expected
    assert (folder / "figure4.png").stat().st_size > 10_000
    assert "R*T = 8" in results["findings"][0]["text"] and results["findings"][0]["full"] == 8


def test_points_are_what_projections_of_that_effort_give(curves, preset):
    _, results = curves
    examples, classifier = data.load("mnist", "test", limit=6), presets.load_classifier(preset, "A")
    found = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}

    def share(defense, **effort):
        projected = defense.project(examples.images, seed=11241990, **effort).images
        return np.mean(accuracy.predict(classifier, projected) == examples.labels)

    gan, inv = defenses.DefenseGAN.from_preset(preset), defenses.InvGAN.from_preset(preset)
    assert found["DefenseGAN, R = 2", "R*T = 8"] == pytest.approx(share(gan, steps=4, restarts=2))
    assert found["InvGAN", "R*T = 3"] == pytest.approx(share(inv, steps=3))


@pytest.mark.parametrize("given", [["3", "2"], ["1", "1"], ["-1", "2"], ["many"], []])
def test_marks_must_rise(refused, given):
    assert "rising whole numbers" in refused(figure4, invgan_steps=given)
