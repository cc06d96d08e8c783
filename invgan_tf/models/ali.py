"""ALI (Dumoulin et al., 2017), as its authors trained it on CIFAR-10: a rival of Table 1.

Images lie in [0, 1]. Convolutions are VALID; batch norm stands in for biases. Channels scale with `width`, the
authors' own being 64.
"""

import keras
import numpy as np
from keras import layers, ops

from invgan_tf.models.dcgan import ImageShapeError

LATENT_DIM = 64
_IMAGE_SHAPE = (32, 32, 3)
_SLOPE = 0.1
_BATCH_NORM = {"momentum": 0.95, "epsilon": 1e-5}
_INPUT_DROP, _DEEPER_DROP = 0.2, 0.5
_MARGINAL_FLOOR = 1e-3  # keeps the log-odds of a pixel that is always black or white finite


def _initializer():
    return keras.initializers.RandomNormal(0.0, 0.01)


def _check_image_shape(image_shape):
    if tuple(image_shape) != _IMAGE_SHAPE:
        raise ImageShapeError(f"ALI is defined for 32x32x3 images, got image_shape={tuple(image_shape)}.")


@keras.saving.register_keras_serializable("invgan_tf")
class Bias(layers.Layer):
    """Adds a bias of its own to every place and channel ("untied")."""

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=input_shape[1:], initializer="zeros")

    def call(self, inputs):
        return inputs + ops.cast(self.bias, inputs.dtype)


def _block(x, layer, name, dtype):
    x = layer(x)
    x = layers.BatchNormalization(**_BATCH_NORM, dtype=dtype, name=f"{name}_bn")(x)
    return layers.LeakyReLU(_SLOPE, dtype=dtype, name=f"{name}_lrelu")(x)


def build_encoder(
    image_shape: tuple[int, int, int] = _IMAGE_SHAPE, *, width: int = 64, dtype: str = "float32"
) -> keras.Model:
    """Builds E: images `[n, 32, 32, 3]` in [0, 1] to `[n, 128]`, mean and log standard deviation of the latents."""
    _check_image_shape(image_shape)
    images = x = keras.Input(image_shape, name="images")
    sizes = (
        (width // 2, 5, 1),
        (width, 4, 2),
        (2 * width, 4, 1),
        (4 * width, 4, 2),
        (8 * width, 4, 1),
        (8 * width, 1, 1),
    )
    for index, (filters, size, stride) in enumerate(sizes, start=1):
        name = f"conv{index}"
        conv = layers.Conv2D(
            filters, size, stride, use_bias=False, kernel_initializer=_initializer(), dtype=dtype, name=name
        )
        x = _block(x, conv, name, dtype)
    x = layers.Flatten(dtype=dtype, name="flatten")(x)  # of one place: a 1x1 convolution is a dense layer
    outputs = layers.Dense(2 * LATENT_DIM, kernel_initializer=_initializer(), dtype="float32", name="latents")(x)
    return keras.Model(images, outputs, name="ali_encoder")


def build_decoder(
    image_shape: tuple[int, int, int] = _IMAGE_SHAPE, *, width: int = 64, dtype: str = "float32"
) -> keras.Model:
    """Builds G: latents `[n, 64]`, N(0, I), to images `[n, 32, 32, 3]` in [0, 1]."""
    _check_image_shape(image_shape)
    latents = keras.Input((LATENT_DIM,), name="latents")
    x = layers.Reshape((1, 1, LATENT_DIM), dtype=dtype, name="reshape")(latents)
    sizes = (
        (4 * width, 4, 1),
        (2 * width, 4, 2),
        (width, 4, 1),
        (width // 2, 4, 2),
        (width // 2, 5, 1),
        (width // 2, 1, 1),
    )
    for index, (filters, size, stride) in enumerate(sizes, start=1):
        name = f"deconv{index}"
        deconv = layers.Conv2DTranspose(
            filters, size, stride, use_bias=False, kernel_initializer=_initializer(), dtype=dtype, name=name
        )
        x = _block(x, deconv, name, dtype)
    x = layers.Conv2D(3, 1, use_bias=False, kernel_initializer=_initializer(), dtype=dtype, name="conv")(x)
    x = Bias(dtype="float32", name="log_odds")(x)
    images = layers.Activation("sigmoid", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="ali_decoder")


def sample_latents(parameters, noise):
    """Draws latents `[n, 64]` of what E gives, `[n, 128]`; noise `[n, 64]` is N(0, I)."""
    mean, log_deviation = ops.split(parameters, 2, axis=1)
    return mean + ops.exp(log_deviation) * noise


def set_log_odds(decoder: keras.Model, images: np.ndarray) -> None:
    """Starts a decoder's last bias at the log-odds of the mean of images `[n, 32, 32, 3]` in [0, 1]."""
    mean = np.clip(np.mean(images, axis=0, dtype=np.float64), _MARGINAL_FLOOR, 1.0 - _MARGINAL_FLOOR)
    decoder.get_layer("log_odds").bias.assign(np.log(mean / (1.0 - mean)).astype(np.float32))


def build_discriminator(
    image_shape: tuple[int, int, int] = _IMAGE_SHAPE, *, width: int = 64, dtype: str = "float32"
) -> keras.Model:
    """Builds D: pairs of images `[n, 32, 32, 3]` and latents `[n, 64]` to one logit each, `[n, 1]`.

    Each convolution but the last is followed by maxout over two pieces; dropout on what goes into it.
    """
    _check_image_shape(image_shape)

    def stage(x, filters, size, stride, name, drop=_DEEPER_DROP, bias=False):
        x = layers.Dropout(drop, dtype=dtype, name=f"{name}_dropout")(x)
        x = layers.Conv2D(
            filters, size, stride, use_bias=bias, kernel_initializer=_initializer(), dtype=dtype, name=name
        )(x)
        *_, height, length, _ = x.shape
        pieces = layers.Reshape((height, length, filters // 2, 2), dtype=dtype, name=f"{name}_pieces")(x)
        return ops.max(pieces, axis=-1)

    images, latents = keras.Input(image_shape, name="images"), keras.Input((LATENT_DIM,), name="latents")
    x = stage(images, width // 2, 5, 1, "x1", _INPUT_DROP, bias=True)
    for index, (factor, stride) in enumerate(((1, 2), (2, 1), (4, 2), (8, 1)), start=2):
        x = stage(x, factor * width, 4, stride, f"x{index}")
    z = layers.Reshape((1, 1, LATENT_DIM), dtype=dtype, name="reshape")(latents)
    z = stage(z, 8 * width, 1, 1, "z1", _INPUT_DROP)
    z = stage(z, 8 * width, 1, 1, "z2")
    joint = layers.Concatenate(dtype=dtype, name="pair")([x, z])
    for index in (1, 2):
        joint = stage(joint, 16 * width, 1, 1, f"joint{index}", bias=True)
    joint = layers.Dropout(_DEEPER_DROP, dtype=dtype, name="logits_dropout")(
        layers.Flatten(dtype=dtype, name="joint_flatten")(joint)
    )
    logits = layers.Dense(1, kernel_initializer=_initializer(), dtype="float32", name="logits")(joint)
    return keras.Model([images, latents], logits, name="ali_discriminator")
