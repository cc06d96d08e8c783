"""Trains the paper's GAN on a dataset's training split: `python -m experiments.train_gan --dataset=mnist`."""

from absl import flags

from experiments import common_flags, training_flags
from invgan_tf import data, models
from invgan_tf.training import gan

FLAGS = flags.FLAGS

_DEFAULT_STEPS = 200_000  # the authors' configuration; the paper gives none
_DEFAULT_BATCH_SIZE = 50


def main() -> None:
    """Trains generator and discriminator and writes their weights and card to the output folder."""
    dataset = data.spec(FLAGS.dataset)
    batch_size = FLAGS.batch_size or _DEFAULT_BATCH_SIZE
    steps = FLAGS.training_steps or _DEFAULT_STEPS
    folder = common_flags.output_dir("train_gan")
    trainer = gan.GANTrainer(
        models.build_generator(dataset.image_shape, dtype=FLAGS.dtype),
        models.build_discriminator(dataset.image_shape, dtype=FLAGS.dtype),
        batch_size=batch_size,
        seed=FLAGS.seed,
        value_range=dataset.value_range,
    )
    made = training_flags.train(
        trainer, folder, f"GAN {FLAGS.dataset}", steps=steps, batch_size=batch_size, images=True
    )
    training_flags.write_card(folder, trainer.models, **made, steps=steps, batch_size=batch_size)


if __name__ == "__main__":
    common_flags.run(main)
