"""When DefenseGAN may drop which restarts, and by which momentum to descend: `python -m benchmarks.schedules`.

Follows all restarts of validation images to the end once for every rule, keeps what it saw, and then works out what
each schedule would have answered. It shows what a race costs that L-BFGS does not end; `benchmarks.quality` judges
`DefenseGAN.fast_stages`, on other images.
"""

import itertools
import pathlib
import re

import numpy as np
import tabulate
import tqdm
from absl import flags

from benchmarks.restarts import EVERY, Path, Schedule
from experiments import cells, common_flags, report, trajectories
from invgan_tf import attacks, data, defenses, files, presets, projection
from invgan_tf.evaluation import accuracy

flags.DEFINE_list("rules", ["10/0.7", "5/0.7"], "Rules of descent to follow, RATE/MOMENTUM; the protocol's first.")
flags.DEFINE_integer("num_images", 200, "Validation images; as many again under FGSM.", 2)
flags.DEFINE_integer("first", 1000, "Number of the first of them; benchmarks.quality judges on those before.", 0)
flags.DEFINE_integer("longest", 300, "Steps to follow a restart.", 200)
flags.DEFINE_list("budgets", ["250", "300", "350", "400", "450", "500", "600", "700"], "Image-steps to spend at most.")
flags.DEFINE_enum("projection_dtype", "float32", ["float32", "bfloat16"], "Precision of the descent.")

FLAGS = flags.FLAGS

_BLOCK = 20
_PROTOCOL = 200  # steps of every restart in the protocol
_KEPT = ((5, 2), (4, 2), (3, 2), (3, 1), (2, 1))  # restarts after the first and after the second look
_RULE = re.compile(r"([\d.]+)/([\d.]+)")

flags.register_validator(
    "rules",
    lambda rules: rules[:1] == ["10/0.7"] and all(map(_RULE.fullmatch, rules)),
    "must list RATE/MOMENTUM, the protocol's 10/0.7 first",
)
flags.register_validator(
    "budgets",
    lambda budgets: bool(budgets) and all(budget.isdecimal() for budget in budgets),
    "must list whole numbers",
)


def main() -> None:
    """Prints, for every rule and budget, the schedule best on one half of the images and its figures on the other."""
    folder = pathlib.Path(FLAGS.output_dir or f"runs/benchmarks/schedules/{FLAGS.dataset}")
    paths = _follow(cells.CellStore(folder / "cells"))
    own, restarts = paths[FLAGS.rules[0]], paths[FLAGS.rules[0]].loss.shape[-1]
    protocol = Schedule((_PROTOCOL,), (restarts,)).answer(own, np.arange(FLAGS.num_images))
    schedules = list(_schedules(restarts))
    costs = np.array([schedule.image_steps() for schedule in schedules])
    half = np.arange(FLAGS.num_images) % 2 == 0
    rows = []
    for rule, path in paths.items():
        worst = np.array(
            [
                _ratios(schedule.answer(path, half), protocol, half).max()
                for schedule in tqdm.tqdm(schedules, desc=f"schedules of {rule}", unit="schedule")
            ]
        )
        for budget in map(int, FLAGS.budgets):
            if (costs <= budget).any():
                best = schedules[np.where(costs <= budget, worst, np.inf).argmin()]
                rows.append(_tell(rule, best, path, protocol, ~half))
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    print(
        f"\n{FLAGS.dataset}: {FLAGS.num_images} validation images from number {FLAGS.first} on, clean / FGSM, "
        f"{FLAGS.projection_dtype}. Each line's schedule has the smallest worst loss ratio on the even ones; its "
        f"figures are those of the {np.sum(~half)} odd ones: mean loss over the protocol's, paired differences of "
        "accuracy with their 95 % interval over images."
    )
    names = ("dataset", "rules", "num_images", "first", "longest", "budgets", "projection_dtype", "seed")
    content = {"benchmark": "schedules", "rows": rows, "settings": {name: FLAGS[name].value for name in names}}
    files.write_json(folder / "schedules.json", content | {"environment": report.environment()})


def _follow(store):
    """Returns what was seen of every restart under every rule."""
    chosen, dataset = FLAGS.preset_dir or FLAGS.dataset, data.spec(FLAGS.dataset)
    presets.read_card(chosen, FLAGS.dataset)
    numbers = np.arange(FLAGS.first, FLAGS.first + FLAGS.num_images)
    examples = data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir, limit=int(numbers[-1]) + 1)
    images, labels = examples.images[numbers], examples.labels[numbers]
    classifier = presets.load_classifier(chosen, "A")
    attacked = attacks.fgsm(classifier, images, eps=dataset.attack_epsilon, value_range=dataset.value_range)
    kinds = np.stack([images, attacked])
    rules = {rule: projection.Momentum(*map(float, _RULE.fullmatch(rule).groups())) for rule in FLAGS.rules}
    built = {
        rule: defenses.DefenseGAN.from_preset(chosen, optimizer=optimizer, dtype=FLAGS.projection_dtype)
        for rule, optimizer in rules.items()
    }
    marks = list(range(0, FLAGS.longest + 1, EVERY))
    blocks = [np.arange(first, min(first + _BLOCK, len(images))) for first in range(0, len(images), _BLOCK)]
    done: dict[str, list[Path]] = {rule: [] for rule in rules}
    tasks = list(itertools.product(rules, blocks))
    for rule, block in tqdm.tqdm(tasks, desc=f"{FLAGS.dataset} restarts", unit="block"):
        defense = built[rule]
        targets = kinds[:, block].reshape(-1, *images.shape[1:])
        arrays = trajectories.follow(
            store, classifier, defense, targets, np.tile(numbers[block], 2), marks, defense.restarts, FLAGS.seed
        )
        loss, label = (np.stack(np.split(arrays[part], 2, axis=1)) for part in ("loss", "label"))
        done[rule].append(Path(loss, label == labels[block][:, None]))
    return {rule: Path(*(np.concatenate(part, axis=2) for part in zip(*parts))) for rule, parts in done.items()}


def _schedules(restarts):
    marks = range(EVERY, FLAGS.longest + 1, EVERY)
    for last in marks:
        yield Schedule((last,), (restarts,))
    for (first, second), times in itertools.product(_KEPT, itertools.combinations(marks, 3)):
        yield Schedule(times, (restarts, first, second))
    for (first, second), times in itertools.product(_KEPT[:3], itertools.combinations(marks[::2], 4)):
        yield Schedule(times, (restarts, first, second, 1))


def _ratios(answer, protocol, rows):
    return answer.loss.mean(axis=1) / protocol.loss[:, rows].mean(axis=1)


def _tell(rule, schedule, path, protocol, rows):
    answer = schedule.answer(path, rows)
    pairs = list(zip(answer.correct, protocol.correct[:, rows]))
    differences = [accuracy.paired_difference(*pair) for pair in pairs]
    return {
        "rule": rule,
        "restarts to step": ", ".join(f"{count} to {mark}" for count, mark in zip(schedule.kept, schedule.marks)),
        "image-steps": str(schedule.image_steps()),
        "loss ratio": " / ".join(f"{ratio:.3f}" for ratio in _ratios(answer, protocol, rows)),
        "difference": ", ".join(f"{d:+.3f} [{low:+.3f}, {high:+.3f}]" for d, (low, high) in differences),
    }


if __name__ == "__main__":
    common_flags.run(main)
