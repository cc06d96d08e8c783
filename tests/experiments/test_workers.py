"""Blocks of images over processes."""

import pathlib
import time

from absl.testing import flagsaver

from experiments import common_flags, workers

_PATIENCE = 120.0  # seconds until a task that waits for another gives up


def _folder():
    return None


def _compute(_, task):
    """Does a task: it is over when the one that it waits for is."""
    folder, name, awaited = task
    until = time.monotonic() + _PATIENCE
    while awaited and not (pathlib.Path(folder) / awaited).exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    (pathlib.Path(folder) / name).touch()
    return True


def test_the_dearest_task_is_begun_at_once_and_stages_are_kept(tmp_path):
    """Of two processes the first two tasks would wait for the last for ever, did they hold both."""
    folder = str(tmp_path)
    first = [(folder, "a", "d"), (folder, "b", "d"), (folder, "c", "d"), (folder, "d", None)]
    second = [(folder, "e", "c"), (folder, "f", "a")]
    common_flags.FLAGS(["program"])  # a process reads the flags that programs share
    with flagsaver.flagsaver(workers=2):
        done = list(workers.run(_folder, _compute, [first, second]))
    assert all(finished for _, finished in done)
    assert first[-1] in [task for task, _ in done[:2]]  # both of those running may be seen to end at once
    assert {task for task, _ in done[:4]} == set(first) and {task for task, _ in done[4:]} == set(second)
