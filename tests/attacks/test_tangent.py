"""The tangent's part of a gradient, against the generator's Jacobian."""

import keras
import numpy as np
import tensorflow as tf

from invgan_tf.attacks import tangent


def test_it_is_the_projection_onto_the_columns_of_the_jacobian():
    keras.utils.set_random_seed(3)
    generator = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(24, activation="tanh"),
            keras.layers.Dense(36),
            keras.layers.Reshape((6, 6, 1)),
        ]
    )
    latents, weight = tf.random.normal((4, 5)), tf.random.normal((4, 6, 6, 1))

    def loss_of(drawn):
        return tf.reduce_sum(weight * drawn**2, axis=[1, 2, 3])

    drawn, loss, found = tangent.slope(generator, latents, loss_of, products=12)
    _, _, whole = tangent.slope(generator, latents, loss_of, products=0)
    np.testing.assert_allclose(whole, 2 * weight * drawn, rtol=1e-5)
    np.testing.assert_allclose(loss, loss_of(drawn), rtol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(latents)
        flat = tf.reshape(generator(latents), (4, 36))
    jacobian = tape.batch_jacobian(flat, latents).numpy()
    for one, gradient, part in zip(jacobian, whole.numpy().reshape(4, 36), found.numpy().reshape(4, 36)):
        normal = one.T @ one
        right = one.T @ gradient
        damping = 0.01 * (right @ normal @ right) / (right @ right)
        np.testing.assert_allclose(
            part, one @ np.linalg.solve(normal + damping * np.eye(5), right), rtol=2e-3, atol=1e-4
        )
