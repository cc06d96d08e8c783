"""Figure 3: what every rival of Table 1 makes of test images, `python -m experiments.figure3`."""

import numpy as np
from absl import flags

from experiments import common_flags, inference, pictures, removal, report, table1
from invgan_tf.evaluation import accuracy, means

FLAGS = flags.FLAGS


def main() -> None:
    """Draws the images over their reconstructions; writes a PNG, results.json, TensorBoard."""
    rows = table1.rows()
    inference.check_flags("Figure 3", rows)
    layout = report.Layout(
        experiment="figure3",
        dataset=FLAGS.dataset,
        title=f"Figure 3, {FLAGS.dataset}: qualitative inversion results",
        rows=list(rows),
        columns=["MSE"],
        legend="MSE of the images shown [95 % interval]",
        falling=("MSE",),
    )
    if FLAGS.num_images < 2:
        raise common_flags.FlagError("--num_images must be at least 2: an MSE has an interval.")
    table = report.Report(layout, inference.settings(), common_flags.output_dir("figure3"))
    evaluation = inference.from_flags()
    strips = [_strip(evaluation, "Original", evaluation.examples.images)]
    for name, images, seconds in inference.reconstructions(rows, "Figure 3"):
        errors = np.mean(np.square(images - evaluation.examples.images), axis=(1, 2, 3))
        table.add(name, "MSE", means.Mean.of(errors), seconds=seconds)
        strips.append(_strip(evaluation, name, images))
    strips[1:] = sorted(strips[1:], key=lambda strip: layout.rows.index(strip.name))
    table.figure("figure3", pictures.strips(f"{layout.title}: {removal.TAKEN_FOR}", strips, FLAGS.dataset))
    print(f"Written to {table.folder}: figure3.png, results.json, TensorBoard events.")


def _strip(evaluation, name, images):
    labels = accuracy.predict(evaluation.classifier, images)
    return pictures.Strip(name, images, removal.captions(labels, evaluation.examples.labels))


if __name__ == "__main__":
    common_flags.run(main, "--dataset=cifar10", "--preset_dir=cifar10_dcgan", "--num_images=10")
