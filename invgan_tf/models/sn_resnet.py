"""The SN-ResNet family of Miyato et al. (2018): CIFAR-10 at 32x32 and CelebA at 64x64 (paper, Tables 2 and 3).

A generator doubles a 4x4 image three or four times; discriminator and inverter share one body of residual blocks,
with spectral normalisation and without. The inverter is not literally the generator's mirror: it is what the paper's
authors ran.
"""

import keras
from keras import layers, ops

from invgan_tf.models.dcgan import BATCH_NORM, LATENT_DIM, ImageShapeError
from invgan_tf.models.spectral_norm import SpectralNormalization


def _doublings(image_shape: tuple[int, int, int]) -> int:
    """Returns how often 4x4 is doubled to the images' size."""
    found = {(32, 32): 3, (64, 64): 4}.get(tuple(image_shape)[:2])
    if found is None:
        raise ImageShapeError(
            f"SN-ResNet networks are defined for 32x32 and 64x64 images, got image_shape={tuple(image_shape)}."
        )
    return found


def build_generator(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    latent_dim: int = LATENT_DIM,
    width: int = 64,
    dtype: str = "float32",
) -> keras.Model:
    """Builds G: latents `[n, latent_dim]`, N(0, I), to images `[n, h, w, c]` in [-1, 1].

    Args:
        image_shape: height, width and channels of the images; 32x32 or 64x64.
        latent_dim: dimensions of a latent.
        width: a quarter of the channels of every block.
        dtype: Keras dtype policy of the layers.

    Returns:
        A Keras model with float32 output. At width 64 it has 4,280,323 parameters for 32x32x3, 5,528,323 for 64x64x3.

    Raises:
        ImageShapeError: for images of another size.
    """
    blocks, channels = _doublings(image_shape), 4 * width
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(4 * 4 * channels, dtype=dtype, name="dense")(latents)
    x = layers.Reshape((4, 4, channels), dtype=dtype, name="reshape")(x)
    for index in range(1, blocks + 1):
        x = _up_block(x, channels, f"block{index}", dtype)
    x = _norm_relu(x, "last", dtype)
    x = layers.Conv2D(image_shape[-1], 3, padding="same", dtype=dtype, name="conv")(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def _norm_relu(x, name, dtype):
    x = layers.BatchNormalization(**BATCH_NORM, dtype=dtype, name=f"{name}_bn")(x)
    return layers.ReLU(dtype=dtype, name=f"{name}_relu")(x)


def _up_block(x, channels, name, dtype):
    skip = layers.UpSampling2D(2, dtype=dtype, name=f"{name}_skip_up")(x)
    skip = layers.Conv2D(channels, 1, dtype=dtype, name=f"{name}_skip_conv")(skip)
    x = _norm_relu(x, f"{name}_first", dtype)
    x = layers.UpSampling2D(2, dtype=dtype, name=f"{name}_up")(x)
    x = layers.Conv2D(channels, 3, padding="same", dtype=dtype, name=f"{name}_conv1")(x)
    x = _norm_relu(x, f"{name}_second", dtype)
    x = layers.Conv2D(channels, 3, padding="same", dtype=dtype, name=f"{name}_conv2")(x)
    return layers.Add(dtype=dtype, name=f"{name}_add")([x, skip])


def build_discriminator(
    image_shape: tuple[int, int, int] = (32, 32, 3), *, width: int = 64, dtype: str = "float32"
) -> keras.Model:
    """Builds D: images `[n, h, w, c]`, 32x32 or 64x64, to one logit each, `[n, 1]`; every layer spectrally normalised.

    Called with `training=True` it moves its singular vectors (see `SpectralNormalization`).
    """
    images = keras.Input(image_shape, name="images")
    x = _body(images, 2 * width, dtype, normalized=True)
    logits = SpectralNormalization(layers.Dense(1, use_bias=False, dtype="float32", name="dense"), name="sn_dense")(x)
    return keras.Model(images, logits, name="discriminator")


def build_inverter(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    latent_dim: int = LATENT_DIM,
    width: int = 64,
    dtype: str = "float32",
) -> keras.Model:
    """Builds I: images `[n, h, w, c]`, 32x32 or 64x64, to latents `[n, latent_dim]`; D's body, not normalised."""
    images = keras.Input(image_shape, name="images")
    x = _body(images, 2 * width, dtype, normalized=False)
    latents = layers.Dense(latent_dim, dtype="float32", name="latents")(x)
    return keras.Model(images, latents, name="inverter")


def _body(images, channels, dtype, normalized):
    """Returns features `[n, channels]` in float32: residual blocks, then a sum over places."""

    def conv(x, size, name):
        if not normalized:
            return layers.Conv2D(channels, size, padding="same", dtype=dtype, name=name)(x)
        layer = layers.Conv2D(channels, size, padding="same", use_bias=False, dtype=dtype, name="conv")
        return SpectralNormalization(layer, name=f"sn_{name}")(x)

    def relu(x, name):
        return layers.ReLU(dtype=dtype, name=name)(x)

    def halved(x, name):
        return layers.AveragePooling2D(2, dtype=dtype, name=name)(x)

    x = conv(relu(conv(images, 3, "block1_conv1"), "block1_relu"), 3, "block1_conv2")
    skip = conv(halved(images, "block1_skip_pool"), 1, "block1_skip_conv")
    x = layers.Add(dtype=dtype, name="block1_add")([halved(x, "block1_pool"), skip])
    for index in range(2, _doublings(images.shape[1:]) + 2):
        name, skip = f"block{index}", x
        x = conv(relu(x, f"{name}_relu1"), 3, f"{name}_conv1")
        x = conv(relu(x, f"{name}_relu2"), 3, f"{name}_conv2")
        if index == 2:
            x = halved(x, f"{name}_pool")
            skip = halved(conv(skip, 1, f"{name}_skip_conv"), f"{name}_skip_pool")
        x = layers.Add(dtype=dtype, name=f"{name}_add")([x, skip])
    return ops.sum(ops.cast(relu(x, "last_relu"), "float32"), axis=(1, 2))
