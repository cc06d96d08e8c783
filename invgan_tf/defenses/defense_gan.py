"""DefenseGAN (Samangouei et al. 2018): random restarts and descent with momentum."""

import keras
import tensorflow as tf

from invgan_tf import projection
from invgan_tf.defenses import base


class DefenseGAN(base.Defense):
    """Projects from R latents drawn from N(0, I), L steps each, and keeps the lowest loss.

    Args:
        generator: Keras model from latents to images.
        optimizer: momentum 0.7 at the constant rate 10, as the authors' code ran.
        steps: L, 200 in the paper.
        restarts: R, 10 in the paper.
        value_range: lowest and highest pixel.
    """

    def __init__(
        self,
        generator: keras.Model,
        *,
        optimizer: projection.Optimizer = projection.Momentum(),
        steps: int = 200,
        restarts: int = 10,
        value_range: tuple[float, float] = (0.0, 1.0),
    ):
        super().__init__(generator, optimizer=optimizer, steps=steps, restarts=restarts, value_range=value_range)

    def starts(self, images, indices, restarts, seed):
        shape, seed = (restarts, self.latent_dim), tf.constant(seed, tf.int64)
        return tf.map_fn(
            lambda index: tf.random.stateless_normal(shape, tf.stack([seed, index])),
            tf.cast(indices, tf.int64),
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )
