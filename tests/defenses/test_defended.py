"""A classifier behind its defence: forward the projection, backward the identity."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import data, defenses, models, projection
from invgan_tf.defenses import Defended, DefenseGAN, InvGAN


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(3)
    return models.build_classifier("A"), models.build_generator(width=8), models.build_inverter(width=8)


@pytest.fixture(scope="module")
def images():
    return data.load("mnist", "test", limit=6).images


def _defended(networks, kind, **kwargs):
    classifier, generator, inverter = networks
    defense = InvGAN(generator, inverter) if kind == "invgan" else DefenseGAN(generator)
    return Defended(classifier, defense, **kwargs)


@pytest.mark.parametrize(("kind", "restarts"), [("invgan", 1), ("defensegan", 3)])
def test_forward_is_the_classifier_of_the_projection(networks, images, kind, restarts):
    model = _defended(networks, kind, steps=5, restarts=restarts, seed=4)
    projected = model.defense.project(images, steps=5, restarts=restarts, seed=4)
    expected = networks[0](projected.images)
    np.testing.assert_allclose(model(images), expected, atol=1e-4)
    np.testing.assert_allclose(model.predict(images), expected, atol=1e-4)
    np.testing.assert_allclose(tf.function(model)(tf.constant(images)), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["invgan", "defensegan"])
def test_gradient_is_the_classifiers_at_the_projection_and_reaches_every_pixel(networks, images, kind):
    model = _defended(networks, kind, steps=3, restarts=1)
    weights = tf.random.stateless_normal((6, 10), [1, 2])

    def gradient(function, x):
        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x) * weights)
        return tape.gradient(total, x).numpy()

    through = gradient(model, images)
    direct = gradient(networks[0], model.project(images).images)
    np.testing.assert_allclose(through, direct, atol=1e-5)
    assert np.all(np.any(through != 0, axis=0))


def test_the_place_in_a_batch_does_not_matter_under_indices(networks, images):
    model = _defended(networks, "defensegan", steps=5, restarts=2, seed=8)
    whole = model.predict(images)
    np.testing.assert_allclose(model.predict(images[4:], indices=[4, 5]), whole[4:], atol=1e-3)


def test_unequal_latents_are_refused(networks):
    _, generator, _ = networks
    with pytest.raises(ValueError, match="64 dimensions, the generator takes 128"):
        InvGAN(generator, models.build_inverter(latent_dim=64, width=4))


def test_a_defence_of_ones_own_says_where_descent_starts_and_no_more():
    class FromOne(defenses.Defense):
        parts = ("generator",)

        def starts(self, images, indices, restarts, seed):
            return tf.ones((tf.shape(images)[0], restarts, self.latent_dim))

    defense = FromOne(models.build_generator(width=4), optimizer=projection.Adam(), steps=2, restarts=1)
    images = np.full((2, 28, 28, 1), 0.25, np.float32)
    exact, fast = (defense.project(images, projector=name) for name in ("exact", "fast"))
    assert fast.loss.max() < exact.loss.min()
