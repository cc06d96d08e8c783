"""The objectives of the paper, as pure functions of tensors; each returns a scalar.

They use `keras.ops` alone, so that they run under any Keras backend.
"""

from keras import ops

SEMANTIC_MARGIN = 0.02  # eta, in the network's own pixel range
LAMBDA_ADVERSARIAL, LAMBDA_SEMANTIC, LAMBDA_LATENT = 1.0, 100.0, 1.0  # paper, section 3.2


def hinge_discriminator(real_logits, fake_logits):
    """GAN hinge loss of D (Miyato et al. 2018, Eq. 16): mean relu(1 - D(x)) + mean relu(1 + D(G(z)))."""
    return ops.mean(ops.relu(1.0 - real_logits)) + ops.mean(ops.relu(1.0 + fake_logits))


def hinge_generator(fake_logits):
    """GAN hinge loss of G (Miyato et al. 2018, Eq. 17): -mean D(G(z))."""
    return -ops.mean(fake_logits)


def adversarial_discriminator(real_logits, fake_logits):
    """Eq. 5 for D, as sigmoid cross-entropy: `real` is G(z), `fake` is G(I(G(z))).

    The second logarithm of Eq. 5 has its sign slipped; this is the standard form.
    """
    return ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))


def adversarial_inverter(fake_logits):
    """Eq. 5 for I, non-saturating: mean softplus(-D(G(I(G(z)))))."""
    return ops.mean(ops.softplus(-fake_logits))


def semantic(images, reconstructions, margin: float = SEMANTIC_MARGIN):
    """Eq. 3: mean relu(e - margin), with e = |x - G(I(x))| averaged over the height axis.

    Args:
        images: x = G(z), `[n, h, w, c]` in the network's range.
        reconstructions: G(I(x)), same shape.
        margin: eta, in the network's pixel range.
    """
    errors = ops.mean(ops.abs(images - reconstructions), axis=1)
    return ops.mean(ops.relu(errors - margin))


def latent(latents, recovered):
    """Eq. 4, as a mean of squares: mean (z - I(G(z)))^2 over `[n, latent_dim]`."""
    return ops.mean(ops.square(latents - recovered))
