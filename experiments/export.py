"""Writes a defended classifier as a SavedModel: `python -m experiments.export --preset=mnist --steps=T`.

It loads where only TensorFlow is installed. Attacks are flagged by a threshold that is set here on clean images.
"""

import os
import pathlib

from absl import flags

from experiments import common_flags, report, whitebox_flags
from invgan_tf import AttackDetector, Defended, InvGAN, data, files, load_classifier, presets, serving

flags.DEFINE_float("threshold", None, "Score from which on an image is flagged. Default: set on clean images.", 0.0)
flags.DEFINE_integer("calibration_images", 200, "Clean images the threshold is set on.", lower_bound=20)
flags.DEFINE_enum(
    "calibration_split",
    "test",
    ["test", "validation"],
    "Where they come from: the last images of the packaged test split, which no table begins with, or the first ones "
    "of the validation split, which is read through TensorFlow Datasets.",
)

FLAGS = whitebox_flags.FLAGS

common_flags.finite("threshold")


def main() -> None:
    """Builds classifier, defence and detector from a preset, sets the threshold, and writes the SavedModel."""
    preset = FLAGS.preset or FLAGS.preset_dir or FLAGS.dataset
    card = presets.read_card(preset)
    if FLAGS.projector != "exact":
        raise common_flags.FlagError("--projector must be exact: its number of steps is what a server chooses.")
    dataset = card.get("generator", {}).get("dataset")
    if FLAGS.threshold is None:
        _check_calibration(preset, dataset)
    steps = whitebox_flags.INVGAN_STEPS if FLAGS.steps is None else FLAGS.steps
    folder = pathlib.Path(FLAGS.output_dir or os.path.join("runs", "export", pathlib.Path(preset).name))
    # Where it will be served is not known: float32 is fast everywhere.
    dtype = "float32" if FLAGS.projection_dtype == "auto" else FLAGS.projection_dtype
    try:
        defense = InvGAN.from_preset(preset, dtype=dtype)
    except ValueError as error:
        if isinstance(error, presets.PresetError):
            raise
        raise common_flags.FlagError(f"--projection_dtype={dtype}: {error}") from error
    own = data.spec(dataset).classifiers if dataset in data.DATASETS else ()
    name = next((name for name in own if f"classifier_{name.lower()}" in card), "A")
    classifier = load_classifier(preset, name)
    detector = AttackDetector(Defended(classifier, defense, steps=steps, seed=FLAGS.seed))
    calibrated = None
    if FLAGS.threshold is None:
        detector.calibrate(_clean(dataset), FLAGS.false_positive_rate)
        calibrated = {
            "false_positive_rate": FLAGS.false_positive_rate,
            "images": FLAGS.calibration_images,
            "split": FLAGS.calibration_split,
        }
    else:
        detector.threshold = FLAGS.threshold
    folder.mkdir(parents=True, exist_ok=True)
    serving.export(detector, folder)
    told = {
        "preset": str(preset),
        "dataset": dataset,
        "steps": steps,
        "threshold": detector.threshold,
        "calibration": calibrated,
        "dtype": dtype,
        "value_range": list(defense.value_range),
        "networks": {part: card[part]["sha256"] for part in (*defense.parts, f"classifier_{name.lower()}")},
        "environment": report.environment(),
    }
    files.write_json(folder / "invgan.json", told)
    print(f"Written to {folder}: a SavedModel, T = {steps}, {dtype}; it flags scores above {detector.threshold:.4g}.")


def _check_calibration(preset, dataset):
    """Refuses to set a threshold where there are no clean images, or too few."""
    if dataset not in data.DATASETS:
        raise common_flags.FlagError(f"{preset} is of no known dataset: give the --threshold.")
    there = data.spec(dataset).sizes[FLAGS.calibration_split]
    if FLAGS.calibration_images > there:
        raise common_flags.FlagError(
            f"--calibration_images must be at most {there}, the images of {dataset}'s {FLAGS.calibration_split} split, "
            f"got {FLAGS.calibration_images}."
        )


def _clean(dataset):
    """Returns the clean images that the threshold is set on."""
    count = FLAGS.calibration_images
    if FLAGS.calibration_split == "validation":
        return data.load(dataset, "validation", data_dir=FLAGS.data_dir, limit=count).images
    return data.load(dataset, "test", data_dir=FLAGS.data_dir).images[-count:]


if __name__ == "__main__":
    common_flags.run(main)
