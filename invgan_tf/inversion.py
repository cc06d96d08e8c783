"""An inverter for any generator, trained without data (paper, section 3.2), and how well it inverts."""

import dataclasses
import os
import tempfile
from collections.abc import Callable

import keras
import numpy as np

from invgan_tf import validation
from invgan_tf.evaluation import accuracy, means
from invgan_tf.models import any_shape
from invgan_tf.training import inverter as inverter_training
from invgan_tf.training import loop

_LOOKED_AT = 16  # images by which a generator's range is checked


def check_generator(generator: keras.Model, value_range: tuple[float, float]) -> None:
    """Raises ValueError for a model that is no generator: from latents `[n, d]` to images `[n, h, w, c]` in a range."""
    takes, gives = getattr(generator, "input_shape", None), getattr(generator, "output_shape", None)
    if not isinstance(takes, tuple) or len(takes) != 2 or not takes[1]:
        raise ValueError(f"A generator takes latents [n, latent_dim], this model takes {takes}.")
    if not isinstance(gives, tuple) or len(gives) != 4 or not all(gives[1:]):
        raise ValueError(f"A generator gives images [n, h, w, c] of a fixed size, this model gives {gives}.")
    images = np.asarray(generator(loop.latents(0, 0, -2, (_LOOKED_AT, takes[1])), training=False), np.float32)
    low, high = float(images.min()), float(images.max())
    if not (value_range[0] - 1e-3 <= low and high <= value_range[1] + 1e-3):  # NaN is outside too
        raise ValueError(
            f"The generator draws pixels from {low:g} to {high:g}, value_range is {list(value_range)}: give its own."
        )


def train_inverter(
    generator: keras.Model,
    *,
    steps: int = 15_000,
    batch_size: int = 25,
    seed: int = 0,
    value_range: tuple[float, float] = (0.0, 1.0),
    inverter: keras.Model | None = None,
    width: int = 64,
    output_dir: str | os.PathLike | None = None,
    on_progress: Callable[[loop.Progress], None] | None = None,
    **settings,
) -> keras.Model:
    """Trains an inverter for a generator; the generator is all it needs, no data (paper, section 3.2).

    Args:
        generator: any functional or sequential Keras model from latents `[n, latent_dim]`, N(0, I), to images
            `[n, h, w, c]` in `value_range`. It is not changed; its batch norm runs in inference mode.
        steps: optimiser steps; 100,000 in the paper, 15,000 made the packaged MNIST inverter.
        batch_size: latents a step; 25 in the paper.
        seed: key of every draw, and of fresh weights.
        value_range: lowest and highest pixel.
        inverter: a model from images to latents to begin with; it is copied, not changed. By default convolutions of
            stride 2 down to 4 pixels, and a dense layer.
        width: channels of the default inverter's and the discriminator's first layer.
        output_dir: folder for checkpoints, weights and TensorBoard events; the same call goes on where it stopped.
            None keeps nothing.
        on_progress: called with a `training.loop.Progress` after every chunk of steps.
        **settings: of `training.inverter.InverterTrainer`: learning rates, the weights of the three losses
            (`adversarial_weight` 1, `semantic_weight` 100, `latent_weight` 1: Eqs. 3 to 5), `semantic_margin` 0.02.

    Returns:
        The inverter, a Keras model from images `[n, h, w, c]` to latents `[n, latent_dim]`.

    Raises:
        ValueError: for a model that is no generator, an inverter that does not fit it, or bad arguments.
        FloatingPointError: if training diverges.

    Example:
        >>> generator = keras.Sequential([
        ...     keras.Input((8,)), keras.layers.Dense(64, "sigmoid"), keras.layers.Reshape((8, 8, 1))])
        >>> inverter = invgan_tf.train_inverter(generator, steps=20, width=4)
        >>> inverter.output_shape
        (None, 8)
    """
    steps = validation.check_count("steps", steps, 1)
    inverting = trainer(
        generator,
        batch_size=batch_size,
        seed=seed,
        value_range=value_range,
        inverter=inverter,
        width=width,
        **settings,
    )
    with tempfile.TemporaryDirectory() as scratch:
        for progress in loop.train(inverting, steps=steps, output_dir=output_dir or scratch):
            if on_progress is not None:
                on_progress(progress)
    return inverting.models["inverter"]


def trainer(
    generator: keras.Model,
    *,
    batch_size: int = 25,
    seed: int = 0,
    value_range: tuple[float, float] = (0.0, 1.0),
    inverter: keras.Model | None = None,
    width: int = 64,
    **settings,
) -> inverter_training.InverterTrainer:
    """Returns what `train_inverter` runs, for programs with a loop of their own; arguments and errors as there."""
    check_generator(generator, value_range)
    batch_size = validation.check_count("batch_size", batch_size, 1)
    seed, width = validation.check_count("seed", seed, 0), validation.check_count("width", width, 1)
    wanted = generator.output_shape[1:], generator.input_shape[-1]
    if inverter is not None and (inverter.input_shape[1:], inverter.output_shape[-1]) != wanted:
        raise ValueError(
            f"The inverter maps {inverter.input_shape[1:]} to {inverter.output_shape[-1]} latents, the generator needs "
            f"{wanted[0]} to {wanted[1]}."
        )
    networks = _networks(generator, inverter, width, seed)
    return inverter_training.InverterTrainer(
        generator, *networks, batch_size=batch_size, seed=seed, value_range=value_range, **settings
    )


def _networks(generator, inverter, width, seed):
    """Returns an inverter and a discriminator whose fresh weights depend on the seed alone."""
    discriminator = any_shape.build_discriminator_for(generator, width=width)
    fresh = [discriminator]
    if inverter is None:
        inverter = any_shape.build_inverter_for(generator, width=width)
        fresh.append(inverter)
    else:
        begun, inverter = inverter, keras.models.clone_model(inverter)
        inverter.set_weights(begun.get_weights())
    for role, model in enumerate(fresh):
        for index, weight in enumerate(model.weights):
            if len(weight.shape) > 1:
                weight.assign(keras.initializers.GlorotUniform(_key(seed, role, index))(weight.shape))
            elif not weight.trainable:  # the singular vectors of spectral normalisation
                weight.assign(loop.latents(seed, index, -3 - role, weight.shape))
    return inverter, discriminator


def _key(seed, role, index):
    """Returns the seed of one weight's first values: no two weights, and no two seeds, share it but by chance."""
    return int(np.random.SeedSequence([seed, role, index]).generate_state(1)[0] // 2)


@dataclasses.dataclass(frozen=True)
class Recovery:
    """How well latents and images come back.

    Attributes:
        latent_mse: squared error of the latents, mean over their dimensions.
        image_mse: squared error of the images drawn from them, mean over pixels.
    """

    latent_mse: means.Mean
    image_mse: means.Mean


def recovery(generator: keras.Model, inverter: keras.Model, *, count: int = 1000, seed: int = 0) -> dict[str, Recovery]:
    """Measures an inverter on fresh latents, beside two that look at no image.

    Args:
        generator: Keras model from latents to images.
        inverter: Keras model from images to latents.
        count: fresh latents from N(0, I), which no training draws.
        seed: their key.

    Returns:
        By name: "Inverter", I(G(z)); "Random", other latents from N(0, I); "Constant", the latents' mean 0, which
        is the constant of least error. Means over latents with 95 % Student intervals.

    Raises:
        ValueError: for a count below 2.
    """
    shape = validation.check_count("count", count, 2), generator.input_shape[-1]
    latents, others = (loop.latents(seed, 0, role, shape).numpy() for role in (-10, -11))
    images = accuracy.outputs(generator, latents)
    found = {"Inverter": accuracy.outputs(inverter, images), "Random": others, "Constant": np.zeros_like(latents)}
    return {
        name: Recovery(
            means.Mean.of(np.mean((latents - recovered) ** 2, axis=1)),
            means.Mean.of(np.mean((images - accuracy.outputs(generator, recovered)) ** 2, axis=(1, 2, 3))),
        )
        for name, recovered in found.items()
    }
