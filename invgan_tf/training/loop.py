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

from invgan_tf import files, presets, validation
from invgan_tf.training import checkpoints, replicas


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
    """Draws N(0, I) latents that depend on (seed, step, role) alone; inside a replica, its part of them."""
    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, role], tf.int64), step)
    return replicas.share(tf.random.stateless_normal(shape, key))


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

    Writes `checkpoints/` (the last three, whole state, with checksums), TensorBoard events, and at the end (and every
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
        FloatingPointError: if a metric, a weight or an optimiser's slot is not finite: it is named with its step, and
            nothing is saved after it.
        InUseError: if another run that is still going writes to `output_dir`.
        WriteError: if the disk is full; the earlier checkpoints stay.
        CheckpointError: if no checkpoint that is there can be gone on from, or the workers' folders differ.
        WorkerLostError: if another worker ended; the checkpoints stay.
    """
    every = {"checkpoint": checkpoint_every, "snapshot": snapshot_every, "summary": summary_every}
    for name, value in {
        "steps": steps,
        "chunk": chunk,
        **{f"{name}_every": count for name, count in every.items()},
    }.items():
        if name != "snapshot_every" or value is not None:
            validation.check_count(name, value, 1)
    folder = pathlib.Path(output_dir)
    fresh = replicas.is_chief() and files.lock(folder)
    try:
        yield from _steps(trainer, steps, folder, batches, chunk, every)
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise replicas.WorkerLostError(
            f"Another worker is gone ({type(error).__name__}); the same command on all of them goes on from "
            "the last checkpoint."
        ) from error
    finally:
        if fresh:
            files.unlock(folder)


def _steps(trainer, steps, folder, batches, chunk, every):
    counter = tf.Variable(0, dtype=tf.int64, trainable=False)
    checkpoint = tf.train.Checkpoint(step=counter, **trainer.models, **trainer.optimizers)
    chief = replicas.is_chief()
    manager = checkpoints.Checkpoints(checkpoint, folder / "checkpoints", chief)
    step = manager.restore() or 0
    if (replicas.agree(step), -replicas.agree(-step)) != (step, step):
        raise checkpoints.CheckpointError(
            f"This worker stands at step {step}, others do not: give all of them one folder that they share."
        )
    for model in trainer.models.values():
        replicas.synchronize(model)
    run_chunk = compile_chunk(trainer, iter(batches(step)) if batches else None)
    writer = tf.summary.create_file_writer(str(folder)) if chief else tf.summary.create_noop_writer()
    boundaries = [chunk, *(interval for interval in every.values() if interval)]
    yield Progress(step, {})
    while step < steps:
        began = time.perf_counter()
        stop = min(steps, *(step - step % interval + interval for interval in boundaries))
        means, firsts = run_chunk(tf.constant(step, tf.int64), tf.constant(stop, tf.int64))
        metrics = {name: float(value) for name, value in means.items()}
        _check_finite(trainer, metrics, {name: int(first) for name, first in firsts.items()}, stop)
        scalars = metrics | {"steps_per_second": (stop - step) / (time.perf_counter() - began)}
        step, last = stop, stop == steps
        counter.assign(step)
        shown = chief and (last or step % every["summary"] == 0)
        saved = last or step % every["checkpoint"] == 0
        if (
            chief and every["snapshot"] and step % every["snapshot"] == 0
        ):  # before the checkpoint: a run that goes on skips both
            _export(trainer, folder / "snapshots" / f"{step:06d}")
        pictures = {name: _grid(images) for name, images in trainer.images().items()} if shown else {}
        _summarize(writer, step, scalars | (trainer.scalars() if shown else {}), pictures, flush=saved)
        if saved:
            manager.save(step)
        try:
            yield Progress(step, metrics)
        except GeneratorExit:  # stopped between two chunks: nothing is lost
            manager.save(step)
            writer.close()
            raise
    if chief:
        _export(trainer, folder)
    writer.close()


def _summarize(writer, step, scalars, pictures, flush):
    try:
        with writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
            for name, picture in pictures.items():
                tf.summary.image(name, picture)
        if flush:
            writer.flush()
    except tf.errors.OpError as error:
        raise files.WriteError(f"TensorBoard's events could not be written: {error.message}") from error


def compile_chunk(trainer: Trainer, iterator: Iterator | None) -> Callable:
    """Compiles steps in one call.

    Args:
        trainer: whose `train_step`.
        iterator: of a dataset of batches; None for a training without data.

    Returns:
        A function of the first step and the one to stop at, int64 tensors: the metrics' means, and for each the first
        step it was not finite at.
    """
    # Converting the step's Python would take as long as tracing it, and there is nothing in it to convert.
    train_step = tf.autograph.experimental.do_not_convert(trainer.train_step)

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 2)
    def run_chunk(start, stop):
        totals = {name: tf.constant(0.0) for name in trainer.metrics}
        firsts = {name: stop for name in trainer.metrics}
        for step in tf.range(start, stop):
            batch = next(iterator) if iterator is not None else None
            values = replicas.run(train_step, step, batch)
            values = {name: tf.cast(values[name], tf.float32) for name in trainer.metrics}
            firsts = {
                name: tf.where(tf.math.is_finite(values[name]), firsts[name], tf.minimum(firsts[name], step))
                for name in trainer.metrics
            }
            totals = {name: totals[name] + values[name] for name in trainer.metrics}
        count = tf.cast(stop - start, tf.float32)
        return {name: total / count for name, total in totals.items()}, firsts

    return run_chunk


def _check_finite(trainer, metrics: dict[str, float], firsts: dict[str, int], stop: int) -> None:
    """Raises FloatingPointError that names what is not finite, and at which step it was found."""
    spoilt = [
        f"{name}'s {variable.path}"
        for name, part in {**trainer.models, **trainer.optimizers}.items()
        for variable in (part.weights if isinstance(part, keras.Model) else part.variables)
        if not np.isfinite(variable.numpy()).all()
    ]
    step, name = min(((first, name) for name, first in firsts.items()), default=(stop, ""))
    kept = "the last checkpoint is from before it"
    if step < stop:
        where = f" ({spoilt[0]} is not finite)" if spoilt else ""
        raise FloatingPointError(f"{name} was not finite at step {step}{where}; training stopped, {kept}.")
    if spoilt:
        raise FloatingPointError(f"{spoilt[0]} was not finite after step {stop}; training stopped, {kept}.")


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
