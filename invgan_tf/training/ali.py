"""Trains ALI on images (Dumoulin et al., 2017), Table 1's first rival."""

import keras
import tensorflow as tf

from invgan_tf import losses
from invgan_tf.models import ali
from invgan_tf.training import loop, masks, replicas


class ALITrainer(loop.Trainer):
    """The discriminator, and encoder with decoder, each make a step from the same batch at once.

    The discriminator tells pairs (x, E(x)) from (G(z), z); encoder and decoder are to swap the two.

    Args:
        encoder, decoder, discriminator: Keras models of `models.ali`, images in [0, 1]; trained in place.
        batch_size: images and latents a step.
        seed: key of every draw.
        learning_rate: of both Adams (beta1 0.5).
        value_range: lowest and highest pixel of the batches.
    """

    metrics = ("generator_loss", "discriminator_loss", "real_logit", "fake_logit")

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        discriminator: keras.Model,
        *,
        batch_size: int = 100,
        seed: int = 0,
        learning_rate: float = 1e-4,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ):
        self.models = {"ali_encoder": encoder, "ali_decoder": decoder, "ali_discriminator": discriminator}
        self.optimizers = {
            "generator_optimizer": keras.optimizers.Adam(learning_rate, 0.5, 0.999),
            "discriminator_optimizer": keras.optimizers.Adam(learning_rate, 0.5, 0.999),
        }
        self.variables = (
            [*encoder.trainable_variables, *decoder.trainable_variables],
            discriminator.trainable_variables,
        )
        for optimizer, variables in zip(self.optimizers.values(), self.variables):
            optimizer.build(variables)
        self.seed, self.value_range = seed, value_range
        self.shape = (batch_size, decoder.input_shape[-1])
        self.dropout_states = masks.states(discriminator)

    def train_step(self, step, batch):
        low, high = self.value_range
        images = (replicas.share(batch[0]) - low) / (high - low)
        encoder, decoder, discriminator = self.models.values()
        masks.key(self.dropout_states, self.seed, step)
        noise, latents = (loop.latents(self.seed, step, role, self.shape) for role in (0, 1))
        with tf.GradientTape(persistent=True) as tape:
            inferred = ali.sample_latents(encoder(images, training=True), noise)
            generated = decoder(latents, training=True)
            pairs = [tf.concat([images, generated], axis=0), tf.concat([inferred, latents], axis=0)]
            real_logits, fake_logits = tf.split(discriminator(pairs, training=True), 2)
            discriminator_loss = losses.adversarial_discriminator(real_logits, fake_logits)
            generator_loss = losses.adversarial_discriminator(fake_logits, real_logits)
        wanted = zip((generator_loss, discriminator_loss), self.variables)
        gradients = [tape.gradient(loss, variables) for loss, variables in wanted]  # both before any weight moves
        for optimizer, gradient, variables in zip(self.optimizers.values(), gradients, self.variables):
            replicas.apply(optimizer, gradient, variables)
        return {
            "generator_loss": generator_loss,
            "discriminator_loss": discriminator_loss,
            "real_logit": tf.reduce_mean(real_logits),
            "fake_logit": tf.reduce_mean(fake_logits),
        }

    def images(self):
        fixed = loop.latents(self.seed, tf.constant(0, tf.int64), -1, (100, self.shape[1]))
        return {"samples": self.models["ali_decoder"](fixed, training=False)}
