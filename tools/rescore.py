"""Scores the images of `experiments.adaptive` again: `python -m tools.rescore --folder=runs/adaptive/mnist`.

Shares nothing with the experiment but the library's defences, the images and their labels: every image is compared
with its clean one from the dataset, projected anew with the settings in results.json, classified and scored, the
detectors are calibrated anew, and the figures of every cell, the worst cases among them, are computed from these
answers.
"""

import concurrent.futures
import functools
import json
import multiprocessing
import os
import pathlib
from typing import NamedTuple

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import tensorflow as tf
from absl import app, flags

from invgan_tf import data, defenses, files, presets

flags.DEFINE_string("folder", None, "The experiment's --output_dir.", required=__name__ == "__main__")
flags.DEFINE_integer("images_each", None, "Only so many of the first images of a cell. Default: all.", lower_bound=1)
flags.DEFINE_integer("processes", os.cpu_count(), "Processes that score.", lower_bound=1)
flags.DEFINE_string("weights", None, "Their preset, where it is not the one that results.json names.")

FLAGS = flags.FLAGS

_ROUNDING = 1e-5  # of a difference of float32 pixels
_ROWS = {"none": "No Defense", "defensegan": "DefenseGAN", "invgan": "InvGAN"}
_CALIBRATED = 50  # images projected at a time, as the experiment calibrates


class _Answer(NamedTuple):
    """What a defence makes of a cell's images; arrays over them."""

    attack: str
    defense: str
    norm: str
    eps: float
    row: str
    column: str
    correct: np.ndarray
    score: np.ndarray  # Eq. 7's
    size: dict[str, np.ndarray]  # of the perturbation, by norm
    problems: list[str]


def check(
    folder: str | os.PathLike, preset: str | None = None, images: int | None = None, workers: int = 1
) -> tuple[list[str], int]:
    """Scores a run's images again.

    Args:
        folder: with results.json and images/.
        preset: name or folder of the weights; by default what the run had.
        images: at most so many of each cell; all by default, without which the table's figures are not compared.
        workers: processes.

    Returns:
        What does not agree, a line each, and the number of cells looked at.
    """
    folder = pathlib.Path(folder)
    results = files.read_sealed(folder / "results.json")
    settings, dataset = results["settings"], results["dataset"]
    settings["preset_dir"] = preset or settings["preset_dir"] or dataset
    values = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    paths = sorted((folder / "images").glob("*.npz"))
    problems, answers = [], []
    one = functools.partial(_cell, dataset=dataset, settings=json.dumps(settings), images=images)
    with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        for answer in pool.map(one, paths) if workers > 1 else map(one, paths):
            share, said = answer.correct.mean(), values.get((answer.row, answer.column))
            problems += answer.problems
            if said is None:
                problems.append(f"{answer.row}, {answer.column}: results.json has no such cell.")
            elif images is None and abs(said - share) > 1e-9:
                problems.append(f"{answer.row}, {answer.column}: results.json says {said:.3f}, the images {share:.3f}.")
            answers.append(answer)
            print(f"{answer.row}, {answer.column}: {share:.3f} of {len(answer.correct)}", flush=True)
    if images is None:
        models, examples = _loaded(dataset, json.dumps(settings))
        for defense in models:
            own = [answer for answer in answers if answer.defense == defense]
            balls = {(answer.norm, answer.eps, answer.column) for answer in own if answer.eps}
            problems += _worst_cases(_ROWS[defense], own, balls, values, settings["inside_images"], np.inf)
            if joint := {(answer.norm, answer.eps, answer.column) for answer in own if answer.attack == "joint"}:
                threshold = _threshold(models[defense], examples.images, settings)
                row = f"{_ROWS[defense]} with detector"
                problems += _worst_cases(row, own, joint, values, settings["inside_images"], threshold)
    return problems, len(paths)


def _one_thread():
    """Computes as the experiment's workers do."""
    tf.config.threading.set_intra_op_parallelism_threads(1)


def _cell(path, dataset, settings, images):
    """Scores the images of one file."""
    models, examples = _loaded(dataset, settings)
    with np.load(path, allow_pickle=False) as file:
        stored = dict(file)
    attack, defense, norm, row, column = stored["place"].tolist()
    count = len(stored["labels"]) if images is None else min(images, len(stored["labels"]))
    # In the blocks of the experiment, for a product's rounding may depend on its rows.
    predicted, score = _ask(models[defense], stored["attacked"][:count], 0, int(stored["block"]))
    change = (stored["attacked"][:count] - examples.images[:count]).reshape(count, -1)
    size = {"inf": np.abs(change).max(axis=1), "2": np.linalg.norm(change, axis=1)}
    problems = [f"{path.name}: {problem}" for problem in _compare(stored, examples, predicted, size, count)]
    correct = predicted == examples.labels[:count]
    return _Answer(attack, defense, norm, float(stored["eps"]), row, column, correct, score, size, problems)


@functools.lru_cache(maxsize=1)
def _loaded(dataset, settings):
    """Returns the models by defence and the examples; once a process."""
    settings = json.loads(settings)
    return _models(settings, settings["preset_dir"]), data.load(dataset, settings["split"])


def _models(settings, preset):
    """Returns the classifier and each classifier behind its defence, as the settings have them."""
    classifier = presets.load_classifier(settings["classifier_dir"] or preset, "A")
    dtype, how = settings["projection_dtype"], {"projector": settings["projector"], "seed": settings["seed"]}
    if settings["projector"] == "fast":
        protections = (
            defenses.DefenseGAN.from_preset(preset, dtype=dtype),
            defenses.InvGAN.from_preset(preset, dtype=dtype),
        )
    else:
        protections = (
            defenses.DefenseGAN.from_preset(preset, dtype=dtype, steps=settings["defensegan_steps"]),
            defenses.InvGAN.from_preset(preset, dtype=dtype, steps=settings["steps"]),
        )
    return {
        "none": classifier,
        "defensegan": defenses.Defended(classifier, protections[0], restarts=settings["restarts"], **how),
        "invgan": defenses.Defended(classifier, protections[1], **how),
    }


def _ask(model, images, number, block):
    """Returns the labels and Eq. 7's scores of images numbered from `number` on; a bare classifier's scores are 0."""
    labels, scores = [], []
    for first in range(0, len(images), block):
        part = images[first : first + block]
        classifier, seen = model, part
        if isinstance(model, defenses.Defended):
            indices = number + np.arange(first, first + len(part))
            classifier, seen = model.classifier, model.project(part, indices=indices).images
        labels.append(classifier(seen).numpy().argmax(axis=1))
        moved = (classifier.features(part) - classifier.features(seen)).numpy().reshape(len(part), -1)
        scores.append(np.mean(moved**2, axis=1))
    return np.concatenate(labels), np.concatenate(scores)


def _threshold(model, images, settings):
    """Returns the score that the given share of the split's last images exceeds, at most."""
    first = len(images) - settings["detector_images"]
    _, scores = _ask(model, images[first:], first, _CALIBRATED)
    flagged = int(settings["false_positive_rate"] * len(scores) + 1e-9)
    return np.sort(scores)[-1 - flagged]


def _compare(stored, examples, predicted, size, count):
    """Yields what of a cell's images does not agree with the dataset, its ball, or what was stored of them."""
    clean, labels = examples.images[:count], examples.labels[:count]
    if not (np.array_equal(stored["clean"][:count], clean) and np.array_equal(stored["labels"][:count], labels)):
        yield "its clean images or labels are not those of the dataset."
    largest, eps = size[stored["place"][2]].max(), float(stored["eps"])
    if largest > eps + _ROUNDING or stored["attacked"].min() < 0.0 or stored["attacked"].max() > 1.0:
        yield f"images reach {largest:.4f}, outside the ball of {eps:g} or the pixel range."
    different = int(np.sum(stored["predicted"][:count] != predicted))
    if different:
        yield f"{different} of {count} images are predicted otherwise."


def _worst_cases(row, answers, balls, values, count, threshold):
    """Yields the worst cases of a row that are not those of its single attacks; flagged above the threshold."""

    def left(answer):  # flagged, an attacked image does no harm and a clean one is lost
        flagged = answer.score > threshold
        return answer.correct | flagged if answer.eps else answer.correct & ~flagged

    clean = next((answer for answer in answers if not answer.eps), None)
    if clean is None:
        yield f"{row}: images/ has no clean ones; the run is not complete."
        return
    worst = {"Clean": left(clean)}
    for norm, eps, column in balls:
        outside = [answer.size[norm][:count] > eps + _ROUNDING for answer in answers]
        worst[column] = np.all([left(answer)[:count] | out for answer, out in zip(answers, outside)], axis=0)
    for column, images in sorted(worst.items()):
        said = values.get((row, column))
        if said is None:
            yield f"{row}, {column}: results.json has no worst case; the run is not complete."
        elif abs(said - images.mean()) > 1e-9:
            yield f"{row}, {column}: results.json says {said:.3f}, the images {images.mean():.3f}."


def main(_) -> None:
    """Scores a folder again; exits with 1 where anything does not agree."""
    _one_thread()
    problems, cells = check(FLAGS.folder, FLAGS.weights, FLAGS.images_each, FLAGS.processes)
    print("\n".join(problems) or f"All {cells} cells agree, image by image.")
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    app.run(main)
