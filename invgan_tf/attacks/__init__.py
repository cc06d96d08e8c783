"""What an adversary does; every attack takes (model, images, ...) and returns images of the same shape.

A black-box adversary has no model to attack: `train_substitute` gives it one.
"""

from invgan_tf.attacks.bpda import bpda, bpda_authors
from invgan_tf.attacks.carlini_wagner import carlini_wagner_l2
from invgan_tf.attacks.gradient import fgsm, pgd
from invgan_tf.attacks.reparameterization import reparameterization
from invgan_tf.attacks.substitute import train_substitute

__all__ = ["bpda", "bpda_authors", "carlini_wagner_l2", "fgsm", "pgd", "reparameterization", "train_substitute"]
