"""Trains AGE, a rival of Table 1: `python -m experiments.train_age --dataset=cifar10`."""

from absl import flags

from experiments import common_flags, training_flags
from invgan_tf import data, models
from invgan_tf.training import age

FLAGS = flags.FLAGS

_DEFAULT_BATCH_SIZE, _EPOCHS, _HALVING_EPOCHS = 64, 150, 40  # its authors'


@training_flags.distributed
def main() -> None:
    """Trains encoder and generator; writes weights and card."""
    dataset = data.spec(FLAGS.dataset)
    batch_size, width = FLAGS.batch_size or _DEFAULT_BATCH_SIZE, FLAGS.width or models.DEFAULT_WIDTH
    epoch_steps = max(1, dataset.sizes["train"] // batch_size)
    steps = FLAGS.training_steps or _EPOCHS * epoch_steps
    encoder, generator = (
        models.build(part, dataset.image_shape, family="age", width=width, dtype=FLAGS.dtype)
        for part in ("age_encoder", "age_generator")
    )
    folder = common_flags.output_dir("train_age")
    trainer = age.AGETrainer(
        encoder,
        generator,
        batch_size=batch_size,
        seed=FLAGS.seed,
        halving_steps=_HALVING_EPOCHS * epoch_steps,
        value_range=dataset.value_range,
    )
    facts = {"batch_size": batch_size, "family": "age", "width": width}
    made = training_flags.train(trainer, folder, f"AGE {FLAGS.dataset}", steps=steps, images=batch_size, **facts)
    training_flags.write_card(folder, trainer.models, **made, steps=steps, **facts)


if __name__ == "__main__":
    common_flags.run(main, "--dataset=cifar10")
