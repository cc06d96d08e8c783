"""Levenberg and Marquardt's way to Eq. 6, without the Jacobian: one that `benchmarks.optimizers` tries."""

import keras
import tensorflow as tf

from invgan_tf import folding, projection

_DAMPING = 1e-3  # at the start, as a part of the curvature along the gradient
_EASE, _TIGHTEN = 0.3, 4.0  # what an accepted and a refused step do to it


class GaussNewton(projection.Projector):
    """Solves (J'J + damping) d = -J'r by conjugate gradients, J the generator's Jacobian and r its error.

    A product with J or with J' costs half an image-step, since the activations at the point are shared by all of
    them. Besides its iterations a step costs 2.5: the gradient, the curvature along it, and the trial's loss.

    Args:
        generator: Keras model from latents to images.
        products: iterations of conjugate gradients a step.
    """

    def __init__(self, generator: keras.Model, products: int):
        super().__init__(generator)
        self.cost = products + 2.5

        @tf.function(reduce_retracing=True)
        def advance(images, point, damping, iterations):
            draw = folding.fold(generator)
            for _ in tf.range(iterations):
                point, damping = _iterate(draw, images, point, damping, products)
            return point

        self._advance = advance

    def image_steps(self, restarts, steps):
        return restarts * steps

    def descend(self, images, starts, steps):
        """`steps` counts image-steps, so that all ways are compared at one cost."""
        point = tf.reshape(starts, (-1, starts.shape[-1]))
        damping = tf.fill((tf.shape(point)[0], 1), _DAMPING)
        return images, self._advance(images, point, damping, tf.constant(int(steps / self.cost)))


def _iterate(draw, images, point, damping, products):
    """One step of every lane: kept where it lowers the loss, else more damping."""
    cotangent = tf.zeros_like(images)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(cotangent)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(point)
            drawn = draw(point)
        pulled = inner.gradient(drawn, point, output_gradients=cotangent)  # J'u, linear in u

    def curvature(direction):
        pushed = outer.gradient(pulled, cotangent, output_gradients=direction)  # J v, whatever u
        return inner.gradient(drawn, point, output_gradients=pushed)

    error = drawn - images
    downhill = -inner.gradient(drawn, point, output_gradients=error)
    scale = _dot(downhill, curvature(downhill)) / (_dot(downhill, downhill) + 1e-20)
    step = _conjugate_gradients(lambda v: curvature(v) + damping * scale * v, downhill, products)
    before = tf.reduce_mean(tf.square(error), axis=(1, 2, 3))
    better = (projection.explain(draw, point + step, images)[1] < before)[:, None]
    return tf.where(better, point + step, point), damping * tf.where(better, _EASE, _TIGHTEN)


def _conjugate_gradients(operator, right, iterations):
    def body(count, solution, residual, direction):
        product = operator(direction)
        norm = _dot(residual, residual)
        length = tf.math.divide_no_nan(norm, _dot(direction, product))
        solution, residual = solution + length * direction, residual - length * product
        direction = residual + tf.math.divide_no_nan(_dot(residual, residual), norm) * direction
        return count + 1, solution, residual, direction

    return tf.while_loop(lambda count, *_: count < iterations, body, (0, tf.zeros_like(right), right, right))[1]


def _dot(a, b):
    return tf.reduce_sum(a * b, axis=1, keepdims=True)
