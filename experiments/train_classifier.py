"""Trains a classifier on clean images: `python -m experiments.train_classifier --dataset=mnist --classifier=A`."""

from absl import flags

from experiments import common_flags, training_flags
from invgan_tf import data, models, presets
from invgan_tf.evaluation import accuracy
from invgan_tf.training import classifier

flags.DEFINE_enum(
    "classifier", "A", models.ARCHITECTURES, "Architecture: A defends, F is Table 4's oracle, E its substitute."
)
flags.DEFINE_integer("epochs", 10, "Passes over the training split; --training_steps overrides it.", lower_bound=1)

FLAGS = flags.FLAGS

_DEFAULT_BATCH_SIZE = 128


def main() -> None:
    """Trains one classifier and writes its weights and its card with the validation accuracy."""
    dataset = data.spec(FLAGS.dataset)
    batch_size = FLAGS.batch_size or _DEFAULT_BATCH_SIZE
    folder = common_flags.output_dir(f"train_classifier_{FLAGS.classifier}")
    validation = data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir)
    model = models.build_classifier(
        FLAGS.classifier, dataset.image_shape, num_classes=dataset.num_classes, dtype=FLAGS.dtype
    )
    if batch_size > dataset.sizes["train"]:
        raise common_flags.FlagError(
            f"--batch_size={batch_size} is more than the {dataset.sizes['train']} training images."
        )
    epoch_steps = dataset.sizes["train"] // batch_size
    steps = FLAGS.training_steps or FLAGS.epochs * epoch_steps
    trainer = classifier.ClassifierTrainer(model, seed=FLAGS.seed, validation=validation)
    made = training_flags.train(
        trainer,
        folder,
        f"Classifier {FLAGS.classifier} {FLAGS.dataset}",
        steps=steps,
        batch_size=batch_size,
        images=True,
        classifier=FLAGS.classifier,
    )
    presets.load_weights(model, f"{folder}/{model.name}.safetensors")  # measure what is stored
    measured = accuracy.Proportion.of(accuracy.predict(model, validation.images) == validation.labels)
    training_flags.write_card(
        folder,
        trainer.models,
        **made,
        steps=steps,
        batch_size=batch_size,
        validation_accuracy=measured.value,
        validation_ci95=measured.ci95,
        validation_n=measured.n,
    )


if __name__ == "__main__":
    common_flags.run(main)
