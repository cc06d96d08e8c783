"""Scores the images of `experiments.adaptive` again: `python -m tools.rescore --folder=runs/adaptive/mnist`.

Shares nothing with the experiment but the library's defences, the images and their labels: every image is compared
with its clean one from the dataset, projected anew with the settings in results.json, classified and scored, the
detectors are calibrated anew, and the figures of every cell, the worst cases among them, are computed from these
answers.
"""

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
flags.DEFINE_string("weights", None, "Their preset, where it is not the one that results.json names.")

FLAGS = flags.FLAGS

_ROUNDING = 1e-5  # of a difference of float32 pixels
_ROWS = {"none": "No Defense", "defensegan": "DefenseGAN", "invgan": "InvGAN"}
_CALIBRATED = 50  # images projected at a time, as the experiment calibrates


class _Answer(NamedTuple):
    """What a defence makes of a cell's images; arrays over them."""

    defense: str
    norm: str
    eps: float
    column: str
    correct: np.ndarray
    score: np.ndarray  # Eq. 7's


def check(folder: str | os.PathLike, preset: str | None = None, images: int | None = None) -> tuple[list[str], int]:
    """Scores a run's images again.

    Args:
        folder: with results.json and images/.
        preset: name or folder of the weights; the dataset's by default.
        images: at most so many of each cell; all by default, without which the table's figures are not compared.

    Returns:
        What does not agree, a line each, and the number of cells looked at.
    """
    folder = pathlib.Path(folder)
    results = files.read_sealed(folder / "results.json")
    settings, dataset = results["settings"], results["dataset"]
    models = _models(settings, preset or settings["preset_dir"] or dataset)
    examples = data.load(dataset, settings["split"])
    values = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    problems, answers = [], []
    paths = sorted((folder / "images").glob("*.npz"))
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            stored = dict(file)
        _, defense, norm, row, column = stored["place"].tolist()
        count = len(stored["labels"]) if images is None else min(images, len(stored["labels"]))
        # In the blocks of the experiment, for a product's rounding may depend on its rows.
        predicted, score = _ask(models[defense], stored["attacked"][:count], 0, int(stored["block"]))
        correct = predicted == examples.labels[:count]
        for problem in _compare(stored, examples, predicted, count):
            problems.append(f"{path.name}: {problem}")
        if images is None and abs(values[row, column] - correct.mean()) > 1e-9:
            problems.append(
                f"{path.name}: results.json says {values[row, column]:.3f}, the images {correct.mean():.3f}."
            )
        answers.append(_Answer(defense, norm, float(stored["eps"]), column, correct, score))
        print(f"{row}, {column}: {correct.mean():.3f} of {count}", flush=True)
    if images is None:
        for defense, model in models.items():
            own, count = [answer for answer in answers if answer.defense == defense], settings["inside_images"]
            problems += _worst_cases(_ROWS[defense], own, values, count, np.inf)
            if defense != "none":
                threshold = _threshold(model, examples.images, settings)
                problems += _worst_cases(f"{_ROWS[defense]} with detector", own, values, count, threshold)
    return problems, len(paths)


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


def _compare(stored, examples, predicted, count):
    """Yields what of a cell's images does not agree with the dataset, its ball, or what was stored of them."""
    clean, labels = examples.images[:count], examples.labels[:count]
    if not (np.array_equal(stored["clean"][:count], clean) and np.array_equal(stored["labels"][:count], labels)):
        yield "its clean images or labels are not those of the dataset."
    change = (stored["attacked"][:count] - clean).reshape(count, -1)
    norm, eps = stored["place"][2], float(stored["eps"])
    size = np.abs(change).max(axis=1) if norm == "inf" else np.linalg.norm(change, axis=1)
    if size.max() > eps + _ROUNDING or stored["attacked"].min() < 0.0 or stored["attacked"].max() > 1.0:
        yield f"images reach {size.max():.4f}, outside the ball of {eps:g} or the pixel range."
    different = int(np.sum(stored["predicted"][:count] != predicted))
    if different:
        yield f"{different} of {count} images are predicted otherwise."


def _worst_cases(row, answers, values, count, threshold):
    """Yields the worst cases of a row that are not those of its single attacks; flagged above the threshold."""

    def left(answer):  # flagged, an attacked image does no harm and a clean one is lost
        flagged = answer.score > threshold
        return answer.correct | flagged if answer.eps else answer.correct & ~flagged

    clean = next((answer for answer in answers if not answer.eps), None)
    if clean is None:
        yield f"{row}: images/ has no clean ones; the run is not complete."
        return
    worst = {"Clean": left(clean)}
    for norm, eps, column in {(answer.norm, answer.eps, answer.column) for answer in answers if answer.eps}:
        within = [answer for answer in answers if answer.norm == norm and 0.0 < answer.eps <= eps]
        worst[column] = np.all([left(answer)[:count] for answer in (clean, *within)], axis=0)
    for column, images in sorted(worst.items()):
        said = values.get((row, column))
        if said is None:
            yield f"{row}, {column}: results.json has no worst case; the run is not complete."
        elif abs(said - images.mean()) > 1e-9:
            yield f"{row}, {column}: results.json says {said:.3f}, the images {images.mean():.3f}."


def main(_) -> None:
    """Scores a folder again; exits with 1 where anything does not agree."""
    tf.config.threading.set_intra_op_parallelism_threads(1)  # as the experiment's workers compute
    problems, cells = check(FLAGS.folder, FLAGS.weights, FLAGS.images_each)
    print("\n".join(problems) or f"All {cells} cells agree, image by image.")
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    app.run(main)
