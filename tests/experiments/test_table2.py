"""Table 2 as a user runs it: a program, its files, its exit status."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import presets

ATTACKS = "--attacks=clean,fgsm,rp,bpda"
SMALL = ["--dataset=mnist", "--num_images=6", "--steps=3", "--defensegan_steps=2", "--restarts=2", "--bpda_images=2"]
SMALL += ["--bpda_steps=1", "--workers=1", "--projection_dtype=float32"]


def _command(*arguments):
    return [sys.executable, "-m", "experiments.table2", *arguments]


def _run(*arguments):
    return subprocess.run(_command(*arguments), capture_output=True, text=True, timeout=600)


def _results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(preset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = _run(*SMALL, ATTACKS, f"--preset_dir={preset}", f"--output_dir={folder}")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done


def test_results_hold_every_cell_asked_for(finished):
    results = _results(finished[0])
    assert results["complete"] is True and results["experiment"] == "table2" and results["trained_pairs"] == 1
    places = [(cell["row"], cell["column"]) for cell in results["cells"]]
    rows, columns = ["No Defense", "DefenseGAN", "InvGAN"], ["Clean", "FGSM", "RP", "BPDA"]
    assert places == [(r, c) for r in rows for c in columns if (r, c) != ("No Defense", "BPDA")]
    for cell in results["cells"]:
        assert cell["n"] == (2 if cell["column"] == "BPDA" else 6)
        assert cell["ci95"][0] <= cell["value"] <= cell["ci95"][1]
        assert (cell["l2_median"] is None) == (cell["column"] == "Clean") or cell["attack_failures"] == cell["n"]
    published = {(cell["row"], cell["column"]): cell["paper"] for cell in results["cells"]}
    assert published["InvGAN", "FGSM"] == 0.78 and published["DefenseGAN", "BPDA"] == 0.79
    assert results["settings"]["steps"] == 3 and results["settings"]["seed"] == 11241990
    assert results["environment"]["tensorflow"] == tf.__version__


def test_rows_are_compared_image_by_image(finished):
    results = _results(finished[0])
    values = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    assert [given["column"] for given in results["comparisons"]] == ["Clean", "FGSM", "RP", "BPDA"]
    for given in results["comparisons"]:
        column = given["column"]
        assert given["difference"] == pytest.approx(values["InvGAN", column] - values["DefenseGAN", column])
        assert 0 < given["p"] <= 1 and given["verdict"] in ("confirmed", "refuted", "undecided")


def test_terminal_and_files_show_the_same_table(finished):
    folder, done = finished
    table = (folder / "table.md").read_text()
    assert table.strip() in done.stdout
    assert "(paper: 0.78)" in table and "n=6" in table
    tags = set()
    for path in folder.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert "table2/InvGAN/FGSM" in tags and "InvGAN/FGSM" in tags


def test_a_second_run_computes_nothing_again(preset, finished):
    folder, _ = finished
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    first = _results(folder)["cells"]
    assert _run(*SMALL, ATTACKS, f"--preset_dir={preset}", f"--output_dir={folder}").returncode == 0
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()} == before
    assert _results(folder)["cells"] == first


def test_other_weights_never_meet_old_cells(finished, write_preset, tmp_path):
    other = write_preset(tmp_path / "other", 2)
    folder, _ = finished
    arguments = [*SMALL, "--attacks=clean", f"--cells_dir={folder / 'cells'}", f"--preset_dir={other}"]
    before = len(list((folder / "cells").iterdir()))
    assert _run(*arguments, f"--output_dir={tmp_path / 'out'}").returncode == 0
    # Two projections and three predictions of six images under the other weights.
    assert len(list((folder / "cells").iterdir())) == before + 5


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_run_goes_on(preset, tmp_path, sent):
    arguments = [*SMALL, "--attacks=clean,fgsm", f"--preset_dir={preset}", f"--output_dir={tmp_path}"]
    with open(tmp_path / "stderr", "w") as said:
        process = subprocess.Popen(_command(*arguments), stderr=said, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / "results.json").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(sent)
    allowed = [-sent, 0, *([] if sent == signal.SIGKILL else [128 + sent])]  # -sent, 0: all was done before
    assert process.wait(timeout=60) in allowed, (tmp_path / "stderr").read_text()[-3000:]
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.npz")}
    assert kept
    assert _run(*arguments).returncode == 0
    assert _results(tmp_path)["complete"] is True
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.npz")}
    assert {name: after[name] for name in kept} == kept


def test_workers_agree_with_one_process(preset, finished, tmp_path):
    arguments = [argument for argument in SMALL if not argument.startswith("--workers")]
    done = _run(*arguments, "--attacks=clean,fgsm", "--workers=2", f"--preset_dir={preset}", f"--output_dir={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    alone = {(cell["row"], cell["column"]): cell["value"] for cell in _results(finished[0])["cells"]}
    for cell in _results(tmp_path)["cells"]:
        assert cell["value"] == pytest.approx(alone[cell["row"], cell["column"]], abs=1 / 6 + 1e-9)


def test_the_fast_projector_is_asked_for_by_name(preset, finished, tmp_path):
    arguments = ["--num_images=6", "--restarts=2", "--projection_dtype=float32", "--workers=1", "--attacks=clean"]
    cells = f"--cells_dir={finished[0] / 'cells'}"  # it must not meet the exact projector's
    done = _run(*arguments, "--projector=fast", cells, f"--preset_dir={preset}", f"--output_dir={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    results = _results(tmp_path)
    assert results["complete"] is True and results["settings"]["projector"] == "fast"
    assert "Fast projector in place of DefenseGAN" in (tmp_path / "table.md").read_text()
    losses = {cell["row"]: cell["projection_loss"] for cell in results["cells"]}
    exact = {
        cell["row"]: cell["projection_loss"] for cell in _results(finished[0])["cells"] if cell["column"] == "Clean"
    }
    assert all(losses[row] < exact[row] for row in ("DefenseGAN", "InvGAN"))  # which made three steps and two


def test_stored_images_score_to_the_reported_cell(preset, finished):
    """Anybody can re-score a run from its files."""
    folder, _ = finished
    classifier = presets.load_classifier(preset, "A")
    attacked = None
    for path in (folder / "cells").glob("attack-*.npz"):
        with np.load(path, allow_pickle=False) as file:
            if json.loads(str(file["key"]))["attack"] == "fgsm":
                attacked = file["images"]
    from invgan_tf import data
    from invgan_tf.evaluation import accuracy

    labels = data.load("mnist", "test", limit=6).labels
    cells = {(cell["row"], cell["column"]): cell["value"] for cell in _results(folder)["cells"]}
    assert np.mean(accuracy.predict(classifier, attacked) == labels) == pytest.approx(cells["No Defense", "FGSM"])


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--attacks=fgsm,magic", "attacks"),
        ("--defenses=", "defenses"),
        ("--num_images=0", "num_images"),
        ("--restarts=-1", "restarts"),
        ("--steps=many", "steps"),
        ("--projector=fast --steps=20", "leave them out with --projector=fast"),
        ("--no_such_flag=1", "no_such_flag"),
        ("--preset_dir=nowhere", "nowhere"),
        ("--attacks=bpda --defenses=none", "leave no cell"),
        ("--dataset=fashion_mnist --preset_dir=mnist", "trained on mnist, not on fashion_mnist"),
        (f"--cells_dir={__file__}", "test_table2.py"),
    ],
)
def test_usage_errors_name_the_flag_before_any_work(flag, named, tmp_path):
    done = _run("--dataset=mnist", *flag.split(), f"--output_dir={tmp_path}")
    assert done.returncode != 0
    assert named in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results.json").exists()


def test_programs_can_be_imported_together():
    names = "table2 table3 table4 figure2 figure4 figure7 reproduce gan_steps spread false_positives"
    names += " train_gan train_inverter train_classifier table1 table5 figure3 figure5 figure6 figure8 gan_quality"
    names += " train_ali train_age"
    code = "import " + ", ".join(f"experiments.{name}" for name in names.split())
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0
