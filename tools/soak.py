"""Kills runs at random moments and damages what they wrote: `python -m tools.soak --kills=100 --corruptions=200`.

GAN training, inverter training, Table 2 and Table 4, at small sizes under --deterministic, are ended with SIGKILL
again and again, each time started anew with the same command, and compared with runs that nobody killed. Then files
of the finished runs are damaged one at a time and read as the programs read them.
"""

import multiprocessing
import pathlib
import random
import shutil
import sys
import time

import tabulate
import tqdm
from absl import flags, logging

from experiments import common_flags
from invgan_tf import files
from tools import damage, soak_programs

flags.DEFINE_integer("kills", 10, "SIGKILLs, spread over the four programs.", lower_bound=0)
flags.DEFINE_integer("corruptions", 20, "Files damaged, spread over four kinds.", lower_bound=0)

FLAGS = flags.FLAGS

_CONTEXT = multiprocessing.get_context("forkserver")  # a killed program's successor need not import everything again
_PATIENCE = 300  # seconds until a program is taken to hang


def main() -> None:
    """Kills, damages, compares; writes soak.md and soak.json and ends with 1 if anything was lost."""
    folder = pathlib.Path(FLAGS.output_dir or "runs/soak")
    files.lock(folder)
    _CONTEXT.set_forkserver_preload(["tools.soak_programs"])
    began, draw = time.perf_counter(), random.Random(FLAGS.seed)
    preset = folder / "preset"
    if not preset.is_dir():
        _finish(_start(soak_programs.prepare, str(preset)))
    counts = {phase: {"kills": 0, "runs": 0, "lost": 0, "corrupted": 0} for phase in soak_programs.PHASES}
    with tqdm.tqdm(total=FLAGS.kills, desc="kills") as bar:
        for number, phase in enumerate(soak_programs.PHASES):
            wanted = (FLAGS.kills + number) // len(soak_programs.PHASES)
            _kill(phase, folder, preset, wanted, draw, counts[phase], bar)
    logging.set_verbosity(logging.ERROR)  # what is noticed is counted
    damaged = damage.soak(folder, preset, FLAGS.corruptions, draw)
    _report(folder, counts, damaged, time.perf_counter() - began)
    bad = sum(count["lost"] + count["corrupted"] for count in counts.values())
    if bad or any(kind["silent"] for kind in damaged.values()):
        sys.exit(1)


def _start(function, *arguments):
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def _finish(process, patience=_PATIENCE) -> bool:
    """Waits for a process; returns whether it ended well."""
    process.join(patience)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode == 0


def _kill(phase, folder, preset, wanted, draw, count, bar):
    """Runs a program once in peace, then kills it until there are enough kills, comparing each finished run."""
    place = folder / phase.replace(" ", "_")
    log = str(folder / "soak.log")
    reference = place / "whole"
    began = time.perf_counter()
    if not _finish(_start(soak_programs.run, phase, str(reference), str(preset), log)):
        raise common_flags.FlagError(f"{phase} did not finish when nobody killed it: see {log}.")
    seconds = time.perf_counter() - began
    expected = soak_programs.state(reference)
    while count["kills"] < wanted:
        run = place / f"run{count['runs']}"
        shutil.rmtree(run, ignore_errors=True)
        before = soak_programs.finished(run)
        while True:
            process = _start(soak_programs.run, phase, str(run), str(preset), log)
            if count["kills"] < wanted:
                process.join(draw.uniform(0.0, seconds))
                if process.exitcode is None:
                    process.kill()
                    process.join()
                    count["kills"] += 1
                    bar.update()
                    after = soak_programs.finished(run)
                    count["lost"] += _undone(before, after)
                    before = after
                    continue
            done = _finish(process)
            count["lost"] += _undone(before, soak_programs.finished(run))
            count["runs"] += 1
            count["corrupted"] += not done or soak_programs.state(run) != expected
            break


def _undone(before: dict[str, int], after: dict[str, int]) -> int:
    """Returns how many finished units are gone or were made again."""
    gone = sum(after.get(name) != date for name, date in before.items() if name != "step")
    return gone + (after["step"] < before["step"])


def _report(folder, counts, damaged, seconds):
    kills = sum(count["kills"] for count in counts.values())
    header = ["program", "SIGKILLs", "runs finished", "finished units lost", "runs that ended otherwise"]
    body = [[phase, *count.values()] for phase, count in counts.items()]
    text = f"{kills} SIGKILLs at random moments, seed {FLAGS.seed}, {seconds:.0f} s.\n\n"
    text += tabulate.tabulate(body, header, tablefmt="github")
    body = [[kind, *found.values()] for kind, found in damaged.items()]
    text += "\n\n" + tabulate.tabulate(body, ["file", "damaged", "noticed", "harmless", "silent"], tablefmt="github")
    files.write_text(folder / "soak.md", text + "\n")
    files.write_sealed(folder / "soak.json", {"seed": FLAGS.seed, "kills": counts, "damage": damaged})
    print(text)


if __name__ == "__main__":
    common_flags.run(main)
