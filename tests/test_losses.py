"""Every loss against small arrays worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import losses

LN2, LN3 = np.log(2.0), np.log(3.0)


def _column(*values):
    return tf.constant(values, tf.float32)[:, None]


def test_hinge_discriminator():
    # relu(1 - D(x)) = .5, 0, 2; relu(1 + D(G(z))) = 0, 1.5, 1
    value = losses.hinge_discriminator(_column(0.5, 2.0, -1.0), _column(-2.0, 0.5, 0.0))
    assert float(value) == pytest.approx(2.5 / 3 + 2.5 / 3)


def test_hinge_generator():
    assert float(losses.hinge_generator(_column(-2.0, 0.5, 0.0))) == pytest.approx(0.5)


def test_adversarial_discriminator():
    # -log sigmoid(0) = ln 2, -log sigmoid(ln 3) = ln 4/3, and the mirror image for the fakes
    value = losses.adversarial_discriminator(_column(0.0, LN3), _column(LN3, -LN3))
    assert float(value) == pytest.approx((LN2 + np.log(4 / 3)) / 2 + (np.log(4) + np.log(4 / 3)) / 2)


def test_adversarial_discriminator_survives_large_logits():
    assert float(losses.adversarial_discriminator(_column(-1000.0), _column(1000.0))) == pytest.approx(2000.0)


def test_adversarial_inverter_does_not_saturate():
    assert float(losses.adversarial_inverter(_column(0.0, -LN3))) == pytest.approx((LN2 + np.log(4)) / 2)
    logits = tf.constant([[-20.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.adversarial_inverter(logits)
    assert float(tape.gradient(value, logits)[0, 0]) == pytest.approx(-1.0)


def _pair(differences):
    """Images and reconstructions of one channel whose differences are the given rows."""
    images = np.full((1, *np.shape(differences), 1), 0.5, np.float32)
    return images, images - np.asarray(differences, np.float32)[None, :, :, None]


def test_semantic_averages_the_height_axis_before_the_margin():
    # by column: (.10 + .02) / 2 - .02 = .04 and (.00 + .03) / 2 - .02 < 0;
    # a margin on pixels would give .0225, on rows .0175
    assert float(losses.semantic(*_pair([[0.10, 0.00], [-0.02, 0.03]]))) == pytest.approx(0.04 / 2, abs=1e-7)


def test_semantic_keeps_channels_and_images_apart():
    images = np.zeros((2, 2, 1, 2), np.float32)
    reconstructions = images.copy()
    reconstructions[0, :, 0, 0] = 0.1
    reconstructions[1, :, 0, 1] = 0.01
    # one of four columns is over the margin, by .08
    assert float(losses.semantic(images, reconstructions)) == pytest.approx(0.08 / 4, abs=1e-7)


def test_semantic_without_margin_is_the_mean_absolute_error():
    assert float(losses.semantic(*_pair([[0.10, 0.00], [-0.02, 0.03]]), margin=0.0)) == pytest.approx(0.15 / 4)


def test_semantic_is_flat_inside_the_margin():
    assert float(losses.semantic(*_pair([[0.019, -0.019]]))) == 0.0


def test_latent():
    assert float(losses.latent(_square(1, 2, 3, 4), _square(0, 2, 3, 2))) == pytest.approx((1 + 4) / 4)


def _square(*values):
    return tf.reshape(tf.constant(values, tf.float32), (2, 2))


def test_weights_of_the_paper():
    assert (losses.LAMBDA_ADVERSARIAL, losses.LAMBDA_SEMANTIC, losses.LAMBDA_LATENT) == (1, 100, 1)
    assert losses.SEMANTIC_MARGIN == 0.02
