"""Peers measured side by side: each in a process of its own, in turn, round after round.

A process a peer keeps one library's threads from another's; taking turns spreads the machine's moods
over all of them. Only one peer runs at a time.
"""

import multiprocessing
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tabulate
import tqdm
from absl import flags

from experiments import report
from invgan_tf import files

flags.DEFINE_integer("rounds", 5, "Rounds; the tables give medians over them.", lower_bound=1)
flags.DEFINE_float("seconds", 1.0, "Least time a peer runs in each round.", lower_bound=0.0)

FLAGS = flags.FLAGS


class Peer(NamedTuple):
    """One way to do the work.

    Attributes:
        name: what the table calls it.
        setup: a module's function that makes ready and returns a callable: each call works and returns
            the units of work it did. An ImportError from it leaves the peer out.
        arguments: for `setup`.
    """

    name: str
    setup: Callable[..., Callable[[], float]]
    arguments: tuple = ()


def compare(peers: Sequence[Peer], title: str) -> dict[str, list[float]]:
    """Returns each peer's rate, units of work a second, in every round."""
    context = multiprocessing.get_context("spawn")
    processes = {}
    for peer in peers:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, peer), daemon=True)
        process.start()
        theirs.close()
        ready = ours.recv()  # warm before the next one starts: only one peer works at a time
        if ready == "ready":
            processes[peer.name] = process, ours
        else:
            print(f"{peer.name} is left out: {ready}")
            process.join()
    rates: dict[str, list[float]] = {name: [] for name in processes}
    with tqdm.tqdm(total=FLAGS.rounds * len(processes), desc=title) as bar:
        for _ in range(FLAGS.rounds):
            for name, (_, pipe) in processes.items():
                pipe.send(FLAGS.seconds)
                rates[name].append(pipe.recv())
                bar.update()
    for process, pipe in processes.values():
        pipe.close()
        process.join()
    return rates


def _serve(pipe, peer):
    try:
        work = peer.setup(*peer.arguments)
        work()
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send("ready")
    while True:
        try:
            seconds = pipe.recv()
        except EOFError:
            return
        began, done = time.perf_counter(), 0.0
        while not done or time.perf_counter() - began < seconds:
            done += work()
        pipe.send(done / (time.perf_counter() - began))


def tell(name: str, unit: str, rates: Mapping[str, Mapping[str, Sequence[float]]], settings: Mapping) -> None:
    """Prints medians and ratios, and writes them with every round to JSON.

    Args:
        name: the benchmark's, and its file's.
        unit: of a rate.
        rates: case (a column of the table) to peer (a row) to its rates; the first peer is compared with.
        settings: what was asked for.
    """
    cases = list(rates)
    peers = list(dict.fromkeys(peer for case in cases for peer in rates[case]))
    body = []
    for peer in peers:
        row = [peer]
        for case in cases:
            if peer not in rates[case]:
                row.append("-")
                continue
            first = next(iter(rates[case].values()))
            ratios = [theirs / ours for theirs, ours in zip(rates[case][peer], first)]
            row.append(f"{_told(statistics.median(rates[case][peer]))} ({statistics.median(ratios):.2f})")
        body.append(row)
    text = tabulate.tabulate(body, headers=["", *cases], tablefmt="github", disable_numparse=True)
    print(f"{text}\n\n{unit}, median of {FLAGS.rounds} rounds (median ratio to the first row).")
    folder = pathlib.Path(FLAGS.output_dir or "runs/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "unit": unit, "rates": rates, "settings": settings}
    files.write_json(folder / f"{name}.json", content | {"environment": report.environment()})


def _told(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.2f}"
