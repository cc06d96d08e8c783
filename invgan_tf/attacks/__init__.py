"""What an adversary does; every attack takes (model, images, ...) and returns images of the same shape."""

from invgan_tf.attacks.bpda import bpda, bpda_authors
from invgan_tf.attacks.carlini_wagner import carlini_wagner_l2
from invgan_tf.attacks.gradient import fgsm, pgd
from invgan_tf.attacks.reparameterization import reparameterization

__all__ = ["bpda", "bpda_authors", "carlini_wagner_l2", "fgsm", "pgd", "reparameterization"]
