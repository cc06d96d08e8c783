"""Trains an inverter for a generator, without data: `python -m experiments.train_inverter --dataset=mnist`."""

from absl import flags

from experiments import common_flags, recipes, training_flags
from invgan_tf import data, losses, models, presets
from invgan_tf.training import inverter

flags.DEFINE_bool(
    "ablation",
    False,
    "Train Table 5's inverter: no adversarial and no latent loss, no margin. Written as ablation_inverter.",
)

FLAGS = flags.FLAGS

_DEFAULT_STEPS = 100_000  # paper, section 4


@training_flags.distributed
def main() -> None:
    """Trains inverter and discriminator against a frozen generator; writes weights and card."""
    dataset = data.spec(FLAGS.dataset)  # its shape and range; no image is read
    source = presets.find(FLAGS.preset_dir or FLAGS.dataset)
    made_as = presets.read_card(source, FLAGS.dataset).get("generator", {})
    family, width = made_as.get("family", "dcgan"), FLAGS.width or made_as.get("width", models.DEFAULT_WIDTH)
    recipe = recipes.recipe(FLAGS.dataset, family)
    batch_size = FLAGS.batch_size or recipe.inverter_batch_size
    steps = FLAGS.training_steps or _DEFAULT_STEPS
    generator = presets.load(source, "generator", dtype=FLAGS.dtype)
    generator_sha256 = presets.checksum(source / "generator.safetensors")
    part = "ablation_inverter" if FLAGS.ablation else "inverter"
    networks = [
        models.build(name, dataset.image_shape, family=family, width=width, dtype=FLAGS.dtype)
        for name in (part, "discriminator")
    ]
    weights = losses.ABLATION if FLAGS.ablation else losses.INVERSION
    folder = common_flags.output_dir(f"train_{part}")
    trainer = inverter.InverterTrainer(
        generator,
        *networks,
        batch_size=batch_size,
        seed=FLAGS.seed,
        discriminator_learning_rate=recipe.inverter_discriminator_learning_rate,
        **weights._asdict(),
        value_range=dataset.value_range,
        part=part,
    )
    facts = {"family": family, "width": width, "generator_sha256": generator_sha256, "losses": weights._asdict()}
    made = training_flags.train(
        trainer, folder, f"Inverter {FLAGS.dataset}", steps=steps, batch_size=batch_size, images=0, **facts
    )
    training_flags.write_card(folder, trainer.models, **made, steps=steps, batch_size=batch_size, **facts)


if __name__ == "__main__":
    common_flags.run(main)
