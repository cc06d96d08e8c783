"""Scores the images of `experiments.adaptive` again: `python -m tools.rescore --folder=runs/adaptive/mnist`.

Shares nothing with the experiment but the library's defences, the images and their labels: every image is compared
with its clean one from the test set, projected anew with the settings in results.json, classified, and the figures of
every cell, the worst cases among them, are computed from these answers.
"""

import os
import pathlib

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
    test = data.load(dataset, "test")
    values = {(cell["row"], cell["column"]): cell["value"] for cell in results["cells"]}
    problems, answers = [], {}
    paths = sorted((folder / "images").glob("*.npz"))
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            stored = dict(file)
        _, defense, norm, row, column = stored["place"].tolist()
        count = len(stored["labels"]) if images is None else min(images, len(stored["labels"]))
        predicted = _predict(models[defense], stored["attacked"], count, int(stored["block"]))
        correct = predicted == test.labels[:count]
        for problem in _compare(stored, test, predicted, count):
            problems.append(f"{path.name}: {problem}")
        if images is None and abs(values[row, column] - correct.mean()) > 1e-9:
            problems.append(
                f"{path.name}: results.json says {values[row, column]:.3f}, the images {correct.mean():.3f}."
            )
        answers[row, column] = defense, norm, float(stored["eps"]), correct
        print(f"{row}, {column}: {correct.mean():.3f} of {count}", flush=True)
    if images is None:
        problems += _worst_cases(answers, values, settings)
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


def _predict(model, images, count, block):
    """Returns labels; in the blocks of the experiment, for a product's rounding may depend on its rows."""
    found = []
    for first in range(0, count, block):
        part = images[first : first + block]
        indices = np.arange(first, first + len(part))
        logits = model.predict(part, indices=indices) if isinstance(model, defenses.Defended) else model(part).numpy()
        found.append(logits.argmax(axis=1))
    return np.concatenate(found)[:count]


def _compare(stored, test, predicted, count):
    """Yields what of a cell's images does not agree with the test set, its ball, or what was stored of them."""
    clean, labels = test.images[:count], test.labels[:count]
    if not (np.array_equal(stored["clean"][:count], clean) and np.array_equal(stored["labels"][:count], labels)):
        yield "its clean images or labels are not those of the test set."
    change = (stored["attacked"][:count] - clean).reshape(count, -1)
    norm, eps = stored["place"][2], float(stored["eps"])
    size = np.abs(change).max(axis=1) if norm == "inf" else np.linalg.norm(change, axis=1)
    if size.max() > eps + _ROUNDING or stored["attacked"].min() < 0.0 or stored["attacked"].max() > 1.0:
        yield f"images reach {size.max():.4f}, outside the ball of {eps:g} or the pixel range."
    different = int(np.sum(stored["predicted"][:count] != predicted))
    if different:
        yield f"{different} of {count} images are predicted otherwise."


def _worst_cases(answers, values, settings):
    """Yields the worst cases that are not those of the single attacks."""
    names = {"none": "No Defense", "defensegan": "DefenseGAN", "invgan": "InvGAN"}
    places = {(defense, norm, eps, column) for (_, column), (defense, norm, eps, _) in answers.items() if eps}
    for defense, norm, eps, column in sorted(places):
        left = np.ones(settings["inside_images"], bool)
        for other, kind, size, correct in answers.values():
            if other == defense and (not size or (kind == norm and size <= eps)):
                left &= correct[: len(left)]
        row = names[defense]
        said = values.get((row, column))
        if said is None:
            yield f"{row}, {column}: results.json has no worst case; the run is not complete."
        elif abs(said - left.mean()) > 1e-9:
            yield f"{row}, {column}: results.json says {said:.3f}, the images {left.mean():.3f}."


def main(_) -> None:
    """Scores a folder again; exits with 1 where anything does not agree."""
    tf.config.threading.set_intra_op_parallelism_threads(1)  # as the experiment's workers compute
    problems, cells = check(FLAGS.folder, FLAGS.weights, FLAGS.images_each)
    print("\n".join(problems) or f"All {cells} cells agree, image by image.")
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    app.run(main)
