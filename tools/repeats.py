"""How far runs of one command differ, with and without --deterministic: `python -m tools.repeats`.

The programs are those of `tools.soak`, each run several times in a process of its own, on all cores.
"""

import multiprocessing
import pathlib
import sys

import numpy as np
import safetensors.numpy
import tabulate
from absl import flags

from experiments import common_flags, report
from invgan_tf import files
from tools import soak_programs

flags.DEFINE_integer("repeats", 5, "Runs of each program.", lower_bound=2)

FLAGS = flags.FLAGS

_DONE = "done"  # lies in the folder of a finished run: the same command goes on after it
_HEADERS = ["program", "--deterministic", "distinct results", "greatest difference of a weight", "of a cell"]


def main() -> None:
    """Runs every program, compares, writes repeats.md; ends with 1 if deterministic runs differ."""
    folder = pathlib.Path(FLAGS.output_dir or "runs/repeats")
    files.lock(folder)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.soak_programs"])
    preset, log = folder / "preset", str(folder / "repeats.log")
    if not preset.is_dir():
        _run(context, soak_programs.prepare, str(preset))
    body, differ = [], False
    for phase in soak_programs.PHASES:
        for deterministic in (True, False):
            places = [folder / f"{phase.replace(' ', '_')}_{deterministic}_{i}" for i in range(FLAGS.repeats)]
            for place in places:
                if not (place / _DONE).exists():
                    _run(context, soak_programs.run, phase, str(place), str(preset), log, deterministic)
                    (place / _DONE).touch()
            distinct = len({tuple(sorted(soak_programs.state(place).items())) for place in places})
            differ |= deterministic and distinct > 1
            body.append([phase, "yes" if deterministic else "no", f"{distinct} of {FLAGS.repeats}", *_spread(places)])
            text = tabulate.tabulate(body, _HEADERS, tablefmt="github", disable_numparse=True)
            files.write_text(folder / "repeats.md", text + "\n")  # after every row: the next may take minutes
    print(text)
    if differ:
        sys.exit(1)


def _run(context, function, *arguments):
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise common_flags.FlagError(f"{arguments[0]} ended with {process.exitcode}: see the log in the output folder.")


def _spread(places):
    """Returns how far weights and table cells are apart, as text."""
    weights, values = [], []
    for place in places:
        parts = sorted(place.glob("*.safetensors"))
        arrays = {
            f"{part.stem}/{name}": array for part in parts for name, array in safetensors.numpy.load_file(part).items()
        }
        weights.append(arrays)
        if (place / "results.json").is_file():
            values.append([cell["value"] for cell in report.read(place / "results.json")["cells"]])
    apart = [np.ptp(np.stack([found[name] for found in weights]).astype(float), axis=0).max() for name in weights[0]]
    cell = f"{np.ptp(values, axis=0).max():.3f}" if values else "-"
    return f"{max(apart):.2g}" if apart else "-", cell


if __name__ == "__main__":
    common_flags.run(main)
