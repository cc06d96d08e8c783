"""What ships for CIFAR-10: a clone's Tables 1 and 5 and Figure 3 need nothing else."""

from experiments import figure3, table5

PRESET = {"dataset": "cifar10", "preset_dir": "cifar10_dcgan", "defensegan_steps": None, "steps": None}


def test_table5_is_measured_with_what_is_packaged(run_program, tmp_path):
    results = run_program(table5, tmp_path / "out", num_images=100, cells_dir=str(tmp_path / "cells"), **PRESET)
    cells = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    assert results["complete"] is True and len(cells) == 8
    # A hundred images are enough to tell both from other weights: the deviation of an image's error is 0.05.
    assert 0.07 < cells["w/o L_adv", "MSE"] < cells["Ours", "MSE"] < 0.12
    assert cells["Ours", "Accuracy"] > 0.12  # chance is 0.1
    assert results["comparisons"][0]["verdict"] == "confirmed"


def test_figure3_has_every_rival_of_table1(run_program, tmp_path):
    results = run_program(figure3, tmp_path / "out", num_images=4, cells_dir=str(tmp_path / "cells"), **PRESET)
    errors = {cell["row"]: cell["value"] for cell in results["cells"]}
    assert results["complete"] is True and len(errors) == 5
    assert (tmp_path / "out" / "figure3.png").read_bytes()[:4] == b"\x89PNG"
    # Descent from I(x) on the squared error ends below it; who never learnt to reconstruct is above both.
    assert errors["InvGAN (T=200)"] < errors["InvGAN (T=0)"] < errors["ALI"]
