"""Trains a classifier on clean images: `python -m experiments.train_classifier --dataset=mnist --classifier=A`."""

import keras
from absl import flags

from experiments import common_flags, training_flags
from invgan_tf import data, models, presets
from invgan_tf.evaluation import accuracy
from invgan_tf.training import classifier

flags.DEFINE_enum(
    "classifier",
    None,
    models.ARCHITECTURES,
    "Architecture: A defends, F is Table 4's oracle, E its substitute; Y is CelebA's; wide and small are CIFAR-10's. "
    "Default: the one that defends the dataset.",
)
flags.DEFINE_integer(
    "epochs",
    None,
    "Passes over the training split; --training_steps overrides it. Default: 10; 40 for wide and small.",
    lower_bound=1,
)

FLAGS = flags.FLAGS

_DEFAULT_BATCH_SIZE = 128
_RESIDUAL = ("wide", "small")  # trained by their own recipe
_LEARNING_RATE, _MOMENTUM, _WEIGHT_DECAY = 0.1, 0.9, 5e-4


@training_flags.distributed
def main() -> None:
    """Trains one classifier and writes its weights and its card with the validation accuracy."""
    common_flags.refuse("width")
    dataset = data.spec(FLAGS.dataset)
    architecture = FLAGS.classifier or dataset.classifiers[0]
    batch_size = FLAGS.batch_size or _DEFAULT_BATCH_SIZE
    folder = common_flags.output_dir(f"train_classifier_{architecture}")
    validation = data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir)
    model = models.build_classifier(
        architecture, dataset.image_shape, num_classes=dataset.num_classes, dtype=FLAGS.dtype
    )
    if batch_size > dataset.sizes["train"]:
        raise common_flags.FlagError(
            f"--batch_size={batch_size} is more than the {dataset.sizes['train']} training images."
        )
    epoch_steps = dataset.sizes["train"] // batch_size
    steps = FLAGS.training_steps or (FLAGS.epochs or (40 if architecture in _RESIDUAL else 10)) * epoch_steps
    recipe, facts = _recipe(steps) if architecture in _RESIDUAL else ({}, {})
    trainer = classifier.ClassifierTrainer(model, seed=FLAGS.seed, validation=validation, **recipe)
    made = training_flags.train(
        trainer,
        folder,
        f"Classifier {architecture} {FLAGS.dataset}",
        steps=steps,
        batch_size=batch_size,
        images=batch_size,
        classifier=architecture,
        **facts,
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


def _recipe(steps):
    """Returns how a residual network is trained, and what makes it another run than one of other steps."""
    cosine = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    optimizer = keras.optimizers.SGD(cosine, momentum=_MOMENTUM)
    return {"optimizer": optimizer, "weight_decay": _WEIGHT_DECAY, "augment": True}, {"cosine_steps": steps}


if __name__ == "__main__":
    common_flags.run(main)
