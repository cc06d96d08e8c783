"""InvGAN: projection of images onto a generator, for defence and detection of adversarial attacks."""

__version__ = "0.1.0"
