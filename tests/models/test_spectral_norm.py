"""Spectral normalisation against SVD, plain NumPy and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from invgan_tf.models import SpectralNormalization


def _built(layer, input_shape):
    wrapper = SpectralNormalization(layer)
    wrapper.build((None, *input_shape))
    wrapper.bias.assign(np.linspace(-0.5, 0.5, wrapper.bias.shape[0]))
    return wrapper


def _dense(units=5, inputs=7):
    return _built(layers.Dense(units, use_bias=False), (inputs,))


def _conv():
    """A 3x3 convolution that sees 3x3 images: each output is one dot product with the whole kernel."""
    return _built(layers.Conv2D(6, 3, use_bias=False), (3, 3, 4))


CASES = {"dense": (_dense, (7,)), "conv": (_conv, (3, 3, 4))}


@pytest.fixture(params=CASES)
def case(request):
    build, input_shape = CASES[request.param]
    wrapper = build()
    inputs = np.random.default_rng(1).normal(size=(8, *input_shape)).astype(np.float32)
    return wrapper, inputs


def _matrix(wrapper):
    kernel = np.asarray(wrapper.layer.kernel, np.float64)
    return kernel.reshape(-1, kernel.shape[-1])


def _power_iteration(matrix, u):
    v = matrix @ u
    v /= np.linalg.norm(v)
    u = v @ matrix
    return v, u / np.linalg.norm(u)


def test_sigma_converges_to_largest_singular_value(case):
    wrapper, inputs = case
    for _ in range(100):
        wrapper(inputs[:1], training=True)
    sigma, _ = wrapper.singular_value()
    assert float(sigma) == pytest.approx(np.linalg.svd(_matrix(wrapper), compute_uv=False)[0], rel=1e-4)


def test_sigma_converges_under_mixed_precision():
    wrapper = _built(layers.Dense(5, use_bias=False, dtype="mixed_bfloat16"), (7,))
    for _ in range(100):
        wrapper(np.ones((1, 7), np.float32), training=True)
    sigma, _ = wrapper.singular_value()
    assert float(sigma) == pytest.approx(np.linalg.svd(_matrix(wrapper), compute_uv=False)[0], rel=1e-2)


@pytest.mark.parametrize("training", [False, True])
def test_outputs_are_those_of_kernel_divided_by_sigma(case, training):
    wrapper, inputs = case
    matrix, u = _matrix(wrapper), np.asarray(wrapper.u, np.float64)
    v, u = _power_iteration(matrix, u)
    expected = inputs.reshape(len(inputs), -1) @ (matrix / (v @ matrix @ u)) + np.asarray(wrapper.bias)
    outputs = np.asarray(wrapper(inputs, training=training)).reshape(len(inputs), -1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_kernel_gradient_equals_finite_differences_with_frozen_vectors(case):
    wrapper, inputs = case
    matrix, bias = _matrix(wrapper), np.asarray(wrapper.bias, np.float64)
    v, u = _power_iteration(matrix, np.asarray(wrapper.u, np.float64))
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    coefficients = np.random.default_rng(2).uniform(size=(len(inputs), matrix.shape[1]))

    def loss(kernel):
        return np.sum(coefficients * (flat @ kernel / (v @ kernel @ u) + bias) ** 2)

    expected, step = np.zeros_like(matrix), 1e-6
    for index in np.ndindex(matrix.shape):
        shift = np.zeros_like(matrix)
        shift[index] = step
        expected[index] = (loss(matrix + shift) - loss(matrix - shift)) / (2 * step)

    with tf.GradientTape() as tape:
        outputs = tf.reshape(wrapper(inputs, training=True), coefficients.shape)
        value = tf.reduce_sum(tf.constant(coefficients, tf.float32) * outputs**2)
    gradient = np.reshape(tape.gradient(value, wrapper.layer.kernel.value), matrix.shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

    sigma = v @ matrix @ u
    without_sigma = flat.T @ (2 * coefficients * (flat @ matrix / sigma + bias)) / sigma
    assert np.abs(without_sigma - expected).max() > 0.05 * np.abs(expected).max()


def test_training_call_moves_u_by_one_power_iteration_and_leaves_kernel(case):
    wrapper, inputs = case
    kernel = wrapper.layer.kernel.numpy()
    _, expected = _power_iteration(_matrix(wrapper), np.asarray(wrapper.u, np.float64))
    wrapper(inputs, training=True)
    np.testing.assert_array_equal(wrapper.layer.kernel, kernel)
    np.testing.assert_allclose(wrapper.u, expected, rtol=1e-4, atol=1e-6)


def test_inference_call_changes_no_variable(case):
    wrapper, inputs = case
    before = [weight.numpy() for weight in wrapper.weights]
    wrapper(inputs, training=False)
    wrapper(inputs)
    for weight, old in zip(wrapper.weights, before):
        np.testing.assert_array_equal(weight, old)


def test_u_is_not_trained(case):
    wrapper, _ = case
    assert {weight.path for weight in wrapper.trainable_weights} == {wrapper.layer.kernel.path, wrapper.bias.path}


def test_config_rebuilds_the_wrapper(case):
    wrapper, inputs = case
    copy = SpectralNormalization.from_config(wrapper.get_config())
    copy.build(inputs.shape)
    copy.set_weights(wrapper.get_weights())
    np.testing.assert_array_equal(copy(inputs), wrapper(inputs))


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(3),
        layers.Conv2D(3, 3),
        layers.Dense(3, use_bias=False, activation="relu"),
        layers.Conv2D(3, 3, use_bias=False, activation=keras.activations.tanh),
    ],
)
def test_layer_with_bias_or_activation_is_refused(layer):
    with pytest.raises(ValueError, match=rf"{layer.name}.*bias or an activation"):
        SpectralNormalization(layer)
