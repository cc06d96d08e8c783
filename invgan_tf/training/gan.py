"""Trains a GAN with the hinge loss (paper, section 4; Miyato et al. 2018)."""

import keras
import tensorflow as tf

from invgan_tf import losses, validation
from invgan_tf.training import loop, replicas


class GANTrainer(loop.Trainer):
    """One generator step, then the discriminator steps, fresh latents in each.

    The generator's batch norm runs in training mode in both. A batch holds `batch_size` real images
    for each discriminator step.

    Args:
        generator, discriminator: Keras models; trained in place.
        batch_size: latents a step, and real images a discriminator step.
        seed: key of every draw.
        generator_learning_rate, discriminator_learning_rate: of Adam(beta1 0.5, beta2 0.999).
        discriminator_steps: discriminator steps a generator step.
        value_range: lowest and highest pixel, to show samples.
    """

    metrics = ("generator_loss", "discriminator_loss", "real_logit", "fake_logit")

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        *,
        batch_size: int = 50,
        seed: int = 0,
        generator_learning_rate: float = 1e-4,
        discriminator_learning_rate: float = 4e-4,
        discriminator_steps: int = 1,
        value_range: tuple[float, float] = (0.0, 1.0),
    ):
        self.models = {"generator": generator, "discriminator": discriminator}
        self.optimizers = {
            "generator_optimizer": keras.optimizers.Adam(generator_learning_rate, 0.5, 0.999),
            "discriminator_optimizer": keras.optimizers.Adam(discriminator_learning_rate, 0.5, 0.999),
        }
        for model, optimizer in zip(self.models.values(), self.optimizers.values()):
            optimizer.build(model.trainable_variables)
        self.seed, self.discriminator_steps = seed, discriminator_steps
        self.value_range = value_range
        self.shape = (validation.check_count("batch_size", batch_size, 1), generator.input_shape[-1])

    def train_step(self, step, batch):
        real_images = batch[0]
        generator, discriminator = self.models.values()
        generator_optimizer, discriminator_optimizer = self.optimizers.values()

        with tf.GradientTape() as tape:
            fake = generator(loop.latents(self.seed, step, 0, self.shape), training=True)
            generator_loss = losses.hinge_generator(discriminator(fake, training=False))
        variables = generator.trainable_variables
        replicas.apply(generator_optimizer, tape.gradient(generator_loss, variables), variables)

        variables = discriminator.trainable_variables
        for role, real in enumerate(tf.split(real_images, self.discriminator_steps), start=1):
            fake = generator(loop.latents(self.seed, step, role, self.shape), training=True)
            with tf.GradientTape() as tape:  # one call for both halves: u moves once a step
                real = replicas.share(real)
                logits = discriminator(tf.concat([real, fake], axis=0), training=True)
                real_logits, fake_logits = tf.split(logits, [real.shape[0], fake.shape[0]])
                discriminator_loss = losses.hinge_discriminator(real_logits, fake_logits)
            replicas.apply(discriminator_optimizer, tape.gradient(discriminator_loss, variables), variables)

        return {
            "generator_loss": generator_loss,
            "discriminator_loss": discriminator_loss,
            "real_logit": tf.reduce_mean(real_logits),
            "fake_logit": tf.reduce_mean(fake_logits),
        }

    def images(self):
        low, high = self.value_range
        fixed = loop.latents(self.seed, tf.constant(0, tf.int64), -1, (100, self.shape[1]))
        return {"samples": (self.models["generator"](fixed, training=False) - low) / (high - low)}
