"""Accuracy under DefenseGAN against the generator's training steps, on validation images.

`python -m experiments.gan_steps --dataset=mnist --snapshots=runs/mnist/gan/snapshots`, where `train_gan
--snapshot_every` left its weights.
"""

import functools
import pathlib

import matplotlib
import numpy as np
from absl import flags

from experiments import common_flags, measure, report, whitebox
from invgan_tf import data, defenses, models, presets
from invgan_tf.evaluation import accuracy

flags.DEFINE_string("snapshots", None, "Folder with one folder of weights a number of steps.")

FLAGS = flags.FLAGS


def main() -> None:
    """Measures clean and FGSM accuracy for every snapshot; writes results.json, a table and a picture."""
    found = pathlib.Path(FLAGS.snapshots or "").glob("*/generator.safetensors")
    folders = sorted((path.parent for path in found if path.parent.name.isdigit()), key=lambda path: int(path.name))
    if not folders:
        raise common_flags.FlagError(f"--snapshots={FLAGS.snapshots} holds no STEPS/generator.safetensors.")
    steps = [str(int(folder.name)) for folder in folders]
    table = report.Report(
        "gan_steps",
        FLAGS.dataset,
        f"DefenseGAN on {FLAGS.dataset} (validation images) against GAN training steps",
        steps,
        ["Clean", "FGSM"],
        whitebox.settings() | {"split": "validation", "snapshots": steps},
        common_flags.output_dir("gan_steps"),
    )
    places = [(attack, "defensegan") for attack in ("clean", "fgsm")]
    for step, folder in zip(steps, folders):
        for (attack, _), outcomes in measure.cells(places, f"{step} steps", _evaluation, str(folder)):
            table.add(_cell(step, attack, outcomes))
    _plot(table)
    print(table.markdown())


@functools.lru_cache(maxsize=1)
def _evaluation(folder: str) -> whitebox.WhiteBox:
    """Builds the evaluation of one snapshot with the preset's classifier."""
    dataset = data.spec(FLAGS.dataset)
    generator = models.build_generator(dataset.image_shape)
    presets.load_weights(generator, pathlib.Path(folder) / "generator.safetensors")
    defense = defenses.DefenseGAN(
        generator,
        steps=FLAGS.defensegan_steps,
        restarts=FLAGS.restarts,
        value_range=dataset.value_range,
        dtype=whitebox.projection_dtype(),
    )
    return whitebox.WhiteBox(
        whitebox.open_store(),
        dataset,
        whitebox.load_classifier(),
        {"defensegan": defense},
        data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir, limit=FLAGS.num_images),
    )


def _cell(step, attack, outcomes):
    correct = np.concatenate([outcome.logits.argmax(axis=1) == outcome.labels for outcome in outcomes])
    measured = accuracy.Proportion.of(correct)
    seconds = round(sum(outcome.seconds for outcome in outcomes), 2)
    column = whitebox.COLUMNS[attack]
    return report.Cell(step, column, measured.value, measured.ci95, measured.n, None, seconds)


def _plot(table: report.Report) -> None:
    """Draws accuracy with its interval against steps."""
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for column in table.columns:
        cells = [table.cells[row, column] for row in table.rows]
        steps = [int(row) for row in table.rows]
        axes.plot(steps, [cell.value for cell in cells], marker="o", label=f"{column} (n = {cells[0].n})")
        axes.fill_between(steps, [cell.ci95[0] for cell in cells], [cell.ci95[1] for cell in cells], alpha=0.2)
    axes.set(xlabel="GAN training steps", ylabel="accuracy under DefenseGAN", ylim=(0, 1.02), title=FLAGS.dataset)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(table.folder / "gan_steps.png", dpi=150)


if __name__ == "__main__":
    common_flags.run(main)
