"""What Figures 2 and 7 share: clean, attacked and projected images under each other, with what is said of them."""

from absl import flags

from experiments import common_flags, measure, pictures, report, whitebox, whitebox_flags
from invgan_tf.evaluation import accuracy, detection

flags.DEFINE_integer("shown", 10, "Images in a row.", lower_bound=1)

FLAGS = flags.FLAGS


def draw(experiment: str, title: str) -> None:
    """Draws three rows for each attack and defence that the flags name; writes a PNG, results.json, TensorBoard."""
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
    rows = [row for place in pairs for row in _rows(classifier, *place, found[place])]
    table.figure(experiment, pictures.strips(f"{layout.title}: {_LEGEND}", rows, FLAGS.dataset))
    print(f"Written to {table.folder}: {experiment}.png, results.json, TensorBoard events.")


_LEGEND = "the class each is taken for (green: rightly); score: Eq. 7"


def _rows(classifier, attack, defense, outcome):
    name, row = whitebox_flags.COLUMNS[attack], whitebox_flags.ROWS[defense]
    score = detection.feature_score(classifier, outcome.attacked, outcome.seen)
    said = {
        "clean": accuracy.predict(classifier, outcome.clean),
        name: accuracy.predict(classifier, outcome.attacked),
        f"{name}, {row}": outcome.logits.argmax(axis=1),
    }
    images = outcome.clean, outcome.attacked, outcome.seen
    for (line, labels), kind in zip(said.items(), images):
        captions = [
            (str(label), pictures.RIGHT if label == truth else pictures.WRONG)
            for label, truth in zip(labels, outcome.labels)
        ]
        if kind is outcome.seen:
            captions = [(f"{text}, score {value:.2g}", colour) for (text, colour), value in zip(captions, score)]
        yield pictures.Strip(line, kind, captions)
