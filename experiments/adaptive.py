"""What adaptive attacks leave of each defence, `python -m experiments.adaptive --dataset=mnist`.

A row's cell is the worst case over all attacks, image by image; below it stands every attack by itself. Every attacked
image is projected cold, with all steps, under a seed that no attacker saw. The images are saved: tools.rescore.
"""

from collections.abc import Iterator

import numpy as np
import tqdm
from absl import flags

from experiments import adaptive_curves, common_flags, report, whitebox_flags, workers
from experiments import adaptive_evaluation as evaluation_
from experiments.adaptive_evaluation import CLEAN, Ball, Cell, Evaluation, Outcome
from invgan_tf import data, files
from invgan_tf.evaluation import accuracy

FLAGS = flags.FLAGS

_ROUNDING = 1e-5  # of a difference of float32 pixels
_DETECTED = "{} with detector"  # rows where a flagged image does no harm


def main() -> None:
    """Measures every attack on every defence, and what is left after all of them; saves the images."""
    _check()
    table = report.Report(_layout(), _settings(), common_flags.output_dir("adaptive"))
    found: dict[Cell, Outcome] = {}
    for cell, outcome in _measure():
        found[cell] = outcome
        _save(table, cell, outcome)
        measured = accuracy.Proportion.of(outcome.correct)
        sizes = {} if cell.attack == CLEAN else report.perturbation(outcome.clean, outcome.attacked)
        table.add(_row(cell), cell.ball.name, measured, seconds=outcome.seconds, **sizes)
    evaluation = evaluation_.from_flags()
    for defense in evaluation_.rows():
        row = whitebox_flags.ROWS[defense]
        own = {cell: outcome for cell, outcome in found.items() if cell.defense == defense}
        _worst(table, row, own, _balls()[1:], None)
        if joint := _joint_balls(defense):
            _worst(table, _DETECTED.format(row), own, joint, evaluation.threshold(defense))
            _joint(table, row, own, evaluation.threshold(defense))
        if defense == "defensegan":
            _again(table, row, own, evaluation)
    adaptive_curves.draw(table, found)
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, robust_accuracy.png, images/, TensorBoard events.")


def _check():
    """Refuses flags that do not fit together."""
    common_flags.refuse(*whitebox_flags.WHITE_BOX)
    if FLAGS.dataset not in ("mnist", "fashion_mnist"):
        raise common_flags.FlagError(f"--dataset must be mnist or fashion_mnist here, got {FLAGS.dataset}.")
    if not set(evaluation_.radii("few_eps")) & set(evaluation_.radii("linf_eps")):
        raise common_flags.FlagError("--few_eps must list some of --linf_eps.")
    if not {"defensegan", "invgan"} <= set(FLAGS.defenses):
        raise common_flags.FlagError("--defenses must list defensegan and invgan: each is attacked with the other's.")
    if not set(FLAGS.only) <= set(evaluation_.titles()):
        raise common_flags.FlagError(f"--only must list some of {', '.join(evaluation_.titles())}.")
    largest = data.spec(FLAGS.dataset).sizes[FLAGS.split]
    if FLAGS.inside_images > FLAGS.num_images:
        raise common_flags.FlagError("--inside_images must not exceed --num_images: they are the first of those.")
    if FLAGS.num_images + FLAGS.detector_images > largest:
        raise common_flags.FlagError("--num_images reaches into the images that calibrate.")


def _balls() -> list[Ball]:
    linf = [Ball("inf", eps) for eps in sorted(evaluation_.radii("linf_eps"))]
    return [Ball("inf", 0.0), *linf, *(Ball("2", eps) for eps in sorted(evaluation_.radii("l2_eps")))]


def _row(cell: Cell) -> str:
    """Returns the row of one attack's cell."""
    title = evaluation_.titles().get(cell.attack, "no attack")
    if cell.defense == "none":
        own = {"bare": f"PGD-{FLAGS.attack_steps}, {FLAGS.attack_restarts} restarts", "fgsm": "FGSM"}
        title = own.get(cell.attack, title)
    return f"{whitebox_flags.ROWS[cell.defense]}: {title}"


def _layout() -> report.Layout:
    cells = [cell for defense in evaluation_.rows() for cell in evaluation_.plan(defense)]
    rows = [whitebox_flags.ROWS[defense] for defense in evaluation_.rows()]
    joint = {_DETECTED.format(whitebox_flags.ROWS[d]): balls for d in evaluation_.rows() if (balls := _joint_balls(d))}
    worst = [*rows, *joint]
    single = list(dict.fromkeys(_row(cell) for cell in cells))
    columns = [ball.name for ball in _balls()]
    there = {(_row(cell), cell.ball.name) for cell in cells} | {(row, column) for row in rows for column in columns}
    there |= {(row, ball.name) for row, balls in joint.items() for ball in (_balls()[0], *balls)}
    return report.Layout(
        experiment="adaptive",
        dataset=FLAGS.dataset,
        title=f"Adaptive attacks, {FLAGS.dataset}: accuracy that is left",
        rows=[*worst, *single],
        columns=columns,
        absent=[(row, column) for row in (*worst, *single) for column in columns if (row, column) not in there],
        claims=[report.Claim("InvGAN is at least as accurate as DefenseGAN", "InvGAN", "DefenseGAN", 0.01)],
        note=_note(),
    )


def _note() -> str:
    return (
        "The first rows are the worst case over all attacks below whose image lies in the column's ball, on the first "
        f"{FLAGS.inside_images} {FLAGS.split} images. With detector: an attacked image counts as lost where it is "
        "misclassified and not flagged, a clean one where it is misclassified or flagged, in the columns that have an "
        "attack on classifier and detector; threshold from the last "
        f"{FLAGS.detector_images} {FLAGS.split} images, of which it may flag {FLAGS.false_positive_rate:.0%}. All "
        f"attacks move away from the true label. {whitebox_flags.descent()}; projection in "
        f"{whitebox_flags.projection_dtype()}; seed {FLAGS.seed}, attacker's {FLAGS.seed + 1} and above 2^31. APGD "
        f"attacks {FLAGS.inside_steps} steps of Eq. 6 from the clean image's latents, Square {FLAGS.query_steps}: a "
        "whole projection in every query is out of reach; Square searches anew, three times at most, where its find "
        "does not fool the whole defence. Carlini-Wagner's images count in the L2 balls that hold them."
    )


def _settings() -> dict:
    names = "dataset split only defenses num_images restarts projector seed preset_dir classifier_dir deterministic"
    names += " linf_eps l2_eps few_eps inside_images detector_images false_positive_rate attack_steps attack_restarts"
    names += " inside_restarts inside_steps query_steps queries"
    own = {"projection_dtype": whitebox_flags.projection_dtype()} | whitebox_flags.descents()
    return own | {name: FLAGS[name].value for name in names.split()}


def _measure() -> Iterator[tuple[Cell, Outcome]]:
    """Computes every cell on all cores behind a progress bar; yields each when its last block is there."""
    evaluation = evaluation_.from_flags()
    cells = [cell for defense in evaluation_.rows() for cell in evaluation_.plan(defense)]
    guarded = [defense for defense in evaluation_.rows() if defense != "none"]
    calibrate = [("scores", defense, block) for defense in guarded for block in evaluation.calibration()]
    shared = {
        ("images", evaluation.source(cell), cell.ball, block): None
        for cell in cells
        if cell.attack in evaluation_.SHARED
        for block in evaluation.blocks(cell)
    }
    look = [("outcome", cell, block) for cell in cells for block in evaluation.blocks(cell)]
    stages = [
        calibrate,
        list(shared),
        [task for task in look if task[1].attack != "other"],
        [task for task in look if task[1].attack == "other"],  # made for the other row by then
    ]
    costs = {task: len(task[-1]) * _cost(evaluation, task) for stage in stages for task in stage}
    stages[2].sort(key=costs.get)
    done: dict[Cell, dict[tuple, Outcome]] = {cell: {} for cell in cells}
    with tqdm.tqdm(
        total=round(sum(costs.values())), desc=f"Adaptive {FLAGS.dataset}", unit="image-step", unit_scale=True
    ) as bar:
        for task, outcome in workers.run(evaluation_.from_flags, _compute, stages):
            bar.update(round(costs[task]))
            if task[0] != "outcome":
                continue
            _, cell, block = task
            done[cell][block] = outcome
            if len(done[cell]) == len(evaluation.blocks(cell)):
                blocks = done.pop(cell)
                yield cell, Outcome.join([blocks[numbers] for numbers in sorted(blocks)])


def _cost(evaluation: Evaluation, task: tuple) -> float:
    if task[0] == "images":
        return evaluation.cost(*task[1])
    if task[0] == "scores":
        return evaluation.look(task[1])
    cell = task[1]
    own = cell.attack not in (CLEAN, "other", *evaluation_.SHARED)
    return evaluation.look(cell.defense) + (evaluation.cost(*evaluation.source(cell)) if own else 0.0)


def _compute(evaluation: Evaluation, task: tuple) -> Outcome | None:
    if task[0] == "outcome":
        return evaluation.outcome_of(task[1], task[2])
    if task[0] == "scores":
        evaluation.scores(task[1], task[2])
    else:
        evaluation.images_of(*task[1], task[2], task[3])
    return None


def _joint_balls(defense: str) -> list[Ball]:
    """Returns the balls in which an attack aims at classifier and detector: only there a detector's row means much."""
    return [cell.ball for cell in evaluation_.plan(defense) if cell.attack == "joint"]


def _worst(table, row, outcomes, balls, threshold):
    """Adds a row of the worst case: an image is left where no attack's image inside the column's ball costs it."""
    count, seconds = FLAGS.inside_images, sum(outcome.seconds for outcome in outcomes.values())
    (clean,) = (cell for cell in outcomes if cell.attack == CLEAN)
    whole = ~adaptive_curves.lost(clean, outcomes[clean], threshold)
    table.add(row, "Clean", accuracy.Proportion.of(whole), seconds=outcomes[clean].seconds)
    for ball in balls:
        sizes, _ = adaptive_curves.least(outcomes, ball.norm, count, threshold)
        table.add(row, ball.name, accuracy.Proportion.of(sizes > ball.eps + _ROUNDING), seconds=seconds)


def _joint(table, row, outcomes, threshold):
    """Finds what the attack on classifier and detector reaches: its cell tells of the classifier alone."""
    for cell, outcome in outcomes.items():
        if cell.attack == "joint":
            both = accuracy.Proportion.of(adaptive_curves.lost(cell, outcome, threshold))
            flagged = float(np.mean(outcome.score > threshold))
            share = f"{both.value:.3f} [{both.ci95[0]:.3f}, {both.ci95[1]:.3f}]"
            text = f"{row}, joint attack, {cell.ball.name}: {share} of "
            text += f"{both.n} images are misread and pass the detector; it flags {flagged:.3f} of all."
            facts = {"row": row, "column": cell.ball.name, "won": both.value, "ci95": both.ci95, "flagged": flagged}
            table.find(text, facts)


def _again(table, row, outcomes, evaluation):
    """Finds how many worst cases fool the defence under a seed that chose none of them.

    Which of many attacks won, an attacker who does not know the evaluator's seed cannot tell.
    """
    for ball in _balls()[1:]:
        sizes, cells = adaptive_curves.least(outcomes, ball.norm, FLAGS.inside_images)
        numbers = np.flatnonzero(sizes <= ball.eps + _ROUNDING)
        if numbers.size:
            images = np.stack([outcomes[cells[number]].attacked[number] for number in numbers])
            again = int(evaluation.fooled_again(cells[numbers[0]].defense, images, numbers).sum())
            text = f"{row}, {ball.name}: of {numbers.size} images lost, {again} are misread under another seed too."
            table.find(text, {"row": row, "column": ball.name, "lost": int(numbers.size), "again": again})


def _save(table, cell, outcome):
    """Writes a cell's images with all that re-scoring needs (`tools.rescore`)."""
    folder = table.folder / "images"
    folder.mkdir(exist_ok=True)
    evaluation = evaluation_.from_flags()
    facts = {
        "attacked": outcome.attacked,
        "clean": outcome.clean,
        "labels": outcome.labels,
        "predicted": outcome.predicted,
        "score": outcome.score,
        "block": np.int64(len(evaluation.blocks(cell)[0])),
        "place": np.array([cell.attack, cell.defense, cell.ball.norm, _row(cell), cell.ball.name]),
        "eps": np.float64(cell.ball.eps),
    }
    name = f"{cell.defense}-{cell.attack}-{cell.ball.name.replace(' ', '')}.npz"
    with files.replacing(folder / name) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **facts)


if __name__ == "__main__":
    common_flags.run(main, "--num_images=200")
