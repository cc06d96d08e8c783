"""The flags of the training programs, and the progress bar they share."""

import contextlib
import functools
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterable

import tqdm
from absl import flags

from experiments import common_flags, report
from invgan_tf import data, files, presets
from invgan_tf.training import loop, replicas

flags.DEFINE_integer("training_steps", None, "Optimiser steps to train for. Default: the program's own.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Images or latents a step. Default: the paper's.", lower_bound=1)
flags.DEFINE_integer(
    "width",
    None,
    "Base width of the networks. Default: 64, the paper's; an inverter's: its generator's.",
    lower_bound=2,
)
flags.DEFINE_integer("checkpoint_every", 1000, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_integer("snapshot_every", None, "Steps between kept copies of the weights. Default: none.", lower_bound=1)
flags.DEFINE_enum("dtype", "float32", ["float32", "mixed_bfloat16"], "Keras dtype policy of the trained networks.")
flags.DEFINE_enum(
    "distribution",
    "one",
    replicas.KINDS,
    "Devices that share each batch: one; mirrored: this machine's GPUs; multi_worker: the workers of TF_CONFIG.",
)

FLAGS = flags.FLAGS

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def distributed(main: Callable[[], None]) -> Callable[[], None]:
    """Makes a training program's `main` build and train its networks over the devices of --distribution."""

    @functools.wraps(main)
    def start():
        try:
            strategy = replicas.strategy(FLAGS.distribution)
        except ValueError as error:
            raise common_flags.FlagError(f"--distribution={FLAGS.distribution}: {error}") from error
        with strategy.scope() if FLAGS.distribution != "one" else contextlib.nullcontext():
            main()

    return start


def train(trainer: loop.Trainer, folder: str, title: str, *, steps: int, batch_size: int, images: int, **facts) -> dict:
    """Trains, or goes on with a training, behind a progress bar with rate and time left.

    Of the workers of one training all but the first end here: what follows is for the one that writes.

    Args:
        trainer: what is trained.
        folder: where checkpoints, summaries and weights go.
        title: what the bar says.
        steps: optimiser steps in all.
        batch_size: images or latents a step.
        images: the dataset's training images that a step takes; 0 for none.
        **facts: what else makes this run another one than that of other settings.

    Returns:
        For the card: command and environment of the run that began the training.

    Raises:
        FlagError: for a folder that holds a run with other settings, or with more steps, or a batch that the replicas
            cannot share.
    """
    if batch_size % replicas.count():
        raise common_flags.FlagError(f"--batch_size={batch_size} cannot be shared by {replicas.count()} replicas.")
    chief = replicas.is_chief()
    made = _claim(folder, batch_size=batch_size, **facts) if chief else {}

    def batches(start):
        return data.stream(
            FLAGS.dataset, "train", batch_size=images, seed=FLAGS.seed, data_dir=FLAGS.data_dir, start=start
        )

    progress = loop.train(
        trainer,
        steps=steps,
        output_dir=folder,
        batches=batches if images else None,
        checkpoint_every=FLAGS.checkpoint_every,
        snapshot_every=FLAGS.snapshot_every,
    )
    first = next(progress).step
    if first > steps:
        raise common_flags.FlagError(f"{folder} holds a training of {first} steps, more than the {steps} asked for.")
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: received.append(number)) for number in _SIGNALS}
    stop = 0
    try:
        # What an earlier run has done does not count into the rate.
        with tqdm.tqdm(total=steps, initial=first, desc=title, unit="step", mininterval=1.0, disable=not chief) as bar:
            for state in progress:
                bar.update(state.step - bar.n)
                bar.set_postfix({name: f"{value:.4g}" for name, value in state.metrics.items()}, refresh=False)
                stop = replicas.agree(received[0] if received else 0)  # one that is told to stop stops all
                if stop:
                    progress.close()  # saves a checkpoint
                    break
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    replicas.agree(0)  # nobody leaves before all is written
    if stop:
        signal.raise_signal(stop)  # to whom it would have gone
    if not chief:
        sys.exit(0)
    return made


def _claim(folder: str, **facts) -> dict:
    """Writes what a run trains, and with what, to its folder's settings.json; refuses a folder of another run.

    Returns:
        Command and environment of the first run in the folder, whatever goes on with it.

    Raises:
        FlagError: if an earlier run in the folder had other settings: its checkpoints are not this run's.
    """
    files.lock(folder)
    path = pathlib.Path(folder) / "settings.json"
    wanted = {"seed": FLAGS.seed, "dataset": FLAGS.dataset, "dtype": FLAGS.dtype, **facts}
    if path.is_file():
        try:
            content = files.read_sealed(path)
            found, made = content["settings"], content["made"]
        except (files.DamagedError, KeyError) as error:
            raise common_flags.FlagError(f"{path} is damaged; choose another --output_dir.") from error
        other = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        if other:
            raise common_flags.FlagError(
                f"{folder} holds a run with {other[0]} = {found.get(other[0])}, this one has "
                f"{wanted.get(other[0])}; choose another --output_dir."
            )
        return made
    command = shlex.join(["python", "-m", f"experiments.{pathlib.Path(sys.argv[0]).stem}", *sys.argv[1:]])
    made = {"command": command, "environment": report.environment()}
    files.write_sealed(path, {"settings": wanted, "made": made})
    return made


def write_card(folder: str, models: Iterable[str], **facts) -> None:
    """Writes `card.json` beside the weights: how each file was made, and its checksum."""
    made = {
        "seed": FLAGS.seed,
        "dataset": FLAGS.dataset,
        "dtype": FLAGS.dtype,
        **facts,
    }
    card = {}
    for name in models:
        path = os.path.join(folder, f"{name}.safetensors")
        card[name] = {"sha256": presets.checksum(path), **made}
    files.write_json(os.path.join(folder, "card.json"), card)
