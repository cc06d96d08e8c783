"""Tables 1 and 5 and Figure 3 on untrained networks: every row and column, and what their figures are."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf
from matplotlib import image

from experiments import common_flags, figure3, gan_quality, inference, table1, table5
from invgan_tf import data, defenses, files, models, presets, projection
from invgan_tf.evaluation import accuracy
from invgan_tf.models import classifiers
from tests.experiments import colour

COUNT = 20  # more images than the classifier has features


@pytest.fixture(scope="module", autouse=True)
def short():
    """A classifier of 16 features, and two steps of direct optimisation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(classifiers._RESIDUAL, "small", ((16, 16), 1))
        patch.setattr(inference, "DIRECT", inference.DIRECT._replace(steps=2))
        yield


@pytest.fixture(scope="module")
def colour_preset(short, tmp_path_factory):
    parts = colour.TABLE1_PARTS
    return colour.write_preset(tmp_path_factory.mktemp("presets") / "dcgan", "cifar10", parts, "small")


@pytest.fixture(scope="module")
def given(colour_preset, tmp_path_factory):
    cells = tmp_path_factory.mktemp("cells")
    values = {"dataset": "cifar10", "preset_dir": str(colour_preset), "cells_dir": str(cells), "num_images": COUNT}
    return values | {"defensegan_steps": None, "steps": 3}


@pytest.fixture(scope="module")
def first(run_program, given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table1")
    return folder, run_program(table1, folder, **given)


ROWS = ["ALI", "AGE", "Direct Optimization", "InvGAN (T=0)", "InvGAN (T=3)"]


def test_table1_measures_every_row(first):
    folder, results = first
    assert results["complete"] is True and results["experiment"] == "table1" and results["trained_pairs"] == 1
    places = [(cell["row"], cell["column"]) for cell in results["cells"]]
    assert places == [(row, column) for row in ROWS for column in inference.COLUMNS]
    for cell in results["cells"]:
        assert cell["n"] == COUNT and cell["ci95"][0] <= cell["value"] <= cell["ci95"][1]
        assert (cell["std"] is not None) == (cell["column"] == "MSE")
    published = {(cell["row"], cell["column"]): cell["paper"] for cell in results["cells"]}
    assert published["ALI", "MSE"] == 0.32 and published["InvGAN (T=0)", "Accuracy"] == 0.59
    assert published["InvGAN (T=3)", "MSE"] is None and published["AGE", "classifier-FID"] is None
    assert "(paper: 0.43)" in (folder / "table.md").read_text()


def test_cells_are_what_the_library_gives(first, colour_preset):
    cells = {(cell["row"], cell["column"]): cell["value"] for cell in first[1]["cells"]}
    examples = data.load("cifar10", "test", limit=COUNT)
    classifier = presets.load_classifier(colour_preset, "small")
    generator = presets.load(colour_preset, "generator")

    def expect(row, images):
        assert cells[row, "MSE"] == pytest.approx(float(np.mean((images - examples.images) ** 2)), rel=1e-4)
        right = accuracy.predict(classifier, images) == examples.labels
        assert cells[row, "Accuracy"] == pytest.approx(float(np.mean(right)))

    direct = defenses.DefenseGAN(
        generator, optimizer=projection.Momentum(1.0, 0.7), steps=2, restarts=1, value_range=(-1.0, 1.0)
    )
    expect("Direct Optimization", direct.project(examples.images, seed=11241990).images)
    inverted = defenses.InvGAN(generator, presets.load(colour_preset, "inverter"), value_range=(-1.0, 1.0))
    expect("InvGAN (T=3)", inverted.project(examples.images, steps=3).images)
    codes = presets.load(colour_preset, "age_encoder")(examples.images)
    expect("AGE", np.asarray(presets.load(colour_preset, "age_generator")(codes)))
    parameters = presets.load(colour_preset, "ali_encoder")((examples.images + 1) / 2).numpy()
    noise = np.stack([tf.random.stateless_normal((64,), (11241990, index)) for index in range(COUNT)])
    latents = parameters[:, :64] + np.exp(parameters[:, 64:]) * noise
    expect("ALI", 2.0 * np.asarray(presets.load(colour_preset, "ali_decoder")(latents)) - 1.0)


def test_claims_speak_of_their_columns_and_know_which_way_is_better(first):
    cells = {(cell["row"], cell["column"]): cell["value"] for cell in first[1]["cells"]}
    found = {(one["claim"], one["column"]): one for one in first[1]["comparisons"]}
    columns = {claim: {c for k, c in found if k == claim} for claim, _ in found}
    assert columns["InvGAN (T=0) is ahead of ALI"] == {"Accuracy", "classifier-FID"}
    assert columns["Direct Optimization has a lower MSE than InvGAN (T=0)"] == {"MSE"}
    for one in found.values():
        difference = cells[one["rows"][0], one["column"]] - cells[one["rows"][1], one["column"]]
        assert one["difference"] == pytest.approx(difference, abs=1e-9)
        if one["column"] in inference.FALLING and one["p"] < 0.05:
            assert one["verdict"] == ("confirmed" if difference < 0 else "refuted")


def test_generators_samples_are_judged_beside_an_untrained_ones(first):
    texts = [finding["text"] for finding in first[1]["findings"]]
    assert f"of the {COUNT} test images themselves rightly" in texts[0]
    judged = first[1]["findings"][1]
    assert judged["trained classifier-FID"] > 0 and judged["untrained classifier-FID"] > 0
    assert judged["trained classifier-FID"] != judged["untrained classifier-FID"]


def test_a_second_run_takes_what_is_kept(first, run_program, given, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("reconstructed anew")

    monkeypatch.setattr(inference.Inference, "_run", refuse)
    again = run_program(table1, tmp_path, **given)
    assert again["cells"] == first[1]["cells"]


def test_table5_compares_both_inverters(run_program, given, tmp_path):
    results = run_program(table5, tmp_path, **given | {"steps": None})
    assert results["complete"] is True
    assert [cell["row"] for cell in results["cells"]] == ["w/o L_adv"] * 4 + ["Ours"] * 4
    published = {(cell["row"], cell["column"]): cell["paper"] for cell in results["cells"]}
    assert published["w/o L_adv", "Accuracy"] == 0.603 and published["Ours", "MSE"] == 0.10
    assert len({cell["value"] for cell in results["cells"] if cell["column"] == "MSE"}) == 2


def test_inception_columns_come_with_its_weights(run_program, given, tmp_path, monkeypatch):
    def by_inception(path, value_range):
        assert (path, value_range) == ("some/file", (-1.0, 1.0))
        return lambda images: (images[:, ::16, ::16, 0].reshape(len(images), -1), np.full((len(images), 3), 1 / 3))

    monkeypatch.setattr(inference.image_networks, "by_inception", by_inception)
    results = run_program(table5, tmp_path, **given | {"steps": None, "inception_weights": "some/file"})
    cells = {(cell["row"], cell["column"]): cell for cell in results["cells"]}
    assert cells["Ours", "IS"]["value"] == pytest.approx(1.0) and cells["Ours", "IS"]["paper"] == 7.72
    assert cells["Ours", "FID"]["value"] > 0 and cells["w/o L_adv", "FID"]["paper"] == 28.07


@pytest.mark.slow
def test_figure3_shows_every_rival(run_program, given, tmp_path):
    results = run_program(figure3, tmp_path, **given | {"num_images": 3})
    assert results["complete"] is True and [cell["row"] for cell in results["cells"]] == ROWS
    drawn = image.imread(tmp_path / "figure3.png")
    assert drawn.shape[0] > 900 and len(np.unique(drawn[..., :3].reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize(
    ("program", "values", "said"),
    [
        (table1, {"dataset": "mnist"}, "is of cifar10 alone, got --dataset=mnist"),
        (table1, {"steps": 0}, "--steps=0: T of the last row must be at least 1"),
        (table5, {}, "leave out --steps"),
        (table1, {"defensegan_steps": 5}, "leave out --projector and --defensegan_steps"),
    ],
)
def test_flags_that_do_not_fit_are_named(refused, given, program, values, said):
    assert said in refused(program, **given | values)


def test_a_preset_without_rivals_is_named(run_program, given, tmp_path):
    bare = colour.write_preset(tmp_path / "bare", "cifar10", colour.RESIDUAL_PARTS, "small")
    with pytest.raises(common_flags.FlagError, match="lacks age_encoder, age_generator, ali_decoder, ali_encoder"):
        run_program(table1, tmp_path / "out", **given | {"preset_dir": str(bare)})


@pytest.mark.parametrize(
    ("values", "said"),
    [({"num_images": 16}, "needs more than 16 images, got 16"), ({"inception_weights": "no/file"}, "no/file")],
)
def test_figures_that_cannot_be_measured_are_named(run_program, given, tmp_path, values, said):
    with pytest.raises(common_flags.FlagError, match=said):
        run_program(table5, tmp_path, **given | {"steps": None} | values)


def test_samples_are_followed_along_a_training(run_program, given, tmp_path, monkeypatch):
    examples = data.load("cifar10", "test", limit=COUNT)
    monkeypatch.setattr(data, "load", lambda name, split, **kwargs: examples if split == "validation" else None)
    run = tmp_path / "gan"
    for steps in (50, 100):
        (run / "snapshots" / f"{steps:06d}").mkdir(parents=True)
        generator = models.build("generator", (32, 32, 3), family="sn_resnet", width=2)
        if steps == 100:  # a generator that draws nothing but grey
            generator.get_layer("conv").kernel.assign(0.0 * generator.get_layer("conv").kernel)
        presets.save_weights(generator, run / "snapshots" / f"{steps:06d}" / "generator.safetensors")
    files.write_sealed(run / "settings.json", {"settings": {"dataset": "cifar10", "family": "sn_resnet", "width": 2}})
    with pytest.raises(SystemExit) as ended:
        run_program(gan_quality, tmp_path / "out", **given | {"run": str(run)})
    assert ended.value.code == 1  # nothing that comes after the gate begins
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["complete"] is True and {cell["row"] for cell in results["cells"]} == {"0", "50", "100"}
    cells = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    assert cells["100", "classifier-IS"] == pytest.approx(1.0)
    (finding,) = results["findings"]
    assert finding["times_nearer"] == pytest.approx(cells["0", "classifier-FID"] / cells["100", "classifier-FID"])
    assert finding["last_change"] == pytest.approx(cells["100", "classifier-FID"] / cells["50", "classifier-FID"] - 1)
    assert finding["passed"] is False
    assert (tmp_path / "out" / "gan_quality.png").stat().st_size > 5_000
    with pytest.raises(common_flags.FlagError, match=r"holds no settings\.json"):
        run_program(gan_quality, tmp_path / "none", **given | {"run": str(tmp_path)})


@pytest.mark.parametrize(
    ("distances", "passed"),
    [
        ((10, 4, 4.1), True),
        ((10, 4, 4.5), False),
        ((10, 6, 5.5), False),
        ((10, 4, 4, 3, 3.6), True),  # a swing: the last two are nearer than the two before
        ((10, 3, 3, 3, 3.6), False),
    ],
)
def test_the_gate_asks_for_samples_that_are_near_and_no_longer_get_worse(distances, passed):
    cells = {(str(step), "classifier-FID"): types.SimpleNamespace(value=value) for step, value in enumerate(distances)}
    found = []
    told = gan_quality._judge(
        types.SimpleNamespace(cells=cells, find=lambda text, facts: found.append(facts)),
        [str(step) for step in range(len(distances))],
    )
    assert [facts["passed"] for facts in found] == [told] == [passed]
