"""Table 2: accuracy under white-box attacks, `python -m experiments.table2 --dataset=mnist`."""

import numpy as np
from absl import flags

from experiments import common_flags, measure, paper, report, whitebox
from invgan_tf import data
from invgan_tf.evaluation import accuracy

FLAGS = flags.FLAGS

_SHOWN = 10  # images of a cell in TensorBoard


def main() -> None:
    """Measures every cell asked for, cheap ones first, and reports after each."""
    columns = [whitebox.COLUMNS[attack] for attack in FLAGS.attacks]
    rows = [whitebox.ROWS[defense] for defense in FLAGS.defenses]
    absent = [("No Defense", column) for column in ("BPDA", "BPDA (authors)")]
    table = report.Report(
        "table2",
        FLAGS.dataset,
        f"Table 2, {FLAGS.dataset}: classification accuracy under white-box attacks",
        rows,
        columns,
        whitebox.settings(),
        common_flags.output_dir("table2"),
        absent,
        _note(),
    )
    places = [
        (attack, defense)
        for attack in FLAGS.attacks
        for defense in FLAGS.defenses
        if (whitebox.ROWS[defense], whitebox.COLUMNS[attack]) in table.expected
    ]
    if not places:
        raise common_flags.FlagError("--attacks and --defenses leave no cell: BPDA needs a defence.")
    for (attack, defense), outcomes in measure.cells(places, f"Table 2 {FLAGS.dataset}", whitebox.from_flags):
        table.add(*_cell(attack, defense, outcomes))
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, TensorBoard events.")


def _note() -> str:
    """Returns the protocol in a few words."""
    warm, cut = FLAGS.bpda_steps, FLAGS.bpda_authors_steps
    inner = f"{warm} warm steps of Eq. 6 an iteration, shared by the restarts" if warm else "cold in every iteration"
    released = (
        f" BPDA (authors) projects cold in every iteration, {f'{cut} steps, R = 1' if cut else 'as the defence'}."
    )
    protocol = f"DefenseGAN: R = {FLAGS.restarts}, L = {FLAGS.defensegan_steps}; InvGAN: T = {FLAGS.steps}"
    if FLAGS.projector == "fast":
        protocol = f"Fast projector in place of {protocol}"
    return (
        f"One trained generator, inverter and classifier. {protocol}; projection in {whitebox.projection_dtype()}; "
        f"seed {FLAGS.seed}, attacker's {FLAGS.seed + 1}. RP and BPDA move away from the true label, FGSM and CW from "
        f"the classifier's own. BPDA is unbounded ({inner}): read its accuracy with its L2 and Linf, medians over the "
        "images it changed." + (released if "bpda_authors" in FLAGS.attacks else "")
    )


def _cell(attack, defense, outcomes):
    """Returns a column and row's cell, which images were right, and pictures: clean, attacked, as classified."""
    row, column = whitebox.ROWS[defense], whitebox.COLUMNS[attack]
    joined = {
        name: np.concatenate([getattr(outcome, name) for outcome in outcomes])
        for name in ("clean", "attacked", "seen", "logits", "labels")
    }
    correct = joined["logits"].argmax(axis=1) == joined["labels"]
    measured = accuracy.Proportion.of(correct)
    sizes = {} if attack == "clean" else report.perturbation(joined["clean"], joined["attacked"])
    losses = [outcome.loss for outcome in outcomes if outcome.loss is not None]
    cell = report.Cell(
        row=row,
        column=column,
        value=measured.value,
        ci95=measured.ci95,
        n=measured.n,
        paper=paper.TABLE2.get(FLAGS.dataset, {}).get((row, column.removesuffix(" (authors)"))),
        seconds=round(sum(outcome.seconds for outcome in outcomes), 2),
        projection_loss=float(np.concatenate(losses).mean()) if losses else None,
        **sizes,
    )
    low, high = data.spec(FLAGS.dataset).value_range
    pictures = np.stack([joined[name][:_SHOWN] for name in ("clean", "attacked", "seen")])
    return cell, correct, (pictures - low) / (high - low)


if __name__ == "__main__":
    common_flags.run(main)
