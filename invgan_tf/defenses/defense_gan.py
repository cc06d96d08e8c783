"""DefenseGAN (Samangouei et al. 2018): random restarts and descent with momentum."""

import keras
import tensorflow as tf

from invgan_tf import projection
from invgan_tf.defenses import base
from invgan_tf.fast_projection import Stage


class DefenseGAN(base.Defense):
    """Projects from R latents drawn from N(0, I), L steps each, and keeps the lowest loss.

    Args:
        generator: Keras model from latents to images.
        optimizer: momentum 0.7 at the constant rate 10, as the authors' code ran.
        steps: L, 200 in the paper.
        restarts: R, 10 in the paper.
        value_range: lowest and highest pixel.
        dtype: precision of the descent's matrix products.
    """

    # Restarts race by their own momentum: L-BFGS from the start heads for other minima. Its evaluations at the end win
    # back what dropping late starters costs, and hardly more: a lower loss explains more of an attack's noise. Their
    # number was chosen on validation images that benchmarks.quality does not judge them on.
    fast_stages = (
        Stage(10, scouting=True),
        Stage(30, 0.4, scouting=True),
        Stage(40, 0.3, scouting=True),
        Stage(40, 0.2, scouting=True),
        Stage(25, 0.1, precise=True),
    )

    def __init__(
        self,
        generator: keras.Model,
        *,
        optimizer: projection.Optimizer = projection.Momentum(),
        steps: int = 200,
        restarts: int = 10,
        value_range: tuple[float, float] = (0.0, 1.0),
        dtype: str = "float32",
    ):
        super().__init__(
            generator, optimizer=optimizer, steps=steps, restarts=restarts, value_range=value_range, dtype=dtype
        )

    def starts(self, images, indices, restarts, seed):
        shape, seed = (restarts, self.latent_dim), tf.cast(seed, tf.int64)
        return tf.map_fn(
            lambda index: tf.random.stateless_normal(shape, tf.stack([seed, index])),
            tf.cast(indices, tf.int64),
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )
