"""Does a calibrated detector keep its rate? `python -m experiments.false_positives --dataset=mnist`.

The threshold is set on the first half of the validation images, and the share flagged is measured on the other half.
"""

import math

import numpy as np
from absl import flags

from experiments import common_flags, measure, report, whitebox, whitebox_flags
from invgan_tf.defenses import detector
from invgan_tf.evaluation import accuracy, detection

FLAGS = flags.FLAGS

_COLUMN = "flagged"


def main() -> None:
    """Calibrates each defence's detector and measures its false positives; writes a table and results.json."""
    common_flags.refuse(*whitebox_flags.WHITE_BOX)
    defenses = [defense for defense in FLAGS.defenses if defense != "none"]
    if not defenses or FLAGS.num_images < 2:
        raise common_flags.FlagError("--defenses must name a defence, and --num_images be two or more.")
    half = FLAGS.num_images // 2
    layout = report.Layout(
        experiment="false_positives",
        dataset=FLAGS.dataset,
        title=f"Clean {FLAGS.dataset} images that a detector calibrated to {FLAGS.false_positive_rate:.1%} flags",
        rows=[whitebox_flags.ROWS[defense] for defense in defenses],
        columns=[_COLUMN],
        legend="share [95 % Wilson interval over images]",
        note=f"Threshold of Eq. 7's score from the first {half} validation images, share of the next "
        f"{FLAGS.num_images - half}. {whitebox_flags.descent()}; projection in {whitebox_flags.projection_dtype()}; "
        f"seed {FLAGS.seed}. The threshold's own chance is not in the interval.",
    )
    settings = whitebox_flags.settings() | {"false_positive_rate": FLAGS.false_positive_rate, "split": "validation"}
    table = report.Report(layout, settings, common_flags.output_dir("false_positives"))
    places, title = [("clean", defense) for defense in defenses], f"False positives {FLAGS.dataset}"
    classifier = whitebox.from_flags("validation").classifier
    for (_, defense), outcome in measure.cells(places, title, whitebox.from_flags, "validation"):
        scores = detection.feature_score(classifier, outcome.clean, outcome.seen)
        threshold = detector.threshold(scores[:half], FLAGS.false_positive_rate)
        row = whitebox_flags.ROWS[defense]
        table.add(row, _COLUMN, accuracy.Proportion.of(scores[half:] > threshold), seconds=outcome.seconds)
        spread = _spread(half, FLAGS.num_images - half, FLAGS.false_positive_rate)
        table.find(
            f"{row}: threshold {threshold:.4g}; of a calibration that is right, 95 % flag {spread[0]:.4f} to "
            f"{spread[1]:.4f}.",
            {"row": row, "threshold": threshold, "expected95": spread},
        )
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, TensorBoard events.")


def _spread(calibrated: int, flagged: int, rate: float) -> tuple[float, float]:
    """Returns where 95 % of flagged shares lie when both halves are of one distribution (normal approximation)."""
    half = 1.96 * math.sqrt(rate * (1.0 - rate) * (1.0 / calibrated + 1.0 / flagged))
    return float(np.clip(rate - half, 0.0, 1.0)), rate + half


if __name__ == "__main__":
    common_flags.run(main, "--num_images=10000")
