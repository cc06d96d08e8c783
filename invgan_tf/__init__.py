"""InvGAN: projection of images onto a generator, for defence and detection of adversarial attacks."""
