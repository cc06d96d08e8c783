"""Keras models of the paper, one file a family; keras and keras.ops only, so any Keras backend runs them."""

from invgan_tf.models.classifiers import ARCHITECTURES, Classifier, build_classifier
from invgan_tf.models.dcgan import LATENT_DIM, ImageShapeError, build_discriminator, build_generator, build_inverter
from invgan_tf.models.spectral_norm import SpectralNormalization

__all__ = [
    "ARCHITECTURES",
    "LATENT_DIM",
    "Classifier",
    "ImageShapeError",
    "SpectralNormalization",
    "build_classifier",
    "build_discriminator",
    "build_generator",
    "build_inverter",
]
