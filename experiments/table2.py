"""Table 2: accuracy under white-box attacks, `python -m experiments.table2 --dataset=mnist`."""

from absl import flags

from experiments import common_flags, measure, paper, pictures, report, whitebox, whitebox_flags
from invgan_tf.evaluation import accuracy

FLAGS = flags.FLAGS

_SHOWN = 10  # images of a cell in TensorBoard
_SIZED_OUT = " The paper gives no BPDA figure here (n/a), for the size of what that attack changes."
_MARGIN = 0.01  # one image in a hundred: what "at least as accurate" may cost


def main() -> None:
    """Measures every cell asked for, cheap ones first, and reports after each."""
    common_flags.refuse("false_positive_rate")
    layout = report.Layout(
        experiment="table2",
        dataset=FLAGS.dataset,
        title=f"Table 2, {FLAGS.dataset}: classification accuracy under white-box attacks",
        rows=[whitebox_flags.ROWS[defense] for defense in FLAGS.defenses],
        columns=[whitebox_flags.COLUMNS[attack] for attack in FLAGS.attacks],
        claims=[report.Claim("InvGAN is at least as accurate as DefenseGAN", "InvGAN", "DefenseGAN", _MARGIN)],
        sized=("CW", "BPDA", "BPDA (authors)"),
        absent=[("No Defense", column) for column in ("BPDA", "BPDA (authors)")],
        note=whitebox_flags.protocol() + (_SIZED_OUT if _dropped() else ""),
    )
    places = [
        (attack, defense)
        for attack in FLAGS.attacks
        for defense in FLAGS.defenses
        if (whitebox_flags.ROWS[defense], whitebox_flags.COLUMNS[attack]) in layout.places
    ]
    if not places:
        raise common_flags.FlagError("--attacks and --defenses leave no cell: BPDA needs a defence.")
    table = report.Report(layout, whitebox_flags.settings(), common_flags.output_dir("table2"))
    for (attack, defense), outcome in measure.cells(places, f"Table 2 {FLAGS.dataset}", whitebox.from_flags):
        _add(table, attack, defense, outcome)
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, TensorBoard events.")


def _dropped():
    """Returns whether BPDA is asked for where the paper dropped it."""
    published = paper.TABLE2.get(FLAGS.dataset, {})
    return "bpda" in FLAGS.attacks and bool(published) and ("InvGAN", "BPDA") not in published


def _add(table, attack, defense, outcome):
    """Adds a cell, and to TensorBoard its first images: clean, attacked, as classified."""
    row, column = whitebox_flags.ROWS[defense], whitebox_flags.COLUMNS[attack]
    table.add(
        row,
        column,
        accuracy.Proportion.of(outcome.correct),
        seconds=outcome.seconds,
        paper=paper.TABLE2.get(FLAGS.dataset, {}).get((row, column.removesuffix(" (authors)"))),
        projection_loss=None if outcome.loss is None else float(outcome.loss.mean()),
        **({} if attack == "clean" else report.perturbation(outcome.clean, outcome.attacked)),
    )
    few = outcome.first(_SHOWN)
    table.show(f"{row}/{column}", pictures.grid([few.clean, few.attacked, few.seen], FLAGS.dataset))


if __name__ == "__main__":
    common_flags.run(main)
