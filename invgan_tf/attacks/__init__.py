"""What an adversary does; every attack takes (model, images, ...) and returns images of the same shape.

A black-box adversary has no model to attack: `train_substitute` gives it one.
"""

from invgan_tf.attacks.adaptive import bpda_pgd, evade_detector
from invgan_tf.attacks.anchored import Anchored
from invgan_tf.attacks.bounded import pgd_restarts
from invgan_tf.attacks.bpda import bpda, bpda_authors
from invgan_tf.attacks.carlini_wagner import carlini_wagner_l2
from invgan_tf.attacks.gradient import fgsm, pgd
from invgan_tf.attacks.latent_space import latent_space
from invgan_tf.attacks.reparameterization import reparameterization
from invgan_tf.attacks.substitute import train_substitute
from invgan_tf.attacks.toolbox import auto_pgd, square

__all__ = [
    "Anchored",
    "auto_pgd",
    "bpda",
    "bpda_authors",
    "bpda_pgd",
    "carlini_wagner_l2",
    "evade_detector",
    "fgsm",
    "latent_space",
    "pgd",
    "pgd_restarts",
    "reparameterization",
    "square",
    "train_substitute",
]
