"""What a user puts in front of a classifier."""

from invgan_tf.defenses.base import Defense
from invgan_tf.defenses.defended import Defended
from invgan_tf.defenses.defense_gan import DefenseGAN
from invgan_tf.defenses.detector import AttackDetector
from invgan_tf.defenses.invgan import InvGAN

__all__ = ["AttackDetector", "Defended", "Defense", "DefenseGAN", "InvGAN"]
