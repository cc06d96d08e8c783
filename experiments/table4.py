"""Table 4: accuracy under the black-box attack, `python -m experiments.table4 --dataset=mnist`.

The oracle is classifier F behind no defence, DefenseGAN or InvGAN, whose T is 200 here unless --steps is given. The
adversary trains a substitute E on each oracle's labels, beginning with the first 150 test images, and attacks the
oracle with FGSM on that substitute; the images that follow are evaluated.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tqdm
from absl import flags

from experiments import blackbox, common_flags, paper, pictures, report, shards, whitebox, whitebox_flags, workers
from invgan_tf import data
from invgan_tf.attacks import substitute
from invgan_tf.evaluation import accuracy

flags.DEFINE_integer(
    "bare_images",
    None,
    "Test images of the row without defence. Default: all that the attacker has not.",
    lower_bound=1,
)
flags.DEFINE_integer("substitute_rounds", 6, "Training rounds of the substitute; its points double.", lower_bound=1)
flags.DEFINE_integer(
    "agreement_images", 200, "Images on which a fast projector is first compared with the exact one.", lower_bound=1
)

FLAGS = flags.FLAGS

_COLUMN = "Black box"
_STEPS = 200  # T of Table 4
_MARGIN = 0.01
_SHOWN = 10


class _Task(NamedTuple):
    work: str  # "train", "ask", "agree" or "evaluate"
    defense: str
    block: tuple[int, ...] = ()  # numbers of test images; of a round's new points to ask about
    number: int = 0  # of the round


def main() -> None:
    """Attacks every oracle asked for, cheap ones first, and reports after each."""
    _check_flags()
    attack = _attack()
    layout = report.Layout(
        experiment="table4",
        dataset=FLAGS.dataset,
        title=f"Table 4, {FLAGS.dataset}: classification accuracy under the black-box attack",
        rows=[whitebox_flags.ROWS[defense] for defense in FLAGS.defenses],
        columns=[_COLUMN],
        claims=[report.Claim("InvGAN is at least as accurate as DefenseGAN", "InvGAN", "DefenseGAN", _MARGIN)],
        note=_protocol(attack.settings),
    )
    table = report.Report(layout, _settings(attack.settings), common_flags.output_dir("table4"))
    seconds, queries = collections.Counter(), collections.Counter()
    for stage, results in _measure(attack):
        defense = stage[0].defense
        if stage[0].work == "agree":
            _find(table, *map(accuracy.Proportion.of, np.concatenate(results).T))
        elif stage[0].work == "evaluate" and FLAGS.shard is None:
            outcome = whitebox.Outcome.join(results)
            _add(table, defense, outcome, seconds[defense] + outcome.seconds, queries[defense])
        elif stage[0].work in ("train", "ask"):
            seconds[defense] += sum(results)
            queries[defense] += sum(len(task.block) for task in stage)  # training asks nothing
    shards.finish(table.settings)
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, TensorBoard events.")


def _measure(attack):
    """Does all the work behind a progress bar; yields each stage with its tasks' results, in their order."""
    stages = list(_stages(attack))
    total = sum(_cost(attack, task) for stage in stages for task in stage)
    waiting = iter(stages)
    stage, done = next(waiting), {}
    title = f"Table 4 {FLAGS.dataset}"
    with tqdm.tqdm(total=total, desc=title, unit="image-step", unit_scale=True, mininterval=1.0) as bar:
        for task, result in workers.run(_attack, _compute, stages):
            bar.set_postfix_str(f"{whitebox_flags.ROWS[task.defense]}: {task.work}", refresh=False)
            bar.update(_cost(attack, task))
            done[task] = result
            if len(done) == len(stage):
                yield stage, [done[task] for task in stage]
                stage, done = next(waiting, None), {}


def _add(table, defense, outcome, seconds, queries):
    """Adds a row, and to TensorBoard its first images: clean, attacked, as classified."""
    row = whitebox_flags.ROWS[defense]
    table.add(
        row,
        _COLUMN,
        accuracy.Proportion.of(outcome.correct),
        seconds=seconds,
        paper=paper.TABLE4.get(FLAGS.dataset, {}).get((row, _COLUMN)),
        projection_loss=None if outcome.loss is None else float(outcome.loss.mean()),
        queries=queries,
        **report.perturbation(outcome.clean, outcome.attacked),
    )
    few = outcome.first(_SHOWN)
    table.show(f"{row}/{_COLUMN}", pictures.grid([few.clean, few.attacked, few.seen], FLAGS.dataset))


def _find(table, fast, again):
    said = [f"{share.value:.3f} [{share.ci95[0]:.3f}, {share.ci95[1]:.3f}]" for share in (fast, again)]
    text = f"DefenseGAN: the fast projector leads to the exact one's label on {said[0]} of {fast.n} test images that "
    text += f"attack the classifier without defence; the exact one under another seed does on {said[1]}."
    facts = {"row": "DefenseGAN", "agreement": fast.value, "ci95": fast.ci95, "n": fast.n}
    table.find(text, facts | {"another_seed": again.value, "another_seed_ci95": again.ci95})
    tqdm.tqdm.write(text)


def _stages(attack: blackbox.BlackBox) -> Iterator[list[_Task]]:
    """Yields the work, row after row, the cheap ones first; a stage's tasks need those before it alone.

    A fast projector is compared with the exact one before it answers for an oracle.
    """
    rows = sorted(FLAGS.defenses, key=attack.cost)
    compared = FLAGS.projector == "fast" and "defensegan" in rows
    for defense in dict.fromkeys(["none", *rows] if compared else rows):
        if defense == "defensegan" and compared:
            few = range(blackbox.SEEDS, blackbox.SEEDS + FLAGS.agreement_images)
            yield [_Task("agree", defense, block) for block in blackbox.cut(few, defense)]
        for number in range(1, FLAGS.substitute_rounds + 1):
            yield [_Task("train", defense, number=number)]
            if number < FLAGS.substitute_rounds:
                new = range(blackbox.SEEDS * 2 ** (number - 1))
                yield [_Task("ask", defense, block, number) for block in blackbox.cut(new, defense)]
        if defense in rows:
            count = _bare_images() if defense == "none" else FLAGS.num_images
            evaluated = range(blackbox.SEEDS, blackbox.SEEDS + count)
            if own := shards.mine(blackbox.cut(evaluated, defense)):
                yield [_Task("evaluate", defense, block) for block in own]


def _cost(attack, task):
    """Returns a task's work in image-steps, roughly: what the progress bar counts in."""
    exact = 2 * attack.cost(task.defense, "exact") if task.work == "agree" else 0
    return len(task.block) * (attack.cost(task.defense) + exact)


def _compute(attack: blackbox.BlackBox, task: _Task) -> float | np.ndarray | whitebox.Outcome:
    """Does a task; of what the store now holds, seconds alone go back."""
    if task.work == "train":
        return attack.round(task.defense, task.number)[1]
    if task.work == "ask":
        return attack.ask(task.defense, task.number, task.block)[1]
    if task.work == "agree":
        return attack.agreement(task.block)
    return attack.outcome(task.defense, task.block)


@functools.lru_cache(maxsize=1)
def _attack() -> blackbox.BlackBox:
    """Builds the attack that the flags ask for; once a process."""
    protections = whitebox_flags.load_defenses(_STEPS)
    for protection in protections.values():
        # The adversary's queries leave the pixel range, and its oracle answers them; the range is only ever checked.
        protection.value_range = (-np.inf, np.inf)
    limit = blackbox.SEEDS + max(FLAGS.num_images, FLAGS.agreement_images, _bare_images())
    examples = data.load(FLAGS.dataset, "test", data_dir=FLAGS.data_dir, limit=limit)
    store, oracle = whitebox_flags.open_store(), whitebox_flags.load_classifier("F")
    evaluation = whitebox.WhiteBox(store, data.spec(FLAGS.dataset), oracle, protections, examples)
    return blackbox.BlackBox(evaluation, substitute.Settings(rounds=FLAGS.substitute_rounds))


def _left():
    return data.spec(FLAGS.dataset).sizes["test"] - blackbox.SEEDS


def _bare_images():
    return _left() if FLAGS.bare_images is None else FLAGS.bare_images


def _check_flags():
    common_flags.refuse(*whitebox_flags.WHITE_BOX, "false_positive_rate")
    for name in ("num_images", "bare_images", "agreement_images"):
        count = FLAGS[name].value
        if count is not None and count > _left():
            raise common_flags.FlagError(
                f"--{name} is {count:,}, and {_left():,} test images are left: the attacker has {blackbox.SEEDS}."
            )


def _settings(chosen):
    """Returns what was asked for, for results.json."""
    names = "dataset defenses num_images agreement_images restarts projector seed preset_dir classifier_dir"
    names += " deterministic"
    asked = {name: FLAGS[name].value for name in names.split()} | whitebox_flags.descents(_STEPS)
    return asked | {
        "bare_images": _bare_images(),
        "projection_dtype": whitebox_flags.projection_dtype(),
        "seeds": blackbox.SEEDS,
        "substitute": dataclasses.asdict(chosen),
    }


def _protocol(chosen):
    """Returns what a reader must know of the numbers, in a few words."""
    fast = " (exact for InvGAN)" if FLAGS.projector == "fast" else ""
    return (
        f"One trained generator, inverter and classifier F. {whitebox_flags.descent(_STEPS)}{fast}; projection in "
        f"{whitebox_flags.projection_dtype()}; seed {FLAGS.seed}, attacker's {FLAGS.seed + 1}. Each row has its own "
        f"substitute, a classifier E fitted in {chosen.rounds} rounds of {chosen.epochs} epochs: to test images 0 to "
        f"{blackbox.SEEDS - 1} with their true labels, and to points made from them (step {chosen.step:g}, not "
        f"clipped) with the oracle's, which are the queries. FGSM, eps {data.spec(FLAGS.dataset).attack_epsilon:g}, "
        "away from the substitute's own label, on the images that follow."
    )


if __name__ == "__main__":
    common_flags.run(main, "--num_images=1000")
