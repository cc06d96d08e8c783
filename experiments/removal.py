"""What Figures 2 and 5 to 8 share: clean, attacked and projected images under each other, with what is said of them."""

import numpy as np
from absl import flags

from experiments import common_flags, measure, pictures, report, whitebox, whitebox_flags
from invgan_tf.evaluation import accuracy, detection

flags.DEFINE_integer("shown", 10, "Images in a row.", lower_bound=1)

FLAGS = flags.FLAGS


def draw(experiment: str, title: str, sized: bool = False) -> None:
    """Draws three rows for each attack and defence that the flags name; writes a PNG, results.json, TensorBoard.

    Args:
        experiment: name of the program.
        title: heading of the picture.
        sized: write under each attacked image how far, in L2, the attack moved it.
    """
    common_flags.refuse("false_positive_rate")
    pairs = [(attack, defense) for attack in FLAGS.attacks for defense in FLAGS.defenses]
    if any("none" in pair or "clean" in pair for pair in pairs):
        raise common_flags.FlagError("--attacks and --defenses must name attacks and defences: not clean, not none.")
    layout = report.Layout(
        experiment=experiment,
        dataset=FLAGS.dataset,
        title=f"{title}, {FLAGS.dataset}",
        rows=[whitebox_flags.ROWS[defense] for defense in FLAGS.defenses],
        columns=[whitebox_flags.COLUMNS[attack] for attack in FLAGS.attacks],
        legend="accuracy of the images shown [95 % Wilson interval]",
    )
    table = report.Report(layout, whitebox_flags.settings(), common_flags.output_dir(experiment))
    classifier, found = whitebox.from_flags().classifier, {}
    for place, outcome in measure.cells(pairs, f"{title} {FLAGS.dataset}", whitebox.from_flags):
        found[place] = few = outcome.first(FLAGS.shown)
        attack, defense = place
        measured = accuracy.Proportion.of(few.correct)
        sizes = report.perturbation(few.clean, few.attacked)
        table.add(
            whitebox_flags.ROWS[defense], whitebox_flags.COLUMNS[attack], measured, seconds=outcome.seconds, **sizes
        )
    rows = [row for place in pairs for row in _rows(classifier, *place, found[place], sized)]
    table.figure(experiment, pictures.strips(f"{layout.title}: {_LEGEND}", rows, FLAGS.dataset))
    print(f"Written to {table.folder}: {experiment}.png, results.json, TensorBoard events.")


def draw_clean(experiment: str, title: str) -> None:
    """Draws test images over what each defence that the flags name makes of them; writes as `draw` does."""
    common_flags.refuse(*whitebox_flags.WHITE_BOX, "false_positive_rate")
    defenses = [defense for defense in FLAGS.defenses if defense != "none"]
    if not defenses:
        raise common_flags.FlagError("--defenses must name a defence.")
    layout = report.Layout(
        experiment=experiment,
        dataset=FLAGS.dataset,
        title=f"{title}, {FLAGS.dataset}",
        rows=[whitebox_flags.ROWS[defense] for defense in defenses],
        columns=[whitebox_flags.COLUMNS["clean"]],
        legend="accuracy of the images shown [95 % Wilson interval]",
    )
    table = report.Report(layout, whitebox_flags.settings(), common_flags.output_dir(experiment))
    classifier, found = whitebox.from_flags().classifier, {}
    for (_, defense), outcome in measure.cells([("clean", name) for name in defenses], title, whitebox.from_flags):
        few = outcome.first(FLAGS.shown)
        found[defense] = pictures.Strip(
            whitebox_flags.ROWS[defense], few.seen, captions(few.logits.argmax(axis=1), few.labels)
        )
        measured = accuracy.Proportion.of(few.correct)
        table.add(whitebox_flags.ROWS[defense], "Clean", measured, seconds=outcome.seconds)
    original = captions(accuracy.predict(classifier, few.clean), few.labels)
    rows = [pictures.Strip("Original", few.clean, original), *(found[defense] for defense in defenses)]
    table.figure(experiment, pictures.strips(f"{layout.title}: {TAKEN_FOR}", rows, FLAGS.dataset))
    print(f"Written to {table.folder}: {experiment}.png, results.json, TensorBoard events.")


TAKEN_FOR = "the class each is taken for (green: rightly)"
_LEGEND = f"{TAKEN_FOR}; score: Eq. 7"


def captions(labels, truth) -> list[tuple[str, str]]:
    """Returns what images are taken for, and in which colour that is written."""
    return [(str(label), pictures.RIGHT if label == right else pictures.WRONG) for label, right in zip(labels, truth)]


def _rows(classifier, attack, defense, outcome, sized):
    name, row = whitebox_flags.COLUMNS[attack], whitebox_flags.ROWS[defense]
    score = detection.feature_score(classifier, outcome.attacked, outcome.seen)
    size = np.linalg.norm((outcome.attacked - outcome.clean).reshape(len(score), -1), axis=1)
    said = {
        "clean": accuracy.predict(classifier, outcome.clean),
        name: accuracy.predict(classifier, outcome.attacked),
        f"{name}, {row}": outcome.logits.argmax(axis=1),
    }
    images = outcome.clean, outcome.attacked, outcome.seen
    for (line, labels), kind in zip(said.items(), images):
        written = captions(labels, outcome.labels)
        if kind is outcome.seen:
            written = [(f"{text}, score {value:.2g}", colour) for (text, colour), value in zip(written, score)]
        if kind is outcome.attacked and sized:
            written = [(f"{text}, L2 {value:.2g}", colour) for (text, colour), value in zip(written, size)]
        yield pictures.Strip(line, kind, written)
