"""Inverter and discriminator for a generator of any shape: the DCGAN of 28x28, grown or shrunk to its images."""

import keras
from keras import layers

from invgan_tf.models.spectral_norm import SpectralNormalization

_SMALLEST_SIDE = 4  # strided convolutions go on until an image is no larger


def _filters(image_shape, width):
    """Returns the channels of each strided convolution: doubled from `width` on, at most eight times."""
    side, filters = max(image_shape[:2]), []
    while side > _SMALLEST_SIDE or not filters:
        filters.append(width * min(2 ** len(filters), 8))
        side = -(-side // 2)
    return filters


def build_inverter_for(generator: keras.Model, *, width: int = 64, dtype: str = "float32") -> keras.Model:
    """Builds an inverter I for a generator: images `[n, h, w, c]` to latents `[n, latent_dim]`.

    Args:
        generator: Keras model from latents `[n, latent_dim]` to images `[n, h, w, c]`; only its shapes are used.
        width: channels of the first convolution; later ones have 2, 4 and 8 times as many.
        dtype: Keras dtype policy of the layers.

    Returns:
        Convolutions 5x5 of stride 2 with ReLU until the image is 4 pixels wide, and a dense layer, as
        the paper's inverter of 28x28 images (section 4) is.
    """
    image_shape, latent_dim = generator.output_shape[1:], generator.input_shape[-1]
    images = x = keras.Input(image_shape, name="images")
    for index, filters in enumerate(_filters(image_shape, width), start=1):
        x = layers.Conv2D(filters, 5, 2, "same", activation="relu", dtype=dtype, name=f"conv{index}")(x)
    x = layers.Flatten(dtype=dtype, name="flatten")(x)
    latents = layers.Dense(latent_dim, dtype="float32", name="latents")(x)
    return keras.Model(images, latents, name="inverter")


def build_discriminator_for(generator: keras.Model, *, width: int = 64, dtype: str = "float32") -> keras.Model:
    """Builds a spectrally normalised discriminator for a generator's images: `[n, h, w, c]` to one logit, `[n, 1]`.

    Args:
        generator, width, dtype: as for `build_inverter_for`.
    """
    image_shape = generator.output_shape[1:]
    images = x = keras.Input(image_shape, name="images")
    for index, filters in enumerate(_filters(image_shape, width), start=1):
        conv = layers.Conv2D(filters, 5, 2, "same", use_bias=False, dtype=dtype, name="conv")
        x = SpectralNormalization(conv, name=f"sn_conv{index}")(x)
        x = layers.LeakyReLU(0.2, dtype=dtype, name=f"conv{index}_lrelu")(x)
    x = layers.Flatten(dtype=dtype, name="flatten")(x)
    logits = SpectralNormalization(layers.Dense(1, use_bias=False, dtype="float32", name="dense"), name="sn_dense")(x)
    return keras.Model(images, logits, name="discriminator")
