"""Trains an inverter for a frozen generator, without data (paper, section 3.1 and 3.2)."""

import keras
import tensorflow as tf

from invgan_tf import losses, validation
from invgan_tf.training import loop, replicas


class InverterTrainer(loop.Trainer):
    """One discriminator step, then one inverter step, with fresh latents in each.

    The generator is all that is known of the data: z ~ N(0, I), x = G(z), z' = I(x), x' = G(z').

    Args:
        generator: frozen; its batch norm runs in inference mode.
        inverter, discriminator: trained in place; the discriminator tells x from x' (Eq. 5).
        batch_size: latents a step.
        seed: key of every draw.
        inverter_learning_rate, discriminator_learning_rate: of Adam(beta1 0.5, beta2 0.999).
        adversarial_weight, semantic_weight, latent_weight: the lambdas of section 3.2.
        semantic_margin: eta of Eq. 3, in the generator's pixel range.
        value_range: lowest and highest pixel, to show reconstructions.
        part: what the inverter's weights are called.
    """

    metrics = ("semantic_loss", "latent_loss", "adversarial_loss", "discriminator_loss")

    def __init__(
        self,
        generator: keras.Model,
        inverter: keras.Model,
        discriminator: keras.Model,
        *,
        batch_size: int = 25,
        seed: int = 0,
        inverter_learning_rate: float = 2e-4,
        discriminator_learning_rate: float = 4e-4,
        adversarial_weight: float = losses.LAMBDA_ADVERSARIAL,
        semantic_weight: float = losses.LAMBDA_SEMANTIC,
        latent_weight: float = losses.LAMBDA_LATENT,
        semantic_margin: float = losses.SEMANTIC_MARGIN,
        value_range: tuple[float, float] = (0.0, 1.0),
        part: str = "inverter",
    ):
        self.generator = generator
        self.models = {part: inverter, "inverter_discriminator": discriminator}
        self.optimizers = {
            "inverter_optimizer": keras.optimizers.Adam(inverter_learning_rate, 0.5, 0.999),
            "discriminator_optimizer": keras.optimizers.Adam(discriminator_learning_rate, 0.5, 0.999),
        }
        for model, optimizer in zip(self.models.values(), self.optimizers.values()):
            optimizer.build(model.trainable_variables)
        self.seed, self.value_range = seed, value_range
        self.weights = adversarial_weight, semantic_weight, latent_weight
        self.semantic_margin = semantic_margin
        self.shape = (validation.check_count("batch_size", batch_size, 1), generator.input_shape[-1])

    def train_step(self, step, batch):
        inverter, discriminator = self.models.values()
        inverter_optimizer, discriminator_optimizer = self.optimizers.values()
        adversarial_weight, semantic_weight, latent_weight = self.weights

        discriminator_loss = adversarial_loss = tf.constant(0.0)
        if adversarial_weight:
            images = self.generator(loop.latents(self.seed, step, 0, self.shape), training=False)
            reconstructions = self.generator(inverter(images, training=False), training=False)
            with tf.GradientTape() as tape:  # one call for both halves: u moves once a step
                logits = discriminator(tf.concat([images, reconstructions], axis=0), training=True)
                discriminator_loss = losses.adversarial_discriminator(*tf.split(logits, 2))
            variables = discriminator.trainable_variables
            replicas.apply(discriminator_optimizer, tape.gradient(discriminator_loss, variables), variables)

        latents = loop.latents(self.seed, step, 1, self.shape)
        images = self.generator(latents, training=False)
        with tf.GradientTape() as tape:
            recovered = inverter(images, training=True)
            reconstructions = self.generator(recovered, training=False)
            semantic_loss = losses.semantic(images, reconstructions, self.semantic_margin)
            latent_loss = losses.latent(latents, recovered)
            if adversarial_weight:
                adversarial_loss = losses.adversarial_inverter(discriminator(reconstructions, training=False))
            total = (
                adversarial_weight * adversarial_loss + semantic_weight * semantic_loss + latent_weight * latent_loss
            )
        variables = inverter.trainable_variables
        replicas.apply(inverter_optimizer, tape.gradient(total, variables), variables)
        return {
            "semantic_loss": semantic_loss,
            "latent_loss": latent_loss,
            "adversarial_loss": adversarial_loss,
            "discriminator_loss": discriminator_loss,
        }

    def images(self):
        low, high = self.value_range
        fixed = loop.latents(self.seed, tf.constant(0, tf.int64), -1, (50, self.shape[1]))
        images = self.generator(fixed, training=False)
        inverter, _ = self.models.values()
        reconstructions = self.generator(inverter(images, training=False), training=False)
        rows = tf.reshape(tf.stack([images, reconstructions]), (2, 5, 10, *images.shape[1:]))
        pairs = tf.reshape(tf.transpose(rows, (1, 0, 2, 3, 4, 5)), (100, *images.shape[1:]))
        return {"generated_above_reconstructed": (pairs - low) / (high - low)}
