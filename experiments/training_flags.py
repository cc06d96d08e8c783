"""The flags of the training programs, and the progress bar they share."""

import os
import pathlib
import shlex
import sys
from collections.abc import Iterable

import tqdm
from absl import flags

from experiments import report
from invgan_tf import presets
from invgan_tf.training import loop

flags.DEFINE_integer("training_steps", None, "Optimiser steps to train for. Default: the program's own.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Images or latents a step. Default: the paper's.", lower_bound=1)
flags.DEFINE_integer("checkpoint_every", 1000, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_integer("snapshot_every", None, "Steps between kept copies of the weights. Default: none.", lower_bound=1)
flags.DEFINE_enum("dtype", "float32", ["float32", "mixed_bfloat16"], "Keras dtype policy of the trained networks.")

FLAGS = flags.FLAGS


def follow(progress: Iterable[loop.Progress], steps: int, title: str) -> None:
    """Runs a training to its end behind a progress bar with rate and time left."""
    bar = None
    for state in progress:
        if bar is None:  # what an earlier run has done does not count into the rate
            bar = tqdm.tqdm(total=steps, initial=state.step, desc=title, unit="step", mininterval=1.0)
        bar.update(state.step - bar.n)
        bar.set_postfix({name: f"{value:.4g}" for name, value in state.metrics.items()}, refresh=False)
    bar.close()


def write_card(folder: str, models: Iterable[str], **facts) -> None:
    """Writes `card.json` beside the weights: how each file was made, and its checksum."""
    made = {
        "command": shlex.join(["python", "-m", f"experiments.{pathlib.Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "seed": FLAGS.seed,
        "dataset": FLAGS.dataset,
        "dtype": FLAGS.dtype,
        "environment": report.environment(),
        **facts,
    }
    card = {}
    for name in models:
        path = os.path.join(folder, f"{name}.safetensors")
        card[name] = {"sha256": presets.checksum(path), **made}
    presets.write_json(os.path.join(folder, "card.json"), card)
