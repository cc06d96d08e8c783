"""Keras models of the paper, one file a family; keras and keras.ops only, so any Keras backend runs them."""

from invgan_tf.models.classifiers import ARCHITECTURES, Classifier, build_classifier
from invgan_tf.models.dcgan import LATENT_DIM, ImageShapeError, build_discriminator, build_generator, build_inverter
from invgan_tf.models.families import DEFAULT_WIDTH, GAN_FAMILIES, build
from invgan_tf.models.spectral_norm import SpectralNormalization

__all__ = [
    "ARCHITECTURES",
    "DEFAULT_WIDTH",
    "GAN_FAMILIES",
    "LATENT_DIM",
    "Classifier",
    "ImageShapeError",
    "SpectralNormalization",
    "build",
    "build_classifier",
    "build_discriminator",
    "build_generator",
    "build_inverter",
]
