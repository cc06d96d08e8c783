"""One training over several devices or machines: each replica takes its part of the global batch.

What a step draws is drawn whole by every replica, as a function of seed and step, and cut: so that the parts together
are what one device would have had. Gradients, losses and batch norm's moments are those of the global batch.
"""

import functools
import json
import os

import keras
import tensorflow as tf


class WorkerLostError(RuntimeError):
    """A worker that trained with this one is gone."""


KINDS = ("one", "mirrored", "multi_worker")


def strategy(kind: str) -> tf.distribute.Strategy:
    """Returns TensorFlow's strategy for a kind of distribution.

    Args:
        kind: "one" device; "mirrored" over all GPUs of this machine, or its logical CPU devices where it has none;
            "multi_worker" over the machines of `TF_CONFIG`, to be asked for before TensorFlow computes anything.

    Raises:
        ValueError: for another kind, or "multi_worker" without a cluster in `TF_CONFIG`.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown distribution {kind!r}; choose one of {', '.join(KINDS)}.")
    return tf.distribute.get_strategy() if kind == "one" else _several(kind)


@functools.cache  # a second one in a process would mistake the first one's reductions for its own
def _several(kind):
    if kind == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    _check_cluster(os.environ.get("TF_CONFIG"))
    return tf.distribute.MultiWorkerMirroredStrategy()


def _check_cluster(text):
    try:
        found = json.loads(text or "")
        workers, task = found["cluster"]["worker"], found["task"]
        whole = task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            'multi_worker needs a cluster in TF_CONFIG, {"cluster": {"worker": ["HOST:PORT", ...]}, "task": '
            f'{{"type": "worker", "index": 0}}}}, got {text!r}.'
        ) from error
    if not whole:
        raise ValueError(f"TF_CONFIG names no worker of its cluster: {text!r}.")


def is_chief() -> bool:
    """Whether this process is the one that writes: alone, or worker 0."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    return resolver is None or not resolver.task_id


def count() -> int:
    """Returns how many replicas train together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def share(whole: tf.Tensor) -> tf.Tensor:
    """Returns this replica's part of a global batch `[n, ...]`; all of it outside a replica, or where there is one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return whole
    size, rest = divmod(whole.shape[0], context.num_replicas_in_sync)
    if rest:
        raise ValueError(f"A batch of {whole.shape[0]} cannot be shared by {context.num_replicas_in_sync} replicas.")
    first = context.replica_id_in_sync_group * size
    part = tf.slice(whole, [first, *[0] * (whole.shape.rank - 1)], [size, *whole.shape[1:]])
    return tf.ensure_shape(part, (size, *whole.shape[1:]))


def gather(part: tf.Tensor) -> tf.Tensor:
    """Returns the global batch that the replicas' parts make, for a loss that is no mean over images."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return part
    return context.all_gather(part, axis=0)


def apply(optimizer: keras.optimizers.Optimizer, gradients: list, variables: list) -> None:
    """Makes an optimiser's step with the mean of the replicas' gradients, the global batch's gradient."""
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    if replicas > 1:  # Keras sums
        gradients = [None if gradient is None else gradient / replicas for gradient in gradients]
    optimizer.apply(gradients, variables)


def run(step, *arguments) -> dict[str, tf.Tensor]:
    """Runs a step of all replicas and returns the means of what they return."""
    if not tf.distribute.has_strategy():
        return step(*arguments)
    current = tf.distribute.get_strategy()
    values = current.run(step, args=arguments)
    return {name: current.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in values.items()}


def synchronize(model: keras.Model) -> None:
    """Makes batch norm use the global batch's moments, where there are several replicas."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = count() > 1


def agree(value: int) -> int:
    """Returns the largest of the workers' values; every worker must ask."""
    current = tf.distribute.get_strategy()
    if current.cluster_resolver is None:
        return value
    return int(_largest(current)(tf.constant(value, tf.float64)))


@functools.cache
def _largest(current):
    def ask(own):
        rows = tf.distribute.get_replica_context().all_gather(own[None], axis=0)
        return tf.reduce_max(rows)

    @tf.function(autograph=False)
    def largest(own):
        return current.reduce(tf.distribute.ReduceOp.MEAN, current.run(ask, args=(own,)), axis=None)

    return largest
