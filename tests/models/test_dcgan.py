"""The DCGAN networks against parameter counts written out and an independent NumPy forward pass."""

import keras
import numpy as np
import pytest

from invgan_tf import models
from tests.models import numpy_layers

WIDTH = 4
BUILDERS = {
    "generator": models.build_generator,
    "discriminator": models.build_discriminator,
    "inverter": models.build_inverter,
}
INPUT_SHAPES = {"generator": (128,), "discriminator": (28, 28, 1), "inverter": (28, 28, 1)}


def _inputs(name, count=3):
    rng = np.random.default_rng(4)
    draw = rng.normal if name == "generator" else rng.uniform
    return draw(size=(count, *INPUT_SHAPES[name])).astype(np.float32)


def test_generator_has_the_papers_parameters():
    dense = 128 * 4096 + 4096
    batch_norms = 4 * (4096 + 128 + 64)
    deconvs = (5 * 5 * 256 * 128 + 128) + (5 * 5 * 128 * 64 + 64) + (5 * 5 * 64 * 1 + 1)
    assert models.build_generator().count_params() == dense + batch_norms + deconvs == 1_571_329


def test_discriminator_has_the_papers_parameters():
    trained = (25 * 1 * 64 + 64) + (25 * 64 * 128 + 128) + (25 * 128 * 256 + 256) + (4 * 4 * 256 * 1 + 1)
    singular_vectors = 64 + 128 + 256 + 1
    model = models.build_discriminator()
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == trained == 1_030_145
    assert model.count_params() == trained + singular_vectors


def test_inverter_has_the_papers_parameters():
    convs = (25 * 1 * 64 + 64) + (25 * 64 * 128 + 128) + (25 * 128 * 256 + 256)
    dense = 4 * 4 * 256 * 128 + 128
    assert models.build_inverter().count_params() == convs + dense == 1_550_464


def test_generator_equals_numpy():
    model = numpy_layers.randomize(models.build_generator(width=WIDTH))
    weights, latents = numpy_layers.weights(model), _inputs("generator")

    def batch_norm(x, layer):
        gamma, beta, mean, variance = (
            weights[f"{layer}/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    x = batch_norm(latents @ weights["dense/kernel"] + weights["dense/bias"], "dense_bn")
    x = numpy_layers.relu(x).reshape(-1, 4, 4, 4 * WIDTH)
    x = numpy_layers.relu(
        batch_norm(numpy_layers.deconv(x, weights["deconv1/kernel"]) + weights["deconv1/bias"], "deconv1_bn")
    )[:, :7, :7]
    x = numpy_layers.relu(
        batch_norm(numpy_layers.deconv(x, weights["deconv2/kernel"]) + weights["deconv2/bias"], "deconv2_bn")
    )
    x = numpy_layers.deconv(x, weights["deconv3/kernel"]) + weights["deconv3/bias"]
    np.testing.assert_allclose(model(latents, training=False), 1 / (1 + np.exp(-x)), atol=1e-5)


def test_discriminator_equals_numpy():
    model = numpy_layers.randomize(models.build_discriminator(width=WIDTH))
    weights, x = numpy_layers.weights(model), _inputs("discriminator")

    def normalized(layer, kernel):
        matrix = weights[kernel].reshape(-1, weights[kernel].shape[-1])
        v = matrix @ weights[f"{layer}/u"]
        v /= np.linalg.norm(v)
        u = v @ matrix
        return weights[kernel] / np.linalg.norm(u)

    for layer in ("sn_conv1", "sn_conv2", "sn_conv3"):
        x = numpy_layers.conv(x, normalized(layer, f"{layer}/conv/kernel")) + weights[f"{layer}/bias"]
        x = np.where(x > 0, x, 0.2 * x)
    logits = x.reshape(len(x), -1) @ normalized("sn_dense", "sn_dense/dense/kernel") + weights["sn_dense/bias"]
    np.testing.assert_allclose(model(_inputs("discriminator"), training=False), logits, atol=1e-5)


def test_inverter_equals_numpy():
    model = numpy_layers.randomize(models.build_inverter(width=WIDTH))
    weights, x = numpy_layers.weights(model), _inputs("inverter")
    for layer in ("conv1", "conv2", "conv3"):
        x = numpy_layers.relu(numpy_layers.conv(x, weights[f"{layer}/kernel"]) + weights[f"{layer}/bias"])
    latents = x.reshape(len(x), -1) @ weights["latents/kernel"] + weights["latents/bias"]
    np.testing.assert_allclose(model(_inputs("inverter"), training=False), latents, atol=1e-5)


def test_generator_stays_in_range_for_far_latents():
    images = np.asarray(models.build_generator(width=WIDTH)(100 * _inputs("generator"), training=False))
    assert images.shape == (3, 28, 28, 1)
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    assert images.max() - images.min() > 0.5


def test_batch_norm_momentum():
    model, latents = models.build_generator(width=WIDTH), _inputs("generator", 16)
    model(latents, training=True)
    before_norm = latents @ np.asarray(model.get_layer("dense").kernel)
    np.testing.assert_allclose(model.get_layer("dense_bn").moving_mean, 0.1 * before_norm.mean(0), atol=1e-5)
    model_means = model.get_layer("dense_bn").moving_mean.numpy()
    model(latents, training=False)
    np.testing.assert_array_equal(model.get_layer("dense_bn").moving_mean, model_means)


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", BUILDERS)
def test_outputs_are_float32_under_bfloat16(name, dtype):
    exact, rounded = BUILDERS[name](width=WIDTH), BUILDERS[name](width=WIDTH, dtype=dtype)
    rounded.set_weights(exact.get_weights())
    expected, outputs = exact(_inputs(name), training=False), rounded(_inputs(name), training=False)
    assert outputs.dtype == "float32"
    assert float(np.abs(expected - outputs).max()) > 0.0
    np.testing.assert_allclose(outputs, expected, atol=0.05)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("name", BUILDERS)
def test_colour_images_of_28x28_are_supported(name):
    model = BUILDERS[name]((28, 28, 3), width=WIDTH)
    images = model.output_shape if name == "generator" else model.input_shape
    assert images == (None, 28, 28, 3)


@pytest.mark.parametrize("name", BUILDERS)
def test_other_image_sizes_are_refused(name):
    with pytest.raises(ValueError, match=r"28x28 and 32x32.*\(64, 64, 3\)"):
        BUILDERS[name]((64, 64, 3), width=WIDTH)


def test_latent_dim_is_an_argument():
    assert models.build_generator(latent_dim=6, width=WIDTH).input_shape == (None, 6)
    assert models.build_inverter(latent_dim=6, width=WIDTH).output_shape == (None, 6)
