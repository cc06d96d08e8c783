"""Trains the paper's GAN on a dataset's training split: `python -m experiments.train_gan --dataset=mnist`."""

from absl import flags

from experiments import common_flags, recipes, training_flags
from invgan_tf import data, models
from invgan_tf.training import gan

flags.DEFINE_enum(
    "family",
    None,
    models.GAN_FAMILIES,
    "Networks to train. Default: the dataset's in Tables 2 and 3; Tables 1 and 5 take CIFAR-10's dcgan.",
)

FLAGS = flags.FLAGS

_DEFAULT_STEPS = 200_000  # the authors' configuration; the paper gives none


@training_flags.distributed
def main() -> None:
    """Trains generator and discriminator and writes their weights and card to the output folder."""
    dataset = data.spec(FLAGS.dataset)
    family, width = FLAGS.family or dataset.family, FLAGS.width or models.DEFAULT_WIDTH
    recipe = recipes.recipe(FLAGS.dataset, family)
    batch_size = FLAGS.batch_size or recipe.gan_batch_size
    steps = FLAGS.training_steps or _DEFAULT_STEPS
    networks = [
        models.build(part, dataset.image_shape, family=family, width=width, dtype=FLAGS.dtype)
        for part in ("generator", "discriminator")
    ]
    folder = common_flags.output_dir("train_gan")
    trainer = gan.GANTrainer(
        *networks,
        batch_size=batch_size,
        seed=FLAGS.seed,
        generator_learning_rate=recipe.generator_learning_rate,
        discriminator_learning_rate=recipe.discriminator_learning_rate,
        discriminator_steps=recipe.discriminator_steps,
        value_range=dataset.value_range,
    )
    made = training_flags.train(
        trainer,
        folder,
        f"GAN {FLAGS.dataset}",
        steps=steps,
        batch_size=batch_size,
        images=batch_size * recipe.discriminator_steps,
        family=family,
        width=width,
    )
    training_flags.write_card(
        folder, trainer.models, **made, steps=steps, batch_size=batch_size, family=family, width=width
    )


if __name__ == "__main__":
    common_flags.run(main)
