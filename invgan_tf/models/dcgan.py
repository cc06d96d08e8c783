"""The DCGAN family of the paper's 28x28 experiments: generator, discriminator and inverter.

Layer sizes follow the networks of Miyato et al. (2018) as the paper uses them (section 4); each
builder takes a base width so that the same code trains small.
"""

import keras
from keras import layers

from invgan_tf.models.spectral_norm import SpectralNormalization

LATENT_DIM = 128
_BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


class ImageShapeError(ValueError):
    """No network of the family is defined for images of this shape."""


def _check_image_shape(image_shape: tuple[int, int, int]) -> None:
    if tuple(image_shape)[:2] != (28, 28):
        raise ImageShapeError(f"DCGAN networks are defined for 28x28 images, got image_shape={tuple(image_shape)}.")


def build_generator(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    *,
    latent_dim: int = LATENT_DIM,
    width: int = 64,
    dtype: str = "float32",
) -> keras.Model:
    """Builds G: latents `[n, latent_dim]`, N(0, I), to images `[n, 28, 28, c]` in [0, 1].

    Args:
        image_shape: height, width and channels of the images; 28x28.
        latent_dim: dimensions of a latent.
        width: channels before the last layer; the earlier ones have 2 and 4 times as many.
        dtype: Keras dtype policy of the layers ("float32", "bfloat16", "mixed_bfloat16").

    Returns:
        A Keras model with float32 output. At width 64 it has 1,571,329 parameters.
    """
    _check_image_shape(image_shape)
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(4 * 4 * 4 * width, dtype=dtype, name="dense")(latents)
    x = layers.BatchNormalization(**_BATCH_NORM, dtype=dtype, name="dense_bn")(x)
    x = layers.ReLU(dtype=dtype, name="dense_relu")(x)
    x = layers.Reshape((4, 4, 4 * width), dtype=dtype, name="reshape")(x)
    for index, filters in enumerate((2 * width, width), start=1):
        x = layers.Conv2DTranspose(filters, 5, 2, "same", dtype=dtype, name=f"deconv{index}")(x)
        x = layers.BatchNormalization(**_BATCH_NORM, dtype=dtype, name=f"deconv{index}_bn")(x)
        x = layers.ReLU(dtype=dtype, name=f"deconv{index}_relu")(x)
        if index == 1:  # 8x8 to 7x7, so that two doublings end at 28
            x = layers.Cropping2D(((0, 1), (0, 1)), dtype=dtype, name="crop")(x)
    x = layers.Conv2DTranspose(image_shape[-1], 5, 2, "same", dtype=dtype, name="deconv3")(x)
    images = layers.Activation("sigmoid", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(
    image_shape: tuple[int, int, int] = (28, 28, 1), *, width: int = 64, dtype: str = "float32"
) -> keras.Model:
    """Builds D: images `[n, 28, 28, c]` to one logit each, `[n, 1]`; every layer is spectrally normalised.

    Called with `training=True` it moves its singular vectors (see `SpectralNormalization`).
    """
    _check_image_shape(image_shape)
    images = x = keras.Input(image_shape, name="images")
    for index, filters in enumerate((width, 2 * width, 4 * width), start=1):
        conv = layers.Conv2D(filters, 5, 2, "same", use_bias=False, dtype=dtype, name="conv")
        x = SpectralNormalization(conv, name=f"sn_conv{index}")(x)
        x = layers.LeakyReLU(0.2, dtype=dtype, name=f"conv{index}_lrelu")(x)
    x = layers.Flatten(dtype=dtype, name="flatten")(x)
    logits = SpectralNormalization(layers.Dense(1, use_bias=False, dtype="float32", name="dense"), name="sn_dense")(x)
    return keras.Model(images, logits, name="discriminator")


def build_inverter(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    *,
    latent_dim: int = LATENT_DIM,
    width: int = 64,
    dtype: str = "float32",
) -> keras.Model:
    """Builds I, the generator's mirror image: images `[n, 28, 28, c]` to latents `[n, latent_dim]`."""
    _check_image_shape(image_shape)
    images = x = keras.Input(image_shape, name="images")
    for index, filters in enumerate((width, 2 * width, 4 * width), start=1):
        x = layers.Conv2D(filters, 5, 2, "same", activation="relu", dtype=dtype, name=f"conv{index}")(x)
    x = layers.Flatten(dtype=dtype, name="flatten")(x)
    latents = layers.Dense(latent_dim, dtype="float32", name="latents")(x)
    return keras.Model(images, latents, name="inverter")
