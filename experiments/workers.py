"""Blocks of images over the cores of this machine: one single-threaded process a core.

One block's networks are too small to keep several cores busy: two processes of one thread did 1.1 to
1.3 times the image-steps of one process of two threads. The cell store is what they share.
"""

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from absl import flags

flags.DEFINE_integer(
    "workers", None, "Processes that compute. Default: one a core, at most 8; 1 where there is a GPU.", lower_bound=1
)

FLAGS = flags.FLAGS

_state = None  # what `setup` gave, once a process
_Task, _Result = TypeVar("_Task"), TypeVar("_Result")


def run(
    setup: Callable[[], object],
    function: Callable[[object, _Task], _Result],
    stages: Sequence[Sequence[_Task]],
) -> Iterator[tuple[_Task, _Result]]:
    """Computes tasks in parallel, stage after stage.

    One process takes a stage's tasks from the end, the others from the beginning: where they are ordered by cost the
    cheap ones are seen soon, and the dearest are not left to one process while the others wait.

    Args:
        setup: makes what every task needs, once in each process; a module's function.
        function: computes a task from that; a module's function.
        stages: tasks that may need the ones of the stages before them, the dearest at the end.

    Yields:
        Each task with its result, as they are done.
    """
    import tensorflow as tf

    count = FLAGS.workers or (1 if tf.config.list_physical_devices("GPU") else min(len(os.sched_getaffinity(0)), 8))
    if count == 1:
        state = setup()
        for task in (task for stage in stages for task in stage):
            yield task, function(state, task)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(count, context, _start, (sys.argv, setup)) as pool:
        try:
            for stage in stages:
                left, running, last = collections.deque(stage), {}, None
                while left or running:
                    while left and len(running) < count:
                        from_the_end = last not in running
                        task = left.pop() if from_the_end else left.popleft()
                        future = pool.submit(_compute, function, task)
                        running[future], last = task, future if from_the_end else last
                    for future in concurrent.futures.wait(running, return_when="FIRST_COMPLETED").done:
                        yield running.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():  # else the pool waits for their blocks
                worker.terminate()
            raise


def _start(arguments, setup):
    global _state
    import tensorflow as tf

    # A worker whose parent was killed has nobody to work for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    watch = threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True)
    watch.start()
    FLAGS(arguments, known_only=True)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    _state = setup()


def _compute(function, task):
    return function(_state, task)
