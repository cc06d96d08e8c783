"""A table over several machines: each computes its ranges of images, `experiments.merge` makes the table of them."""

import os
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

from absl import flags

from experiments import common_flags
from invgan_tf import files

flags.DEFINE_string(
    "shard", None, "I/N: compute the I-th of N ranges of images alone, for experiments.merge. Needs --output_dir."
)

FLAGS = common_flags.FLAGS

FILE = "shard.json"
_OWN = re.compile("--?(?:shard|output_dir|cells_dir|workers)(=|$)")  # of this shard, not of the table
_Block = TypeVar("_Block")


def _parts(text):
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text or "")
    return tuple(map(int, found.groups())) if found else (0, 0)


flags.register_validator(
    "shard",
    lambda text: text is None or 1 <= _parts(text)[0] <= _parts(text)[1],
    "must be I/N, the I-th of N: 1/4 to 4/4",
)
flags.register_multi_flags_validator(
    ["shard", "output_dir"],
    lambda given: given["shard"] is None or bool(given["output_dir"]),
    "--shard needs an --output_dir of its own",
)


def mine(blocks: Sequence[_Block]) -> list[_Block]:
    """Returns this shard's blocks of images, a range of them; all without --shard."""
    if FLAGS.shard is None:
        return list(blocks)
    number, count = _parts(FLAGS.shard)
    return list(blocks[(number - 1) * len(blocks) // count : number * len(blocks) // count])


def finish(settings: Mapping) -> None:
    """Ends a program that computed a shard: writes shard.json for `experiments.merge`; without --shard does nothing.

    Args:
        settings: everything that was asked for: shards of other settings are no parts of one table.
    """
    if FLAGS.shard is None:
        return
    folder = pathlib.Path(FLAGS.output_dir)
    arguments, skipped = [], False
    for argument in sys.argv[1:]:
        own = _OWN.match(argument)
        if not own and not skipped:
            arguments.append(argument)
        skipped = own is not None and not own[1]  # its value is the next
    content = {
        "program": pathlib.Path(sys.argv[0]).stem,
        "shard": list(_parts(FLAGS.shard)),
        "arguments": arguments,
        "settings": dict(settings),
        "cells": os.path.relpath(FLAGS.cells_dir or folder / "cells", folder),
    }
    files.write_sealed(folder / FILE, content)
    print(f"Shard {FLAGS.shard} is in {folder}; experiments.merge --shards=... makes the table of all of them.")
    sys.exit(0)
