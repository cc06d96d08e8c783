"""Trains ALI, a rival of Table 1: `python -m experiments.train_ali --dataset=cifar10`."""

from absl import flags

from experiments import common_flags, training_flags
from invgan_tf import data, models
from invgan_tf.models import ali as networks
from invgan_tf.training import ali

FLAGS = flags.FLAGS

_PARTS = ("ali_encoder", "ali_decoder", "ali_discriminator")
_DEFAULT_BATCH_SIZE, _EPOCHS = 100, 6475  # its authors'
_COUNTED = 500  # images behind the log-odds the decoder starts from, as its authors took


@training_flags.distributed
def main() -> None:
    """Trains encoder, decoder and discriminator; writes weights and card."""
    dataset = data.spec(FLAGS.dataset)
    batch_size, width = FLAGS.batch_size or _DEFAULT_BATCH_SIZE, FLAGS.width or models.DEFAULT_WIDTH
    steps = FLAGS.training_steps or _EPOCHS * (dataset.sizes["train"] // batch_size)
    encoder, decoder, discriminator = (
        models.build(part, dataset.image_shape, family="ali", width=width, dtype=FLAGS.dtype) for part in _PARTS
    )
    low, high = dataset.value_range
    first = data.load(FLAGS.dataset, "train", data_dir=FLAGS.data_dir, limit=min(_COUNTED, dataset.sizes["train"]))
    networks.set_log_odds(decoder, (first.images - low) / (high - low))
    folder = common_flags.output_dir("train_ali")
    trainer = ali.ALITrainer(
        encoder, decoder, discriminator, batch_size=batch_size, seed=FLAGS.seed, value_range=dataset.value_range
    )
    facts = {"batch_size": batch_size, "family": "ali", "width": width}
    made = training_flags.train(trainer, folder, f"ALI {FLAGS.dataset}", steps=steps, images=batch_size, **facts)
    training_flags.write_card(folder, trainer.models, **made, steps=steps, **facts)


if __name__ == "__main__":
    common_flags.run(main, "--dataset=cifar10")
