"""Trains an inverter for your own generator: `python -m experiments.invert --generator=my_generator.keras`.

The generator is all it needs: no data is read. The folder it writes is a preset: `InvGAN.from_preset(OUTPUT_DIR)`.
"""

import math
import os
import pathlib

from absl import flags

from experiments import common_flags, report, training_flags
from invgan_tf import InvGAN, inversion, losses, presets
from invgan_tf.presets import architectures, saving

flags.DEFINE_string("generator", None, "Your generator: a .keras file, latents [n, d] from N(0, I) to images.")
flags.DEFINE_list("pixel_range", ["0", "1"], "Lowest and highest pixel of the generator's images: LOW,HIGH.")
flags.DEFINE_integer("inverter_width", 64, "Channels of the inverter's first convolution.", lower_bound=1)
flags.DEFINE_list(
    "loss_weights",
    [str(losses.LAMBDA_ADVERSARIAL), str(losses.LAMBDA_SEMANTIC), str(losses.LAMBDA_LATENT)],
    "Weights of the adversarial, the semantic and the latent loss; without the first training is faster.",
)
flags.DEFINE_float("inverter_learning_rate", 2e-4, "Of the inverter's Adam.", lower_bound=0.0)
flags.DEFINE_integer("fresh_latents", 1000, "Latents that the inverter is measured on.", lower_bound=2)

FLAGS = flags.FLAGS


def _numbers(texts):
    """Returns the finite numbers that a flag lists, none where an entry is no such number."""
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def _is_range(texts):
    numbers = _numbers(texts)
    return len(numbers) == 2 and numbers[0] < numbers[1]


def _are_weights(texts):
    numbers = _numbers(texts)
    return len(numbers) == 3 and min(numbers) >= 0.0 and any(numbers)


common_flags.finite("inverter_learning_rate")
flags.register_validator("pixel_range", _is_range, "must be LOW,HIGH: 2 finite numbers, the lower one first")
flags.register_validator(
    "loss_weights", _are_weights, "must be 3 finite numbers with commas, none below 0 and not all of them 0"
)

_DEFAULT_STEPS, _DEFAULT_BATCH_SIZE = 15_000, 25
_COLUMNS = {"latent_mse": "Latents", "image_mse": "Images"}
_ROWS = ("Inverter", "Random", "Constant")


def main() -> None:
    """Trains, measures on fresh latents beside two inverters that look at no image, and writes a preset."""
    common_flags.refuse("dtype", "width", "distribution", "dataset", "preset_dir")
    low_high, weights = _numbers(FLAGS.pixel_range), _numbers(FLAGS.loss_weights)
    if not FLAGS.generator:
        raise common_flags.FlagError("--generator is missing: give a .keras file of your generator.")
    folder = FLAGS.output_dir or os.path.join("runs", "invert", pathlib.Path(FLAGS.generator).stem)
    steps, batch_size = FLAGS.training_steps or _DEFAULT_STEPS, FLAGS.batch_size or _DEFAULT_BATCH_SIZE
    options = {
        "inverter_learning_rate": FLAGS.inverter_learning_rate,
        **dict(zip(("adversarial_weight", "semantic_weight", "latent_weight"), weights)),
    }
    try:
        generator = architectures.load_keras_file(FLAGS.generator)
        trainer = inversion.trainer(
            generator,
            batch_size=batch_size,
            seed=FLAGS.seed,
            value_range=low_high,
            width=FLAGS.inverter_width,
            **options,
        )
    except ValueError as error:
        raise common_flags.FlagError(f"--generator={FLAGS.generator}: {error}") from error
    facts = {"generator_file_sha256": presets.checksum(FLAGS.generator), "width": FLAGS.inverter_width, **options}
    title = f"Inverter of {pathlib.Path(FLAGS.generator).name}"
    made = training_flags.train(
        trainer, folder, title, steps=steps, batch_size=batch_size, images=0, dataset=None, **facts
    )
    inverter = trainer.models["inverter"]
    settings = {"seed": FLAGS.seed, "steps": steps, "batch_size": batch_size, **facts}
    saving.save_preset(folder, InvGAN(generator, inverter, value_range=low_high), facts={**made, **settings})
    _report(folder, title, settings, generator, inverter)


def _report(folder, title, settings, generator, inverter):
    layout = report.Layout(
        experiment="invert",
        dataset=pathlib.Path(FLAGS.generator).name,
        title=f"{title}: squared error on fresh latents",
        rows=_ROWS,
        columns=list(_COLUMNS.values()),
        legend="mean squared error [95 % Student interval over latents]",
        note=f"Random: other latents from N(0, I). Constant: their mean, 0. Seed {FLAGS.seed}.",
    )
    table = report.Report(layout, settings, folder)
    found = inversion.recovery(generator, inverter, count=FLAGS.fresh_latents, seed=FLAGS.seed)
    for row in _ROWS:
        for field, column in _COLUMNS.items():
            table.add(row, column, getattr(found[row], field), seconds=0.0)
    own = found["Inverter"].image_mse.value
    times = {row: found[row].image_mse.value / own for row in _ROWS[1:]}
    text = ", ".join(f"{row}'s is {value:.1f} times that" for row, value in times.items())
    table.find(f"Images come back with a squared error of {own:.3g}: {text}.", {"times_better": times})
    print(table.markdown())
    print(f"Written to {table.folder}: a preset (invgan_tf.InvGAN.from_preset), results.json, table.md, events.")


if __name__ == "__main__":
    common_flags.run(main)
