"""A gradient's part along the generator's tangent space: the way back through a projection that has converged."""

import tensorflow as tf

_DAMPING = 0.01  # of the tangent's normal equations, as a part of the curvature along their right side


def slope(draw, latents, loss_of, products):
    """Returns G(latents), its loss `[n]`, and the loss's gradient to the pixels, projected onto G's tangent space.

    The tangent's part of g is J (J'J + damping)^-1 J'g, J the generator's Jacobian, solved by conjugate gradients.
    J'u is linear in u, so that its own gradient pushes a vector forward (J v) and no Jacobian is formed.

    Args:
        draw: G in inference mode.
        latents: `[n, latent_dim]`.
        loss_of: graph function from images to losses.
        products: iterations of conjugate gradients; 0 leaves the gradient as it is.
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as inner:
            inner.watch(latents)
            drawn = draw(latents)
        cotangent = tf.zeros_like(drawn)
        outer.watch(cotangent)
        pulled = inner.gradient(drawn, latents, output_gradients=cotangent)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        seen = tf.stop_gradient(drawn)
        tape.watch(seen)
        loss = loss_of(seen)
    gradient = tape.gradient(loss, seen)
    if products:

        def pull(change):
            return inner.gradient(drawn, latents, output_gradients=change)

        def push(direction):
            return outer.gradient(pulled, cotangent, output_gradients=direction)

        gradient = push(_solve(lambda direction: pull(push(direction)), pull(gradient), products))
    return seen, tf.stop_gradient(loss), tf.stop_gradient(gradient)


def _solve(operator, right, iterations):
    """Returns (operator + damping)^-1 right of every row, by conjugate gradients from zero."""

    def dot(a, b):
        return tf.reduce_sum(a * b, axis=1, keepdims=True)

    damping = _DAMPING * tf.math.divide_no_nan(dot(right, operator(right)), dot(right, right))
    solution, residual, direction = tf.zeros_like(right), right, right
    for _ in range(iterations):
        product = operator(direction) + damping * direction
        norm = dot(residual, residual)
        length = tf.math.divide_no_nan(norm, dot(direction, product))
        solution, residual = solution + length * direction, residual - length * product
        direction = residual + tf.math.divide_no_nan(dot(residual, residual), norm) * direction
    return solution
