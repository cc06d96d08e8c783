"""The objectives of the paper, as pure functions of tensors; each returns a scalar.

They use `keras.ops` alone, so that they run under any Keras backend.
"""

from typing import NamedTuple

from keras import ops

SEMANTIC_MARGIN = 0.02  # eta, in the network's own pixel range
LAMBDA_ADVERSARIAL, LAMBDA_SEMANTIC, LAMBDA_LATENT = 1.0, 100.0, 1.0  # paper, section 3.2


class InverterWeights(NamedTuple):
    """The lambdas of section 3.2 and eta of Eq. 3, by the names the inverter's trainer gives them."""

    adversarial_weight: float = LAMBDA_ADVERSARIAL
    semantic_weight: float = LAMBDA_SEMANTIC
    latent_weight: float = LAMBDA_LATENT
    semantic_margin: float = SEMANTIC_MARGIN


INVERSION = InverterWeights()
ABLATION = InverterWeights(0.0, 1.0, 0.0, 0.0)  # paper, section 4.4 and Table 5
AGE_RECONSTRUCTION_WEIGHT = 10.0
AGE_LATENT_WEIGHT = 1000.0 / 128.0  # AGE's authors: 1000 on a mean over 128 elements


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


def normal_divergence(latents):
    """AGE's divergence of a batch of latents from N(0, I): KL of a Gaussian of the batch's moments, mean over latents.

    Args:
        latents: `[n, latent_dim]`; at least two, and not all alike in any of their dimensions.

    Returns:
        mean((s^2 + m^2) / 2 - log s - 1/2), m and s the batch's mean and standard deviation of each dimension.
    """
    mean = ops.mean(latents, axis=0)
    variance = ops.mean(ops.square(latents - mean), axis=0)
    return ops.mean((variance + ops.square(mean) - ops.log(variance) - 1.0) / 2.0)


def cosine_distance(latents, recovered):
    """AGE's latent loss: mean of 1 - cosine(z, E(G(z))) over `[n, latent_dim]` vectors of length 1."""
    return 1.0 - ops.mean(ops.sum(latents * recovered, axis=1))
