"""The cells of a white-box table, computed block by block on all cores behind a progress bar."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tqdm

from experiments import shards, whitebox, whitebox_flags, workers

FLAGS = whitebox_flags.FLAGS

Place = tuple[str, str]  # attack and defence of a cell


def cells(
    places: Sequence[Place], title: str, build: Callable[..., whitebox.WhiteBox], *arguments: str
) -> Iterator[tuple[Place, whitebox.Outcome]]:
    """Computes cells behind a progress bar with time left; with --shard, its blocks of them, and ends the program.

    Args:
        places: the cells wanted.
        title: what the bar says.
        build: makes the evaluation from `arguments`, once in each process; a module's function.
        *arguments: for `build`.

    Yields:
        Each cell with what became of its images, in their order, as soon as its last block is there.
    """
    setup = functools.partial(build, *arguments)
    evaluation = setup()
    wanted = dict.fromkeys(attack for attack, _ in places if attack in whitebox.SHARED)
    shared = [_Task(attack, None, block) for attack in wanted for block in shards.mine(evaluation.blocks(attack))]
    blocks = {attack: shards.mine(evaluation.blocks(attack)) for attack, _ in places}
    tasks = [_Task(attack, defense, block) for attack, defense in places for block in blocks[attack]]
    tasks.sort(key=lambda task: len(task.block) * evaluation.cost(task.attack, task.defense))
    done: dict[Place, dict[tuple, whitebox.Outcome]] = {place: {} for place in places}
    total = sum(len(task.block) * evaluation.cost(task.attack, task.defense) for task in [*shared, *tasks])
    with tqdm.tqdm(total=round(total), desc=title, unit="image-step", unit_scale=True, mininterval=1.0) as bar:
        for task, outcome in workers.run(setup, _compute, [shared, tasks]):
            bar.update(round(len(task.block) * evaluation.cost(task.attack, task.defense)))
            if task.defense is None:
                continue
            place = task.attack, task.defense
            done[place][task.block] = outcome
            if FLAGS.shard is None and len(done[place]) == len(blocks[task.attack]):
                bar.set_postfix_str(f"{whitebox_flags.ROWS[task.defense]} / {whitebox_flags.COLUMNS[task.attack]} done")
                parts = done.pop(place)
                yield place, whitebox.Outcome.join([parts[numbers] for numbers in sorted(parts)])
    shards.finish(whitebox_flags.settings())


class _Task(NamedTuple):
    attack: str
    defense: str | None  # None: only the attacked images
    block: tuple[int, ...]


def _compute(evaluation: whitebox.WhiteBox, task: _Task) -> whitebox.Outcome | None:
    block = np.array(task.block)
    if task.defense is None:
        return evaluation.prepare(task.attack, block)
    return evaluation.outcome(task.attack, task.defense, block)
