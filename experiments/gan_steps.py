"""Accuracy under DefenseGAN against the generator's training steps, on validation images.

`python -m experiments.gan_steps --dataset=mnist --snapshots=runs/mnist/gan/snapshots`, where `train_gan
--snapshot_every` left its weights.
"""

import functools
import pathlib

import matplotlib.figure
from absl import flags

from experiments import common_flags, measure, pictures, report, whitebox, whitebox_flags
from invgan_tf import data, defenses, models, presets
from invgan_tf.evaluation import accuracy

flags.DEFINE_string("snapshots", None, "Folder with one folder of weights a number of steps.")

FLAGS = flags.FLAGS


def main() -> None:
    """Measures clean and FGSM accuracy for every snapshot; writes results.json, a table and a picture."""
    common_flags.refuse(*whitebox_flags.WHITE_BOX, "false_positive_rate", "shard")
    found = pathlib.Path(FLAGS.snapshots or "").glob("*/generator.safetensors")
    folders = sorted((path.parent for path in found if path.parent.name.isdigit()), key=lambda path: int(path.name))
    if not folders:
        raise common_flags.FlagError(f"--snapshots={FLAGS.snapshots} holds no STEPS/generator.safetensors.")
    steps = [str(int(folder.name)) for folder in folders]
    layout = report.Layout(
        experiment="gan_steps",
        dataset=FLAGS.dataset,
        title=f"DefenseGAN on {FLAGS.dataset} (validation images) against GAN training steps",
        rows=steps,
        columns=["Clean", "FGSM"],
    )
    settings = whitebox_flags.settings() | {"split": "validation", "snapshots": steps}
    table = report.Report(layout, settings, common_flags.output_dir("gan_steps"))
    places = [(attack, "defensegan") for attack in ("clean", "fgsm")]
    for step, folder in zip(steps, folders):
        for (attack, _), outcome in measure.cells(places, f"{step} steps", _evaluation, str(folder)):
            measured = accuracy.Proportion.of(outcome.correct)
            table.add(step, whitebox_flags.COLUMNS[attack], measured, seconds=outcome.seconds)
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
        steps=whitebox_flags.descents()["defensegan_steps"],
        restarts=FLAGS.restarts,
        value_range=dataset.value_range,
        dtype=whitebox_flags.projection_dtype(),
    )
    return whitebox.WhiteBox(
        whitebox_flags.open_store(),
        dataset,
        whitebox_flags.load_classifier(),
        {"defensegan": defense},
        data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir, limit=FLAGS.num_images),
    )


def _plot(table: report.Report) -> None:
    """Draws accuracy with its interval against steps."""
    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes, layout = figure.subplots(), table.layout
    for column in layout.columns:
        cells = [table.cells[row, column] for row in layout.rows]
        pictures.curve(axes, [int(row) for row in layout.rows], cells, column)
    axes.set(xlabel="GAN training steps", ylabel="accuracy under DefenseGAN", ylim=(0, 1.02), title=FLAGS.dataset)
    axes.legend()
    axes.grid(alpha=0.3)
    table.figure("gan_steps", figure)


if __name__ == "__main__":
    common_flags.run(main)
