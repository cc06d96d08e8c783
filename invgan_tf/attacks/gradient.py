"""FGSM and PGD, through cleverhans."""

import keras
import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from invgan_tf import validation


def _checked(model, images, labels, eps, value_range):
    images = validation.check_model_images(model, images, value_range)
    validation.check_positive("eps", eps)
    if labels is None:
        return images, None
    return images, tf.constant(validation.check_model_labels(model, images, labels))


def cross_entropy(labels, logits):
    """Returns the cross-entropy of labels `[n]` and logits `[n, classes]` in float64, `[n]`.

    Where a probability rounds to 1 in float32, the gradient loses the part of the attacked label.
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float64))


def fgsm(
    model: keras.Model,
    images,
    *,
    eps: float,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> np.ndarray:
    """Fast gradient sign method (Goodfellow et al. 2015), L-infinity.

    Args:
        model: Keras model from images to logits.
        images: `[n, h, w, c]`, floating, in `value_range`.
        eps: bound of the perturbation, in the images' range.
        labels: labels to move away from, `[n]`; by default the model's own predictions, as cleverhans does.
        value_range: lowest and highest pixel.
        seed: unused: the attack is not random; every attack takes it.

    Returns:
        Attacked images, float32, same shape, within eps of `images` and inside `value_range`.

    Raises:
        ValueError: for images, labels or eps that do not fit.
    """
    images, labels = _checked(model, images, labels, eps, value_range)
    low, high = value_range
    return fast_gradient_method(model, tf.constant(images), eps, np.inf, cross_entropy, low, high, labels).numpy()


def pgd(
    model: keras.Model,
    images,
    *,
    eps: float,
    steps: int = 40,
    step_size: float | None = None,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> np.ndarray:
    """Projected gradient descent (Madry et al. 2018), L-infinity, from the image itself.

    Args:
        steps: number of gradient steps, at least 1.
        step_size: length of a step, at most eps; 2.5 * eps / steps by default.
        model, images, eps, labels, value_range, seed: as for `fgsm`.

    Returns:
        Attacked images `[n, h, w, c]`, float32, within eps of `images` and inside `value_range`.

    Raises:
        ValueError: for images, labels or eps that do not fit.
    """
    images, labels = _checked(model, images, labels, eps, value_range)
    steps = validation.check_count("steps", steps, 1)
    if step_size is not None and not 0 < validation.check_positive("step_size", step_size) <= eps:
        raise ValueError(f"step_size must lie between 0 and eps = {eps:g}, got {step_size!r}.")
    low, high = value_range
    return projected_gradient_descent(
        model,
        tf.constant(images),
        eps,
        min(2.5 * eps / steps, eps) if step_size is None else step_size,
        steps,
        np.inf,
        cross_entropy,
        clip_min=low,
        clip_max=high,
        y=labels,
        rand_init=False,
        sanity_checks=False,
    ).numpy()
