"""Every flag that two programs share, and the way every program starts."""

import math
import os
import signal
import sys
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import app, flags, logging

from invgan_tf import data, files, models, presets
from invgan_tf.training import checkpoints, replicas

AUTHORS_SEED = 11241990

flags.DEFINE_enum("dataset", "mnist", list(data.DATASETS), "Dataset of the run.")
flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of prepared TFDS datasets. Default: TFDS_DATA_DIR, then TFDS's own; the MNIST and "
    "Fashion-MNIST test images come with the package.",
)
flags.DEFINE_string(
    "output_dir", None, "Folder for everything the run writes. Default: a folder in runs/, by program and dataset."
)
flags.DEFINE_string(
    "preset_dir",
    None,
    "Trained weights: a folder with card.json, or a packaged preset's name. Default: the dataset's packaged preset.",
)
flags.DEFINE_string(
    "preset", None, "A packaged preset's name or a preset's folder; of tools.assemble_preset the folder to write."
)
flags.DEFINE_integer("seed", AUTHORS_SEED, "Seed of every random draw.", lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_bool("deterministic", False, "Use deterministic kernels: bit-equal repeats on one machine, slower.")

FLAGS = flags.FLAGS


class FlagError(ValueError):
    """Flags that do not fit together, or not to what lies on disk."""


def refuse(*names: str) -> None:
    """Raises FlagError for a flag that was given and comes with a shared module, but means nothing to the program."""
    for name in names:
        if FLAGS[name].present:
            raise FlagError(f"--{name} means nothing here: leave it out.")


_FORESEEN = (
    FlagError,
    OSError,
    FloatingPointError,
    data.DataUnavailableError,
    presets.PresetError,
    models.ImageShapeError,
    checkpoints.CheckpointError,
    files.DamagedError,
    files.InUseError,
    replicas.WorkerLostError,
)


def finite(*names: str) -> None:
    """Makes flags of floats refuse NaN and infinity, which absl's bounds let through."""
    for name in names:
        flags.register_validator(name, lambda given: given is None or math.isfinite(given), "must be a finite number")


def output_dir(program: str) -> str:
    """Returns `--output_dir`, or the program's default folder."""
    return FLAGS.output_dir or os.path.join("runs", program, FLAGS.dataset)


def parse(arguments: list[str]) -> list[str]:
    """Parses the command line as absl does; a flag file that is no text ends the program with one line too."""
    try:
        return app.parse_flags_with_usage(arguments)
    except UnicodeDecodeError as error:
        sys.exit(f"error: --flagfile names a file that is no text: {error}")


def run(main: Callable[[], None], *defaults: str) -> None:
    """Starts a program: parses flags, seeds, and turns a foreseen error into one line and exit status 1.

    Ctrl-C ends it with status 130 and SIGTERM with 143, all that is finished kept.

    Args:
        main: the program.
        *defaults: flags as one would type them, that hold in this program unless they are given; workers see them too.
    """
    sys.argv[1:1] = defaults

    def start(arguments):
        if len(arguments) > 1:
            raise app.UsageError(f"Unexpected argument {arguments[1]!r}; options start with --.")
        logging.set_verbosity(logging.WARNING)
        keras.utils.set_random_seed(FLAGS.seed)
        if FLAGS.deterministic:
            tf.config.experimental.enable_op_determinism()
        received = []

        def stop(number, frame):
            received.append(number)
            raise KeyboardInterrupt

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            main()
        except BaseException as error:
            if received or isinstance(error, KeyboardInterrupt):  # a library may have made another error of it
                print("\nStopped; the same command goes on from what is kept.", file=sys.stderr)
                sys.exit(128 + (received or [signal.SIGINT])[-1])
            if isinstance(error, _FORESEEN):
                sys.exit(f"error: {error}")
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    app.run(start, flags_parser=parse)
