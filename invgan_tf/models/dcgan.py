"""The DCGAN family: generators, discriminators and inverters for 28x28 and 32x32 images.

Layer sizes follow the networks of Miyato et al. (2018) as the paper uses them: 28x28 for MNIST and Fashion-MNIST
(section 4), 32x32 without residual blocks for Tables 1 and 5. Each builder takes a base width so that the same code
trains small.
"""

import keras
from keras import layers

from invgan_tf.models.spectral_norm import SpectralNormalization

LATENT_DIM = 128
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


class ImageShapeError(ValueError):
    """No network of the family is defined for images of this shape."""


def _of_size(image_shape: tuple[int, int, int], small, large):
    """Returns what is meant for images of this shape: 28x28 or 32x32."""
    found = {(28, 28): small, (32, 32): large}.get(tuple(image_shape)[:2])
    if found is None:
        raise ImageShapeError(
            f"DCGAN networks are defined for 28x28 and 32x32 images, got image_shape={tuple(image_shape)}."
        )
    return found


def build_generator(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    *,
    latent_dim: int = LATENT_DIM,
    width: int = 64,
    dtype: str = "float32",
) -> keras.Model:
    """Builds G: latents `[n, latent_dim]`, N(0, I), to images `[n, h, w, c]`.

    Args:
        image_shape: height, width and channels of the images; 28x28, in [0, 1], or 32x32, in [-1, 1].
        latent_dim: dimensions of a latent.
        width: channels before the last layer; the earlier ones have 2 and 4 (32x32: up to 8) times as many.
        dtype: Keras dtype policy of the layers ("float32", "bfloat16", "mixed_bfloat16").

    Returns:
        A Keras model with float32 output. At width 64 it has 1,571,329 parameters for 28x28x1, 3,846,019 for 32x32x3.

    Raises:
        ImageShapeError: for images of another size.
    """
    return _of_size(image_shape, _generator_28, _generator_32)(image_shape, latent_dim, width, dtype)


def build_discriminator(
    image_shape: tuple[int, int, int] = (28, 28, 1), *, width: int = 64, dtype: str = "float32"
) -> keras.Model:
    """Builds D: images `[n, h, w, c]`, 28x28 or 32x32, to one logit each, `[n, 1]`; every layer spectrally normalised.

    Called with `training=True` it moves its singular vectors (see `SpectralNormalization`).
    """
    convolutions = _of_size(
        image_shape,
        [(width, 5, 2), (2 * width, 5, 2), (4 * width, 5, 2)],
        [
            (width, 3, 1),
            (width, 4, 2),
            (2 * width, 3, 1),
            (2 * width, 4, 2),
            (4 * width, 3, 1),
            (4 * width, 4, 2),
            (8 * width, 3, 1),
        ],
    )
    images = x = keras.Input(image_shape, name="images")
    for index, (filters, size, stride) in enumerate(convolutions, start=1):
        conv = layers.Conv2D(filters, size, stride, "same", use_bias=False, dtype=dtype, name="conv")
        x = SpectralNormalization(conv, name=f"sn_conv{index}")(x)
        if index < 7:  # the seventh of 32x32 has no activation after it
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
    """Builds I, the generator's mirror image: images `[n, h, w, c]`, 28x28 or 32x32, to latents `[n, latent_dim]`."""
    convolutions = _of_size(
        image_shape,
        [(width, 5, 2), (2 * width, 5, 2), (4 * width, 5, 2)],
        [(width, 3, 1), (2 * width, 4, 2), (4 * width, 4, 2), (8 * width, 4, 2)],
    )
    images = x = keras.Input(image_shape, name="images")
    for index, (filters, size, stride) in enumerate(convolutions, start=1):
        x = layers.Conv2D(filters, size, stride, "same", activation="relu", dtype=dtype, name=f"conv{index}")(x)
    x = layers.Flatten(dtype=dtype, name="flatten")(x)
    latents = layers.Dense(latent_dim, dtype="float32", name="latents")(x)
    return keras.Model(images, latents, name="inverter")


def _seed_image(latent_dim, channels, dtype):
    """Returns the latents and the 4x4 image that both generators make of them."""
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(4 * 4 * channels, dtype=dtype, name="dense")(latents)
    x = layers.BatchNormalization(**BATCH_NORM, dtype=dtype, name="dense_bn")(x)
    x = layers.ReLU(dtype=dtype, name="dense_relu")(x)
    return latents, layers.Reshape((4, 4, channels), dtype=dtype, name="reshape")(x)


def _deconv(x, index, filters, size, dtype):
    x = layers.Conv2DTranspose(filters, size, 2, "same", dtype=dtype, name=f"deconv{index}")(x)
    x = layers.BatchNormalization(**BATCH_NORM, dtype=dtype, name=f"deconv{index}_bn")(x)
    return layers.ReLU(dtype=dtype, name=f"deconv{index}_relu")(x)


def _generator_28(image_shape, latent_dim, width, dtype):
    latents, x = _seed_image(latent_dim, 4 * width, dtype)
    for index, filters in enumerate((2 * width, width), start=1):
        x = _deconv(x, index, filters, 5, dtype)
        if index == 1:  # 8x8 to 7x7, so that two doublings end at 28
            x = layers.Cropping2D(((0, 1), (0, 1)), dtype=dtype, name="crop")(x)
    x = layers.Conv2DTranspose(image_shape[-1], 5, 2, "same", dtype=dtype, name="deconv3")(x)
    images = layers.Activation("sigmoid", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def _generator_32(image_shape, latent_dim, width, dtype):
    latents, x = _seed_image(latent_dim, 8 * width, dtype)
    for index, filters in enumerate((4 * width, 2 * width, width), start=1):
        x = _deconv(x, index, filters, 4, dtype)
    x = layers.Conv2D(image_shape[-1], 3, 1, "same", dtype=dtype, name="conv")(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")
