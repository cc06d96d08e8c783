"""Trains an inverter for a generator, without data: `python -m experiments.train_inverter --dataset=mnist`."""

from absl import flags

from experiments import common_flags, training_flags
from invgan_tf import data, models, presets
from invgan_tf.training import inverter

FLAGS = flags.FLAGS

_DEFAULT_STEPS = 100_000  # paper, section 4
_DEFAULT_BATCH_SIZE = 25


def main() -> None:
    """Trains inverter and discriminator against a frozen generator; writes weights and card."""
    dataset = data.spec(FLAGS.dataset)  # its shape and range; no image is read
    batch_size = FLAGS.batch_size or _DEFAULT_BATCH_SIZE
    steps = FLAGS.training_steps or _DEFAULT_STEPS
    folder = common_flags.output_dir("train_inverter")
    source = presets.find(FLAGS.preset_dir or FLAGS.dataset)
    presets.read_card(source, FLAGS.dataset)
    generator = presets.load(source, "generator", dtype=FLAGS.dtype)
    generator_sha256 = presets.checksum(source / "generator.safetensors")
    trainer = inverter.InverterTrainer(
        generator,
        models.build_inverter(dataset.image_shape, dtype=FLAGS.dtype),
        models.build_discriminator(dataset.image_shape, dtype=FLAGS.dtype),
        batch_size=batch_size,
        seed=FLAGS.seed,
        value_range=dataset.value_range,
    )
    made = training_flags.train(
        trainer,
        folder,
        f"Inverter {FLAGS.dataset}",
        steps=steps,
        batch_size=batch_size,
        images=False,
        generator_sha256=generator_sha256,
    )
    training_flags.write_card(
        folder,
        trainer.models,
        **made,
        steps=steps,
        batch_size=batch_size,
        generator_sha256=generator_sha256,
    )


if __name__ == "__main__":
    common_flags.run(main)
