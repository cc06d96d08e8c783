"""AGE (Ulyanov et al., 2018), as its authors trained it on CIFAR-10: a rival of Table 1.

Images lie in [-1, 1], latents uniformly on the unit sphere. The encoder stands in for a discriminator.
"""

import keras
from keras import layers

from invgan_tf.models.dcgan import BATCH_NORM, LATENT_DIM, ImageShapeError

_IMAGE_SHAPE = (32, 32, 3)


def _initializer():
    return keras.initializers.RandomNormal(0.0, 0.02)


def _check_image_shape(image_shape):
    if tuple(image_shape) != _IMAGE_SHAPE:
        raise ImageShapeError(f"AGE is defined for 32x32x3 images, got image_shape={tuple(image_shape)}.")


def build_generator(
    image_shape: tuple[int, int, int] = _IMAGE_SHAPE,
    *,
    latent_dim: int = LATENT_DIM,
    width: int = 64,
    dtype: str = "float32",
) -> keras.Model:
    """Builds G: latents `[n, latent_dim]` of length 1 to images `[n, 32, 32, 3]` in [-1, 1]."""
    _check_image_shape(image_shape)
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Reshape((1, 1, latent_dim), dtype=dtype, name="reshape")(latents)
    sizes = (8 * width, 1, "valid"), (4 * width, 2, "same"), (2 * width, 2, "same"), (2 * width, 2, "same")
    for index, (filters, stride, padding) in enumerate(sizes, start=1):
        name = f"deconv{index}"
        x = layers.Conv2DTranspose(
            filters, 4, stride, padding, use_bias=False, kernel_initializer=_initializer(), dtype=dtype, name=name
        )(x)
        x = layers.BatchNormalization(**BATCH_NORM, dtype=dtype, name=f"{name}_bn")(x)
        x = layers.ReLU(dtype=dtype, name=f"{name}_relu")(x)
    x = layers.Conv2D(3, 1, kernel_initializer=_initializer(), dtype=dtype, name="conv")(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="age_generator")


def build_encoder(
    image_shape: tuple[int, int, int] = _IMAGE_SHAPE,
    *,
    latent_dim: int = LATENT_DIM,
    width: int = 64,
    dtype: str = "float32",
) -> keras.Model:
    """Builds E: images `[n, 32, 32, 3]` in [-1, 1] to latents `[n, latent_dim]` of length 1."""
    _check_image_shape(image_shape)
    images = x = keras.Input(image_shape, name="images")
    for index, factor in enumerate((1, 2, 4), start=1):
        name = f"conv{index}"
        x = layers.Conv2D(
            factor * width, 4, 2, "same", use_bias=False, kernel_initializer=_initializer(), dtype=dtype, name=name
        )(x)
        if index > 1:
            x = layers.BatchNormalization(**BATCH_NORM, dtype=dtype, name=f"{name}_bn")(x)
        x = layers.LeakyReLU(0.2, dtype=dtype, name=f"{name}_lrelu")(x)
    x = layers.Conv2D(latent_dim, 4, 2, "same", kernel_initializer=_initializer(), dtype=dtype, name="conv4")(x)
    x = layers.AveragePooling2D(2, dtype=dtype, name="pool")(x)
    x = layers.Flatten(dtype="float32", name="flatten")(x)
    latents = layers.UnitNormalization(dtype="float32", name="latents")(x)
    return keras.Model(images, latents, name="age_encoder")
