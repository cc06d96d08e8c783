"""Dropout masks that are a function of (seed, step), so that a resumed run draws what an uninterrupted one would."""

from collections.abc import Sequence

import keras
import tensorflow as tf

_ROLE_STRIDE = 40_503 * 2**13


def states(*models: keras.Model) -> list[keras.Variable]:
    """Returns the states that the models' dropout layers draw from, in order."""
    found = []
    for model in models:
        weights = {id(weight) for weight in model.weights}
        found += [variable for variable in model.variables if id(variable) not in weights]
    return found


def key(dropout_states: Sequence[keras.Variable], seed: int, step: tf.Tensor) -> None:
    """Sets the states to what (seed, step) alone determines; no two layers share their masks, nor two seeds."""
    for role, state in enumerate(dropout_states):
        first = (seed + role * _ROLE_STRIDE) % 2**31
        state.assign(tf.cast(tf.stack([first, step]), state.dtype))
