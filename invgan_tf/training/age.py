"""Trains AGE on images (Ulyanov et al., 2018), Table 1's second rival."""

import keras
import tensorflow as tf

from invgan_tf import losses
from invgan_tf.training import loop, replicas


class AGETrainer(loop.Trainer):
    """One encoder step, then two generator steps, fresh latents in each; no discriminator.

    Args:
        encoder, generator: Keras models of `models.age`; trained in place, batch norm in training mode throughout.
        batch_size: images and latents a step.
        seed: key of every draw.
        learning_rate: of both Adams (beta1 0.5), halved every `halving_steps` steps.
        halving_steps: 40 epochs, in the authors' training.
        reconstruction_weight, latent_weight: of |x - G(E(x))| in E's loss, of 1 - cosine(z, E(G(z))) in G's.
        value_range: lowest and highest pixel, to show samples.
    """

    metrics = ("real_divergence", "fake_divergence", "reconstruction_loss", "latent_loss")
    generator_steps = 2

    def __init__(
        self,
        encoder: keras.Model,
        generator: keras.Model,
        *,
        batch_size: int = 64,
        seed: int = 0,
        learning_rate: float = 2e-4,
        halving_steps: int = 28_120,
        reconstruction_weight: float = losses.AGE_RECONSTRUCTION_WEIGHT,
        latent_weight: float = losses.AGE_LATENT_WEIGHT,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ):
        self.models = {"age_encoder": encoder, "age_generator": generator}
        self.optimizers = {
            f"{model.name}_optimizer": keras.optimizers.Adam(
                keras.optimizers.schedules.ExponentialDecay(learning_rate, steps * halving_steps, 0.5, staircase=True),
                0.5,
                0.999,
            )
            for model, steps in ((encoder, 1), (generator, self.generator_steps))
        }
        for model, optimizer in zip(self.models.values(), self.optimizers.values()):
            optimizer.build(model.trainable_variables)
        self.seed, self.value_range = seed, value_range
        self.weights = reconstruction_weight, latent_weight
        self.shape = (batch_size, generator.input_shape[-1])

    def train_step(self, step, batch):
        images = replicas.share(batch[0])
        encoder, generator = self.models.values()
        encoder_optimizer, generator_optimizer = self.optimizers.values()
        reconstruction_weight, latent_weight = self.weights

        fake = generator(self._latents(step, 0), training=True)
        with tf.GradientTape() as tape:
            codes = encoder(images, training=True)
            real_divergence = losses.normal_divergence(replicas.gather(codes))
            fake_divergence = losses.normal_divergence(replicas.gather(encoder(fake, training=True)))
            reconstruction = tf.reduce_mean(tf.abs(images - generator(codes, training=True)))
            loss = real_divergence - fake_divergence + reconstruction_weight * reconstruction
        variables = encoder.trainable_variables
        replicas.apply(encoder_optimizer, tape.gradient(loss, variables), variables)

        variables = generator.trainable_variables
        for role in range(1, 1 + self.generator_steps):
            latents = self._latents(step, role)
            with tf.GradientTape() as tape:
                codes = encoder(generator(latents, training=True), training=True)
                fake_divergence = losses.normal_divergence(replicas.gather(codes))
                latent_loss = losses.cosine_distance(latents, codes)
                loss = fake_divergence + latent_weight * latent_loss
            replicas.apply(generator_optimizer, tape.gradient(loss, variables), variables)
        return {
            "real_divergence": real_divergence,
            "fake_divergence": fake_divergence,
            "reconstruction_loss": reconstruction,
            "latent_loss": latent_loss,
        }

    def _latents(self, step, role, count=None):
        """Draws latents uniformly on the unit sphere."""
        shape = (count or self.shape[0], self.shape[1])
        return tf.math.l2_normalize(loop.latents(self.seed, step, role, shape), axis=1)

    def images(self):
        low, high = self.value_range
        fixed = self._latents(tf.constant(0, tf.int64), -1, 100)
        return {"samples": (self.models["age_generator"](fixed, training=False) - low) / (high - low)}
