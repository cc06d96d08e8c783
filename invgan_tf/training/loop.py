"""The loop every trainer runs in: compiled chunks of steps, checkpoints, summaries.

A trainer is a compiled step and the state that step changes. Between chunks, and only there, the loop
saves, writes summaries and hands control to the caller.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import presets


class Trainer:
    """What the loop needs of a training: a step, its state, and what to show and to keep.

    Subclasses set `metrics`, the names of the scalars that `train_step` returns, and `models`, the
    networks to export, by name. Every random draw of `train_step` is a function of (seed, step).
    """

    metrics: tuple[str, ...]
    models: dict[str, keras.Model]
    optimizers: dict[str, keras.optimizers.Optimizer]

    def train_step(self, step: tf.Tensor, batch) -> dict[str, tf.Tensor]:
        """Makes one step; `batch` is the stream's element, or None without a stream."""
        raise NotImplementedError

    def images(self) -> dict[str, tf.Tensor]:
        """Returns batches of pictures `[n, h, w, c]` in [0, 1] that show the state of training, by name."""
        return {}

    def scalars(self) -> dict[str, float]:
        """Returns figures too dear for every step, by name, written beside the pictures."""
        return {}


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a training stands after a chunk: steps done, and the chunk's mean metrics."""

    step: int
    metrics: dict[str, float]


def latents(seed: int, step: tf.Tensor, role: int, shape) -> tf.Tensor:
    """Draws N(0, I) latents that depend on (seed, step, role) alone."""
    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, role], tf.int64), step)
    return tf.random.stateless_normal(shape, key)


def train(
    trainer: Trainer,
    *,
    steps: int,
    output_dir: str | os.PathLike,
    batches: Callable[[int], tf.data.Dataset] | None = None,
    chunk: int = 50,
    checkpoint_every: int = 1000,
    snapshot_every: int | None = None,
    summary_every: int = 1000,
) -> Iterator[Progress]:
    """Trains to `steps`, going on from the newest checkpoint in `output_dir`.

    Writes `checkpoints/` (the last three, whole state), TensorBoard events, and at the end (and every
    `snapshot_every` steps, under `snapshots/STEP/`) each model's weights as safetensors.

    Args:
        trainer: the step and its state.
        steps: number of the last step, counted from the very start of training.
        output_dir: the run's folder.
        batches: given the step to start from, returns the stream of batches; None if steps need no data.
        chunk: steps in one compiled call.
        checkpoint_every, snapshot_every, summary_every: in steps.

    Yields:
        `Progress` after resuming and after every chunk; closing the generator there saves a checkpoint.

    Raises:
        FloatingPointError: if a metric or a weight is not finite; the last good checkpoint stays.
    """
    folder = pathlib.Path(output_dir)
    counter = tf.Variable(0, dtype=tf.int64, trainable=False)
    checkpoint = tf.train.Checkpoint(step=counter, **trainer.models, **trainer.optimizers)
    manager = tf.train.CheckpointManager(checkpoint, str(folder / "checkpoints"), max_to_keep=3)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    step = int(counter)
    iterator = iter(batches(step)) if batches else None
    run_chunk = _compile_chunk(trainer, iterator)
    writer = tf.summary.create_file_writer(str(folder))
    boundaries = [chunk, checkpoint_every, summary_every, *([snapshot_every] if snapshot_every else [])]
    yield Progress(step, {})
    while step < steps:
        began = time.perf_counter()
        stop = min(steps, *(step - step % every + every for every in boundaries))
        means = run_chunk(tf.constant(step, tf.int64), tf.constant(stop, tf.int64))
        metrics = {name: float(value) for name, value in means.items()}
        for name, value in metrics.items():
            if not np.isfinite(value):
                raise FloatingPointError(f"{name} became {value} between steps {step} and {stop}; training stopped.")
        rate = (stop - step) / (time.perf_counter() - began)
        with writer.as_default(step=stop):
            for name, value in metrics.items():
                tf.summary.scalar(name, value)
            tf.summary.scalar("steps_per_second", rate)
            if stop % summary_every == 0 or stop == steps:
                for name, value in trainer.scalars().items():
                    tf.summary.scalar(name, value)
                for name, grid in trainer.images().items():
                    tf.summary.image(name, _grid(grid))
        step = stop
        counter.assign(step)
        if step % checkpoint_every == 0 or step == steps:
            _check_weights(trainer, step)
            manager.save(checkpoint_number=step)
            writer.flush()
        if snapshot_every and step % snapshot_every == 0:
            _export(trainer, folder / "snapshots" / f"{step:06d}")
        try:
            yield Progress(step, metrics)
        except GeneratorExit:  # stopped between two chunks: nothing is lost
            manager.save(checkpoint_number=step)
            writer.close()
            raise
    _export(trainer, folder)
    writer.close()


def _compile_chunk(trainer, iterator):
    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 2)
    def run_chunk(start, stop):
        totals = {name: tf.constant(0.0) for name in trainer.metrics}
        for step in tf.range(start, stop):
            batch = next(iterator) if iterator is not None else None
            values = trainer.train_step(step, batch)
            totals = {name: totals[name] + tf.cast(values[name], tf.float32) for name in trainer.metrics}
        count = tf.cast(stop - start, tf.float32)
        return {name: total / count for name, total in totals.items()}

    return run_chunk


def _check_weights(trainer, step: int) -> None:
    for name, model in trainer.models.items():
        for weight in model.weights:
            if not np.isfinite(weight.numpy()).all():
                raise FloatingPointError(f"{name}'s {weight.path} is not finite at step {step}; training stopped.")


def _export(trainer, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in trainer.models.items():
        presets.save_weights(model, folder / f"{name}.safetensors")


def _grid(images: tf.Tensor, columns: int = 10) -> tf.Tensor:
    """Lays `[n, h, w, c]` out as one picture `[1, rows*h, columns*w, c]`; a last short row is left out."""
    height, width, channels = images.shape[1:]
    rows = max(images.shape[0] // columns, 1)
    columns = min(columns, images.shape[0])
    grid = tf.reshape(images[: rows * columns], (rows, columns, height, width, channels))
    return tf.reshape(tf.transpose(grid, (0, 2, 1, 3, 4)), (1, rows * height, columns * width, channels))
