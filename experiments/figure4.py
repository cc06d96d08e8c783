"""Figure 4: accuracy on clean images against R*T, `python -m experiments.figure4 --dataset=fashion_mnist`.

One descent of all restarts gives every R and T of it: the restarts are the same, R of them or fewer.
"""

import functools
import itertools

import matplotlib.figure
import numpy as np
import tqdm
from absl import flags

from experiments import common_flags, pictures, report, shards, trajectories, whitebox_flags, workers
from invgan_tf import data, defenses, presets, projection
from invgan_tf.evaluation import accuracy

flags.DEFINE_list("invgan_steps", ["0", "1", "20", "40", "60", "80", "100", "200", "400"], "T of InvGAN.")
flags.DEFINE_list("defensegan_marks", ["1", "20", "40", "60", "80", "100", "200"], "T of DefenseGAN, of each restart.")
flags.DEFINE_list("restarts_shown", ["1", "2", "5", "10"], "R of DefenseGAN.")

FLAGS = flags.FLAGS

_RATES = {"InvGAN": 0.01, "InvGAN, Adam 0.1": 0.1}  # the second is the authors' sweep
_ITS_OWN = ("defenses", "projector", "steps", "defensegan_steps", "restarts")  # what it sweeps, or never changes
_BLOCK = 25
_MARGIN = 0.01
_COLUMN = "R*T = {}"


def _numbers(given):
    return [int(number) for number in given]


def _rising(given):
    try:
        numbers = _numbers(given)
    except ValueError:
        return False
    return bool(numbers) and numbers[0] >= 0 and all(a < b for a, b in itertools.pairwise(numbers))


for _name in ("invgan_steps", "defensegan_marks", "restarts_shown"):
    flags.register_validator(_name, _rising, "must list rising whole numbers")


def main() -> None:
    """Measures accuracy for every R and T; writes a table, results.json and the picture."""
    common_flags.refuse(*whitebox_flags.WHITE_BOX, "false_positive_rate", *_ITS_OWN)
    restarts, marks = _numbers(FLAGS.restarts_shown), _numbers(FLAGS.defensegan_marks)
    lines = {f"DefenseGAN, R = {r}": [r * t for t in marks] for r in restarts}
    lines |= {name: _numbers(FLAGS.invgan_steps) for name in _RATES}
    efforts = sorted({effort for line in lines.values() for effort in line})
    layout = report.Layout(
        experiment="figure4",
        dataset=FLAGS.dataset,
        title=f"Figure 4, {FLAGS.dataset}: accuracy on clean images against R*T",
        rows=list(lines),
        columns=[_COLUMN.format(effort) for effort in efforts],
        absent=[(row, _COLUMN.format(e)) for row, line in lines.items() for e in efforts if e not in line],
        note=f"Test images, one trained generator, inverter and classifier; {whitebox_flags.projection_dtype()}; "
        f"seed {FLAGS.seed}.",
    )
    names = (
        "dataset preset_dir classifier_dir num_images seed deterministic invgan_steps defensegan_marks restarts_shown"
    )
    settings = {name: FLAGS[name].value for name in names.split()}
    settings |= {"projection_dtype": whitebox_flags.projection_dtype()}
    table = report.Report(layout, settings, common_flags.output_dir("figure4"))
    parts, cost = _measure(settings)
    labels = data.load(FLAGS.dataset, "test", data_dir=FLAGS.data_dir, limit=FLAGS.num_images).labels
    for row, line in lines.items():
        name = row.split(", R")[0]
        loss, predicted = parts[name]
        count = restarts[list(lines).index(row)] if name == "DefenseGAN" else 1
        for mark, effort in enumerate(line):
            best = loss[mark, :, :count].argmin(axis=1)
            correct = predicted[mark, np.arange(len(labels)), best] == labels
            seconds = cost[name] * effort
            table.add(row, _COLUMN.format(effort), accuracy.Proportion.of(correct), seconds=seconds * len(labels))
    table.find(*_fraction(table, lines, f"DefenseGAN, R = {restarts[-1]}"))
    _draw(table, lines, cost)
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, figure4.png, TensorBoard events.")


def _measure(settings):
    """Returns loss and predicted label `[marks, n, restarts]` of each defence, and its seconds an image-step."""
    count = FLAGS.num_images
    blocks = [tuple(range(first, min(first + _BLOCK, count))) for first in range(0, count, _BLOCK)]
    tasks = [(name, block) for name in (*_RATES, "DefenseGAN") for block in shards.mine(blocks)]
    done = {}
    with tqdm.tqdm(total=len(tasks), desc=f"Figure 4 {FLAGS.dataset}", unit="block") as bar:
        for task, arrays in workers.run(_evaluation, _follow, [tasks]):
            done[task] = arrays
            bar.update()
    shards.finish(settings)
    parts = {
        name: tuple(np.concatenate([done[name, block][key] for block in blocks], axis=1) for key in ("loss", "label"))
        for name in (*_RATES, "DefenseGAN")
    }
    made = dict.fromkeys(_RATES, _numbers(FLAGS.invgan_steps)[-1])
    made["DefenseGAN"] = _numbers(FLAGS.defensegan_marks)[-1] * _numbers(FLAGS.restarts_shown)[-1]
    spent = {name: np.median([done[name, block]["spent"] / len(block) for block in blocks]) for name in made}
    return parts, {name: float(spent[name]) / made[name] for name in made}


@functools.lru_cache(maxsize=1)
def _evaluation():
    """Returns store, classifier, images and defences; once a process."""
    chosen, dtype = FLAGS.preset_dir or FLAGS.dataset, whitebox_flags.projection_dtype()
    presets.read_card(chosen, FLAGS.dataset)
    protections = {
        name: defenses.InvGAN.from_preset(chosen, optimizer=projection.Adam(rate), dtype=dtype)
        for name, rate in _RATES.items()
    }
    protections["DefenseGAN"] = defenses.DefenseGAN.from_preset(chosen, dtype=dtype)
    images = data.load(FLAGS.dataset, "test", data_dir=FLAGS.data_dir, limit=FLAGS.num_images).images
    return whitebox_flags.open_store(), whitebox_flags.load_classifier(), images, protections


def _follow(evaluation, task):
    """Follows one block of images; returns losses and labels at every mark, and the seconds that following took."""
    (store, classifier, images, protections), (name, block) = evaluation, task
    defense, numbers = protections[name], np.array(block)
    marks = _numbers(FLAGS.defensegan_marks if name == "DefenseGAN" else FLAGS.invgan_steps)
    restarts = _numbers(FLAGS.restarts_shown)[-1] if name == "DefenseGAN" else 1
    return trajectories.follow(store, classifier, defense, images[numbers], numbers, marks, restarts, FLAGS.seed)


def _fraction(table, lines, rival):
    """Answers at which share of the rival's full R*T InvGAN is at least as accurate."""
    full = lines[rival][-1]
    target = table.measured(rival, _COLUMN.format(full))
    for effort in lines["InvGAN"]:
        found = table.measured("InvGAN", _COLUMN.format(effort)).compare(target)
        if found.verdict(_MARGIN) == "confirmed":
            text = f"confirmed: InvGAN at T = {effort}, {effort / full:.2%} of R*T = {full}, is at least as accurate as"
            break
    else:
        text = f"not confirmed: no T of InvGAN here is at least as accurate (one point allowed) as R*T = {full} of"
    low, high = found.ci95
    return (
        f"{text} {rival} ({found.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {found.p:.2g}).",
        {"rival": rival, "effort": effort, "full": full, **found._asdict()},
    )


def _draw(table, lines, cost):
    """Draws accuracy against R*T, and against seconds at the rate measured here."""
    figure = matplotlib.figure.Figure(figsize=(11, 4.2), layout="constrained")
    for axes, timed in zip(figure.subplots(1, 2, sharey=True), (False, True)):
        for row, line in lines.items():
            found = [table.cells[row, _COLUMN.format(effort)] for effort in line]
            rate = cost[row.split(", R")[0]] if timed else 1.0
            style = "s--" if row in _RATES else "o-"
            pictures.curve(axes, [effort * rate for effort in line], found, row, style)
        axes.set_xscale("symlog", linthresh=0.01 if timed else 1.0)
        axes.set(xlabel="seconds of one core an image" if timed else "R * T", title=FLAGS.dataset)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy on clean test images")
    figure.axes[0].legend(fontsize="x-small", loc="lower right")
    table.figure("figure4", figure)


if __name__ == "__main__":
    common_flags.run(main, "--dataset=fashion_mnist", "--num_images=1000")
