"""Folding: the same function and the same gradient as the Keras model, whatever its layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from invgan_tf import folding, models, presets


def _unsettle(model):
    """Gives batch norms statistics that folding must not overlook."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                low, high = (0.5, 2.0) if "variance" in weight.path or "gamma" in weight.path else (-0.5, 0.5)
                weight.assign(rng.uniform(low, high, weight.shape))
    return model


def _small(*chain):
    return keras.Sequential([keras.Input((6,)), *chain])


def _skipping():
    latents = keras.Input((6,))
    x = layers.Dense(16)(latents)
    return keras.Model(latents, layers.Reshape((4, 4, 1))(layers.Add()([x, layers.ReLU()(x)])))


GENERATORS = {
    "dcgan": lambda: models.build_generator(width=8),
    "three channels": lambda: models.build_generator((28, 28, 3), width=8, latent_dim=6),
    "convolution at the end": lambda: _small(
        layers.Dense(4 * 4 * 5, use_bias=False),
        layers.BatchNormalization(),
        layers.LeakyReLU(0.2),
        layers.Reshape((4, 4, 5)),
        layers.Conv2DTranspose(7, 4, 2, "same", use_bias=False),
        layers.BatchNormalization(scale=False),
        layers.ReLU(),
        layers.Conv2D(3, 3, 1, "same", activation="tanh"),
    ),
    "batch norm after an activation": lambda: _small(
        layers.Dense(4 * 4 * 5, activation="relu"),
        layers.BatchNormalization(center=False),
        layers.Reshape((4, 4, 5)),
        layers.Conv2DTranspose(2, 5, 2, "same"),
        layers.BatchNormalization(),
        layers.Activation("tanh"),
        layers.Conv2D(2, 3, 2, "same"),
    ),
    "cropped": lambda: _small(
        layers.Dense(4 * 4 * 5),
        layers.Reshape((4, 4, 5)),
        layers.Conv2DTranspose(7, 4, 2, "same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Cropping2D(((0, 1), (2, 0))),
        layers.Conv2DTranspose(6, 3, 1, "same", activation="relu"),
        layers.Cropping2D(1),
        layers.Cropping2D(((1, 0), (0, 0))),
        layers.Conv2DTranspose(2, 5, 2, "same"),
        layers.LeakyReLU(0.2),
        layers.Cropping2D(((3, 0), (0, 1))),
    ),
    "cropped where nothing can take it over": lambda: _small(
        layers.Dense(4 * 4 * 5), layers.Reshape((4, 4, 5)), layers.Cropping2D(1), layers.Conv2D(1, 3, 1, "same")
    ),
    "no chain": _skipping,
    "unknown layer": lambda: _small(layers.Dense(16), layers.LayerNormalization(), layers.Reshape((4, 4, 1))),
    "output padding": lambda: _small(
        layers.Dense(16), layers.Reshape((4, 4, 1)), layers.Conv2DTranspose(2, 3, 2, "same", output_padding=0)
    ),
    "groups": lambda: _small(layers.Dense(64), layers.Reshape((4, 4, 4)), layers.Conv2D(6, 3, 1, "same", groups=2)),
    "valid padding": lambda: _small(layers.Dense(16), layers.Reshape((4, 4, 1)), layers.Conv2D(2, 3)),
}


def _images_and_gradient(draw, latents):
    with tf.GradientTape() as tape:
        tape.watch(latents)
        images = draw(latents)
        total = tf.reduce_sum(tf.sin(3.0 * images))
    return images.numpy(), tape.gradient(total, latents).numpy()


@pytest.mark.parametrize("name", GENERATORS)
def test_images_and_gradients_are_the_models(name):
    keras.utils.set_random_seed(1)
    generator = _unsettle(GENERATORS[name]())
    latents = tf.random.stateless_normal((5, generator.input_shape[-1]), [1, 2])
    images, gradient = _images_and_gradient(lambda z: generator(z, training=False), latents)
    folded = _images_and_gradient(folding.fold(generator), latents)
    np.testing.assert_allclose(folded[0], images, atol=1e-5)
    np.testing.assert_allclose(folded[1], gradient, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.parametrize("name", ["dcgan", "convolution at the end", "batch norm after an activation"])
def test_bfloat16_is_close_and_gives_float32(name):
    keras.utils.set_random_seed(1)
    generator = _unsettle(GENERATORS[name]())
    latents = tf.random.stateless_normal((5, generator.input_shape[-1]), [1, 2])
    images = folding.fold(generator, "bfloat16")(latents)
    assert images.dtype == tf.float32
    exact = generator(latents, training=False).numpy()
    difference = np.abs(images.numpy() - exact).max()
    assert 0 < difference < 0.05 * max(1.0, np.abs(exact).max())  # 0: it would not be bfloat16 at all


def test_bfloat16_still_sees_small_steps_of_the_latents():
    generator = _unsettle(models.build_generator(width=8))
    draw, latents = folding.fold(generator, "bfloat16"), tf.ones((1, 128))
    hidden = latents + 1e-3
    assert np.all(tf.cast(hidden, tf.bfloat16) == tf.cast(latents, tf.bfloat16))  # rounded, they are the same latents
    assert np.any(draw(hidden).numpy() != draw(latents).numpy())


def test_a_compiled_function_follows_the_weights():
    keras.utils.set_random_seed(1)
    generator = models.build_generator(width=4)
    draw = tf.function(lambda z: folding.fold(generator)(z))
    latents = tf.random.stateless_normal((2, 128), [1, 2])
    draw(latents)
    generator.get_layer("deconv1_bn").gamma.assign(tf.fill((8,), 3.0))
    generator.get_layer("deconv3").bias.assign([0.7])
    np.testing.assert_allclose(draw(latents), generator(latents, training=False), atol=1e-5)


def test_the_shipped_generator_is_folded():
    generator = presets.load("mnist", "generator")
    assert folding.check_dtype(generator, "bfloat16") == "bfloat16"


@pytest.mark.parametrize(
    ("generator", "dtype", "message"),
    [("no chain", "bfloat16", "not one chain"), ("dcgan", "float16", "must be 'float32' or 'bfloat16', got 'float16'")],
)
def test_precisions_that_cannot_be_had_are_refused(generator, dtype, message):
    with pytest.raises(ValueError, match=message):
        folding.check_dtype(GENERATORS[generator](), dtype)


def test_where_bfloat16_does_not_pay_only_the_operands_are_rounded(monkeypatch):
    monkeypatch.setattr(folding, "bfloat16_pays", lambda: False)
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(300, "relu"), keras.layers.Dense(5)])
    latents = tf.random.stateless_normal((3, 40), [1, 2])

    def rounded(x):
        return tf.cast(tf.cast(x, tf.bfloat16), tf.float64).numpy()

    hidden = model.layers[0](latents)
    expected = rounded(hidden) @ rounded(model.layers[1].kernel) + rounded(model.layers[1].bias)
    np.testing.assert_allclose(folding.fold(model, "bfloat16")(latents), expected, atol=1e-5)
    assert np.abs(model(latents) - expected).max() > 1e-4


@pytest.mark.parametrize(
    ("seconds", "pays"), [({"float32": 2.0, "bfloat16": 1.0}, True), ({"float32": 1.0, "bfloat16": 2.0}, False)]
)
def test_a_trial_decides_whether_bfloat16_pays(monkeypatch, tmp_path, seconds, pays):
    """The instructions are there either way; how long they take is planted."""
    clock = [0.0]

    def product(left, right):
        clock[0] += seconds[left.dtype.name]
        return left

    described = tmp_path / "cpuinfo"
    described.write_text("flags : avx512f avx512_bf16\n")
    monkeypatch.setattr(folding, "_DESCRIBED", described)
    monkeypatch.setattr(folding.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(folding.tf, "matmul", product)
    assert folding.bfloat16_pays.__wrapped__() is pays
    described.write_text("flags : avx2\n")
    assert folding.bfloat16_pays.__wrapped__() is False
