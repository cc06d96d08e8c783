"""Dropout masks that are a function of (seed, step), so that a resumed run draws what an uninterrupted one would."""

from collections.abc import Sequence

import keras
import tensorflow as tf

_ROLE_STRIDE = 40_503 * 2**13
_REPLICA_STRIDE = 30_011 * 2**9


def states(*models: keras.Model) -> list[keras.Variable]:
    """Returns the states that the models' dropout layers draw from, in order."""
    found = []
    for model in models:
        weights = {id(weight) for weight in model.weights}
        found += [variable for variable in model.variables if id(variable) not in weights]
    return found


def key(dropout_states: Sequence[keras.Variable], seed: int, step: tf.Tensor) -> None:
    """Sets the states to what (seed, step) alone determines; no two layers, seeds or replicas share them.

    Where several replicas train together, their masks are not the cut masks of one device.
    """
    context = tf.distribute.get_replica_context()
    replica = 0 if context is None else context.replica_id_in_sync_group
    for role, state in enumerate(dropout_states):
        first = (seed + role * _ROLE_STRIDE + replica * _REPLICA_STRIDE) % 2**31
        state.assign(tf.cast(tf.stack([first, step]), state.dtype))
