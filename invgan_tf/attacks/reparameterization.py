"""The reparameterisation attack (paper, section 3.4): through inverter and generator."""

import functools

import keras
import numpy as np

from invgan_tf.attacks import gradient
from invgan_tf.defenses import Defended, InvGAN


class Reparameterized(keras.Model):
    """f(G(I(x))) with its true gradient: the defence as the attack sees it."""

    def __init__(self, classifier: keras.Model, defense: InvGAN, name: str = "reparameterized"):
        super().__init__(name=name)
        self.classifier, self.defense = classifier, defense

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of a batch of images, its first side open."""
        return None, *self.defense.image_shape

    def compute_output_shape(self, input_shape):
        """Returns `(n, classes)`."""
        return self.classifier.compute_output_shape(input_shape)

    def call(self, images, training=False):
        """Returns logits `[n, classes]`."""
        return self.classifier(self.defense.reconstructed(images), training=False)


@functools.lru_cache(maxsize=8)
def reparameterized(model: Defended) -> Reparameterized:
    """Returns f(G(I(x))) of a classifier defended by InvGAN; ValueError for another defence."""
    if not isinstance(model, Defended) or not isinstance(model.defense, InvGAN):
        raise ValueError("The reparameterisation attack needs a classifier Defended by InvGAN: it uses the inverter.")
    return Reparameterized(model.classifier, model.defense)


def reparameterization(
    model: Defended,
    images,
    *,
    eps: float,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> np.ndarray:
    """RP: FGSM on f(G(I(x))), its gradient taken through generator and inverter (paper, section 3.4).

    Args:
        model: a classifier `Defended` by `InvGAN`. The images are also used against other defences.
        images, eps, labels, value_range, seed: as for `fgsm`; without labels, argmax f(G(I(x))).

    Returns:
        Attacked images `[n, h, w, c]`, float32, within eps of `images` and inside `value_range`.

    Raises:
        ValueError: for images, labels or eps that do not fit.
    """
    return gradient.fgsm(reparameterized(model), images, eps=eps, labels=labels, value_range=value_range, seed=seed)
