"""Makes one table of its shards: `python -m experiments.merge --shards=DIR,DIR,... --output_dir=DIR`.

The shards' stored cells are brought together, and the program that made them runs over them: what one machine would
have computed, it finds; a cell that is missing or damaged it computes.
"""

import json
import pathlib
import shutil
import subprocess
import sys

from absl import flags

from experiments import common_flags, shards
from invgan_tf import files

flags.DEFINE_list("shards", None, "Output folders of all shards of one table.")

FLAGS = flags.FLAGS

_PROGRAMS = ("table2", "table3", "table4", "false_positives", *(f"figure{n}" for n in (2, 4, 5, 6, 7, 8)))


def main() -> None:
    """Checks that the shards are all of one table, joins their cells and runs the program."""
    if not FLAGS.shards:
        raise common_flags.FlagError("--shards needs the output folders of all shards, comma-separated.")
    found = {folder: _read(pathlib.Path(folder)) for folder in FLAGS.shards}
    first = next(iter(found.values()))
    _check(found)
    place = pathlib.Path(common_flags.output_dir("merge"))
    cells = place / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    for folder, shard in found.items():
        for path in sorted((pathlib.Path(folder) / shard["cells"]).glob("*.npz")):
            if not (cells / path.name).exists():
                with files.replacing(cells / path.name) as temporary:
                    shutil.copyfile(path, temporary)
    before = len(list(cells.iterdir()))
    command = [sys.executable, "-m", f"experiments.{first['program']}", *first["arguments"]]
    command += [f"--output_dir={place}", f"--cells_dir={cells}"]
    status = subprocess.run(command, cwd=pathlib.Path(__file__).parents[1], check=False).returncode
    computed = len(list(cells.iterdir())) - before
    print(f"{len(found)} shards, {before} stored cells; {computed} were not among them.")
    sys.exit(status)


def _read(folder):
    try:
        content = files.read_sealed(folder / shards.FILE)
        known = content["program"] in _PROGRAMS and {"shard", "settings", "arguments", "cells"} <= set(content)
    except FileNotFoundError as error:
        raise common_flags.FlagError(f"{folder} holds no finished shard: run its command again.") from error
    except KeyError as error:
        raise common_flags.FlagError(f"{folder / shards.FILE} is no shard's: it lacks {error}.") from error
    if not known:
        raise common_flags.FlagError(f"{folder / shards.FILE} is not of {', '.join(_PROGRAMS)}.")
    return content


def _check(found):
    """Raises FlagError unless the shards are all of one table."""
    kinds = {
        json.dumps([shard["program"], shard["shard"][1], shard["settings"]], sort_keys=True) for shard in found.values()
    }
    if len(kinds) > 1:
        raise common_flags.FlagError("--shards names shards of different programs, settings or numbers of shards.")
    count = next(iter(found.values()))["shard"][1]
    numbers = sorted(shard["shard"][0] for shard in found.values())
    if numbers != list(range(1, count + 1)):
        raise common_flags.FlagError(f"--shards needs shards 1 to {count}, each once, got {numbers}.")


if __name__ == "__main__":
    common_flags.run(main)
