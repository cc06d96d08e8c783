"""Table 3: detection of attacks by Eq. 7, `python -m experiments.table3 --dataset=mnist`.

It takes Table 2's flags and its stored attacked images and projections, and computes what is not there.
"""

import matplotlib.figure
import numpy as np
from absl import flags
from sklearn import metrics

from experiments import common_flags, measure, paper, report, whitebox, whitebox_flags
from invgan_tf.evaluation import detection

FLAGS = flags.FLAGS

_IMAGE_SPACE = " (image space)"


def main() -> None:
    """Measures the area under the ROC curve for every attack and defence, in feature and in image space."""
    common_flags.refuse("false_positive_rate")
    attacks = [attack for attack in FLAGS.attacks if attack != "clean"]
    defenses = [defense for defense in FLAGS.defenses if defense != "none"]
    if not attacks or not defenses:
        raise common_flags.FlagError("--attacks and --defenses leave nothing to detect: name an attack and a defence.")
    rows = [whitebox_flags.ROWS[defense] for defense in defenses]
    layout = report.Layout(
        experiment="table3",
        dataset=FLAGS.dataset,
        title=f"Table 3, {FLAGS.dataset}: attack detection, area under the ROC curve",
        rows=[row + space for space in ("", _IMAGE_SPACE) for row in rows],
        columns=[whitebox_flags.COLUMNS[attack] for attack in attacks],
        legend="AUC [95 % interval over images: DeLong's, logit scale, an image and its attacked copy one unit]",
        test="DeLong's paired test, images as units",
        claims=[
            report.Claim("InvGAN detects better than DefenseGAN", "InvGAN", "DefenseGAN"),
            *(report.Claim(f"{row}: feature space beats image space", row, row + _IMAGE_SPACE) for row in rows),
        ],
        note=whitebox_flags.protocol() + " All attacked images count, whether they fool the classifier or not.",
    )
    table = report.Report(layout, whitebox_flags.settings(), common_flags.output_dir("table3"))
    places = [(attack, defense) for attack in ("clean", *attacks) for defense in defenses]
    evaluation, found, scores = whitebox.from_flags(), {}, {}
    for (attack, defense), outcome in measure.cells(places, f"Table 3 {FLAGS.dataset}", whitebox.from_flags):
        found[attack, defense] = outcome
        row = whitebox_flags.ROWS[defense]
        scores[attack, row] = detection.feature_score(evaluation.classifier, outcome.attacked, outcome.seen)
        scores[attack, row + _IMAGE_SPACE] = detection.image_score(outcome.attacked, outcome.seen)
        for pending in attacks if attack == "clean" else [attack]:
            if {(pending, defense), ("clean", defense)} <= set(found):
                for name in (row, row + _IMAGE_SPACE):
                    _add(table, pending, name, scores, found[pending, defense])
    _draw_curves(table, attacks, scores)
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, roc.png, TensorBoard events.")


def _add(table, attack, row, scores, outcome):
    """Adds a cell; TensorBoard gets the scores' histograms and the precision-recall curve."""
    attacked = scores[attack, row]
    clean, column = scores["clean", row][: len(attacked)], whitebox_flags.COLUMNS[attack]
    table.add(
        row,
        column,
        detection.AUC.of(clean, attacked),
        seconds=outcome.seconds,
        paper=paper.TABLE3.get(FLAGS.dataset, {}).get((row, column.removesuffix(" (authors)"))),
        **report.perturbation(outcome.clean, outcome.attacked),
    )
    table.show_scores(f"{row}/{column}", clean, attacked)


def _draw_curves(table, attacks, scores):
    figure = matplotlib.figure.Figure(figsize=(4.2 * len(attacks), 4.2), layout="constrained")
    for axes, attack in zip(figure.subplots(1, len(attacks), squeeze=False)[0], attacks):
        for row in table.layout.rows:
            attacked = scores[attack, row]
            clean = scores["clean", row][: len(attacked)]
            truth = np.repeat([0, 1], len(attacked))
            false, true, _ = metrics.roc_curve(truth, np.concatenate([clean, attacked]))
            area = table.cells[row, whitebox_flags.COLUMNS[attack]].value
            axes.plot(false, true, "--" if row.endswith(_IMAGE_SPACE) else "-", label=f"{row}: {area:.3f}")
        axes.plot([0, 1], [0, 1], color="0.8", zorder=0)
        axes.set(title=f"{whitebox_flags.COLUMNS[attack]} (n = {len(attacked)})", xlabel="clean images flagged")
        axes.set(ylabel="attacked images flagged", aspect="equal")
        axes.legend(fontsize="small", loc="lower right", title="AUC", title_fontsize="small")
    figure.suptitle(f"{FLAGS.dataset}: detection by projection")
    table.figure("roc", figure)


if __name__ == "__main__":
    common_flags.run(main)
