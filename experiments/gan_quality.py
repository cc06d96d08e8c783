"""How near a GAN's samples come to images along its training: `python -m experiments.gan_quality --run=FOLDER`.

`train_gan --snapshot_every` left weights in FOLDER; each snapshot's samples are compared with validation images.
"""

import pathlib
import sys

import matplotlib.figure
import matplotlib.ticker
import numpy as np
from absl import flags

from experiments import common_flags, inference, pictures, report, whitebox_flags
from invgan_tf import data, files, models, presets

flags.DEFINE_string("run", None, "Folder of a train_gan with --snapshot_every.")

FLAGS = flags.FLAGS

_UNTRAINED = "0"
_ASKED = 2.0  # how many times nearer than an untrained generator's a preset's samples are to be
_WORSE = 0.05  # by what share the last snapshots may lie farther than those before
_LAST = 2  # snapshots of a mean: training swings, so that one may lie farther than the one before without being worse


def main() -> None:
    """Measures every snapshot and an untrained generator; writes results.json, a table and a picture."""
    run = pathlib.Path(FLAGS.run or "")
    folders = sorted(path.parent for path in run.glob("snapshots/*/generator.safetensors"))
    if not folders or not (run / "settings.json").is_file():
        raise common_flags.FlagError(
            f"--run={FLAGS.run} holds no settings.json with snapshots/STEPS/generator.safetensors."
        )
    trained = files.read_sealed(run / "settings.json")["settings"]
    if trained["dataset"] != FLAGS.dataset:
        raise common_flags.FlagError(f"--run={FLAGS.run} trained on {trained['dataset']}, not on {FLAGS.dataset}.")
    dataset = data.spec(FLAGS.dataset)
    examples = data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir, limit=FLAGS.num_images)
    judge = inference.Judge(dataset, examples, whitebox_flags.load_classifier())
    steps = [_UNTRAINED, *(str(int(folder.name)) for folder in folders)]
    layout = report.Layout(
        experiment="gan_quality",
        dataset=FLAGS.dataset,
        title=f"Samples of a GAN on {FLAGS.dataset} against its training steps (validation images)",
        rows=steps,
        columns=[name for name in inference.columns() if name not in ("MSE", "Accuracy")],
        legend="figure [95 % interval over images]",
        falling=inference.FALLING,
    )
    settings = {
        name: FLAGS[name].value
        for name in ("dataset", "num_images", "seed", "preset_dir", "classifier_dir", "inception_weights", "run")
    }
    table = report.Report(layout, settings, common_flags.output_dir("gan_quality"))
    for step, folder in zip(steps, [None, *folders]):
        generator = models.build(
            "generator", dataset.image_shape, family=trained["family"], width=trained["width"], dtype="float32"
        )
        if folder is not None:
            presets.load_weights(generator, folder / "generator.safetensors")
        images = inference.samples(generator, len(examples))
        for column, measured in judge.realism(images).items():
            table.add(step, column, measured, seconds=0.0)
        table.show(
            f"samples/{step}",
            pictures.grid(images[: min(100, len(images) // 10 * 10)].reshape(10, -1, *images.shape[1:]), FLAGS.dataset),
        )
    passed = _judge(table, steps)
    _plot(table)
    print(table.markdown())
    if not passed:
        sys.exit(1)


def _judge(table, steps) -> bool:
    """Adds the gate a preset has to pass: far nearer than an untrained generator, and no longer getting worse."""
    distances = [table.cells[step, "classifier-FID"].value for step in steps]
    span = max(1, min(_LAST, (len(steps) - 1) // 2))
    last, before = np.mean(distances[-span:]), np.mean(distances[-2 * span : -span])
    times, change = distances[0] / distances[-1], float(last / before - 1.0)
    text = (
        f"After {steps[-1]} steps samples are {times:.1f} times nearer to the images than an untrained generator's "
        f"({_ASKED:g} asked for). From {' and '.join(steps[-2 * span : -span])} to {' and '.join(steps[-span:])} steps "
        f"the distance changed by {100 * change:+.0f} % (at most {100 * _WORSE:+.0f} asked for)."
    )
    passed = times >= _ASKED and change <= _WORSE
    table.find(text, {"times_nearer": times, "last_change": change, "passed": passed})
    return passed


def _plot(table):
    """Draws the distance with its interval against steps."""
    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes, rows = figure.subplots(), table.layout.rows
    cells = [table.cells[row, "classifier-FID"] for row in rows]
    pictures.curve(axes, [int(row) for row in rows], cells, "samples against validation images")
    axes.set(xlabel="GAN training steps", ylabel="classifier-FID", yscale="log", title=FLAGS.dataset)
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(matplotlib.ticker.ScalarFormatter())  # 20 rather than 2 x 10^1
    axes.legend()
    axes.grid(alpha=0.3)
    table.figure("gan_quality", figure)


if __name__ == "__main__":
    common_flags.run(main, "--dataset=cifar10", "--num_images=5000")
