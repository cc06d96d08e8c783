"""What each phase costs against images, steps and workers, and the model that follows: `python -m benchmarks.scaling`.

Costs are processor seconds of one thread, which other work on the machine disturbs less than the clock does. One and
two workers, of one thread each, are measured by the clock too, which means something where each has a core of its own.
The model is a straight line through the costs; the paper's full budget is what it extends to: an estimate.
"""

import json
import multiprocessing
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tabulate
import tensorflow as tf
from absl import flags

from benchmarks import cost_model
from experiments import common_flags, report
from invgan_tf import attacks, data, defenses, files, models, presets
from invgan_tf.training import gan, inverter, loop

flags.DEFINE_integer("measurements", 3, "Times each case is measured; the least counts.", lower_bound=1)
flags.DEFINE_float(
    "gpu_teraflops", 10.0, "What one GPU is taken to sustain in float32, for the estimate alone.", lower_bound=0.001
)
flags.DEFINE_bool("worker_costs", True, "Measure one and two workers too.")

FLAGS = flags.FLAGS

_BATCHES = {"GAN training": (10, 25, 50), "inverter training": (6, 12, 25)}
_PLAIN = {"tablefmt": "github", "disable_numparse": True}
_STEPS = 4  # of training, in a measured chunk
_IMAGES, _DESCENT = (5, 10, 20), (5, 10, 20)
_RUNS = (5, 65)  # steps of workers' trainings


def main() -> None:
    """Measures, fits, extends; prints tables and writes scaling.json and scaling.md."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    phases = [*_trainings(), *_projections(), *_attacks()]
    shared = _worker_costs() if FLAGS.worker_costs else {}
    text = _tables(phases, shared)
    print(text)
    folder = pathlib.Path(FLAGS.output_dir or "runs/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "scaling.md", text)
    content = {"phases": [phase._asdict() for phase in phases], "worker_costs": shared}
    content |= {"load": os.getloadavg(), "environment": report.environment()}
    files.write_sealed(folder / "scaling.json", content)


def _cost(work: Callable[[], object]) -> float:
    """Returns the least processor seconds of a warm call."""
    work()
    found = []
    for _ in range(FLAGS.measurements):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def _trainings():
    images = np.random.default_rng(0).random((max(_BATCHES["GAN training"]), 28, 28, 1), np.float32)
    for name, batches in _BATCHES.items():
        seconds = []
        for batch in batches:
            generator, discriminator = models.build_generator(), models.build_discriminator()
            if name == "GAN training":
                trainer = gan.GANTrainer(generator, discriminator, batch_size=batch)
                stream = iter(tf.data.Dataset.from_tensors((images[:batch],)).repeat())
            else:
                trainer = inverter.InverterTrainer(generator, models.build_inverter(), discriminator, batch_size=batch)
                stream = None
            chunk = loop.compile_chunk(trainer, stream)
            bounds = tf.constant(0, tf.int64), tf.constant(_STEPS, tf.int64)
            seconds.append(_cost(lambda chunk=chunk, bounds=bounds: chunk(*bounds)) / _STEPS)
        yield cost_model.Phase(name, "images of a step", list(batches), seconds)


def _preset():
    return FLAGS.preset_dir or FLAGS.dataset


def _projections():
    examples = data.load(FLAGS.dataset, "test", data_dir=FLAGS.data_dir, limit=max(_IMAGES))
    for name, kind, restarts in (("InvGAN", defenses.InvGAN, 1), ("DefenseGAN, R = 4", defenses.DefenseGAN, 4)):
        defense = kind.from_preset(_preset())

        def project(count, steps, defense=defense, restarts=restarts):
            return _cost(lambda: defense.project(examples.images[:count], steps=steps, restarts=restarts))

        middle, many = _DESCENT[1], _IMAGES[-1]
        by_images = [project(count, middle) for count in _IMAGES]
        yield cost_model.Phase(f"{name}, T = {middle}", "images", list(_IMAGES), by_images)
        by_steps = [project(many, steps) for steps in _DESCENT]
        work = [many * steps * restarts for steps in _DESCENT]
        yield cost_model.Phase(f"{name}, {many} images", "image-steps", work, by_steps)


def _attacks():
    examples = data.load(FLAGS.dataset, "test", data_dir=FLAGS.data_dir, limit=max(_IMAGES))
    classifier = presets.load_classifier(_preset(), "A")
    iterations = 20

    def attack(count):
        few = {"binary_search_steps": 1, "max_iterations": iterations}
        return _cost(lambda: attacks.carlini_wagner_l2(classifier, examples.images[:count], **few))

    work = [count * iterations for count in _IMAGES]
    yield cost_model.Phase("CW on the classifier", "image-iterations", work, [attack(count) for count in _IMAGES])


# What two workers cost together, against one.


class Spent(NamedTuple):
    """Seconds that a piece of work took: of the processor, all workers together, and by the clock."""

    processor: float
    clock: float


def _worker_costs() -> dict[str, list[Spent]]:
    """Returns what one worker and two together spend: on a projection's image-step, on a training step."""
    costs = {"InvGAN, an image-step": [_projection_cost(count) for count in (1, 2)]}
    costs["inverter training, a step of 24 latents"] = [_training_cost(count) for count in (1, 2)]
    return costs


def _projection_cost(count: int) -> Spent:
    """Returns what processes that have a shard of the images each spend on an image-step; they begin together."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = str(_preset()), FLAGS.dataset, count, context.Barrier(count), results
    processes = [context.Process(target=_project_shard, args=(index, *arguments)) for index in range(count)]
    for process in processes:
        process.start()
    spent = [results.get() for _ in processes]
    for process in processes:
        process.join()
    work = _IMAGES[-1] * _DESCENT[-1]
    return Spent(sum(one.processor for one in spent) / work, max(one.clock for one in spent) / work)


def _project_shard(index, preset, dataset, count, together, results):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    defense = defenses.InvGAN.from_preset(preset)
    images = data.load(dataset, "test", limit=_IMAGES[-1]).images[index::count]
    defense.project(images, steps=_DESCENT[-1])
    together.wait()
    began = Spent(time.process_time(), time.perf_counter())
    defense.project(images, steps=_DESCENT[-1])
    results.put(Spent(time.process_time() - began.processor, time.perf_counter() - began.clock))


def _training_cost(count: int) -> Spent:
    """Returns what the workers of one training spend on a step: of a longer run more than of a shorter, each alone."""
    short, long = (_training(count, steps) for steps in _RUNS)
    return Spent(*((more - less) / (_RUNS[1] - _RUNS[0]) for less, more in zip(short, long)))


def _training(count, steps):
    workers = _addresses(count)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.train_inverter", f"--dataset={FLAGS.dataset}", "--batch_size=24"]
        command += [f"--training_steps={steps}", f"--output_dir={folder}/run", f"--preset_dir={_preset()}"]
        command += ["--distribution=multi_worker"] if count > 1 else []
        processes = []
        for index in range(count):
            cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
            environment |= {"TF_CONFIG": json.dumps(cluster)} if count > 1 else {}
            processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        for process in processes:
            errors = process.communicate()[1]
            if process.returncode:
                raise RuntimeError(f"A worker ended with {process.returncode}: {errors[-500:]}")
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock)


def _addresses(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    found = [f"localhost:{own.getsockname()[1]}" for own in sockets]
    for own in sockets:
        own.close()
    return found


def _tables(phases: Sequence[cost_model.Phase], shared: dict[str, list[Spent]]) -> str:
    body = []
    for phase in phases:
        start, slope, fit = phase.line()
        costs = ", ".join(f"{work:,.0f}: {seconds:.4f}" for work, seconds in zip(phase.work, phase.seconds))
        body.append([phase.name, phase.unit, costs, f"{start:.4f} + {slope:.3g} * {phase.unit}", f"{fit:.4f}"])
    headers = ["phase", "work", "seconds of one thread", "model", "R squared"]
    text = tabulate.tabulate(body, headers, **_PLAIN)
    if shared:
        headers = ["work", "processor seconds, 1 worker", "2 together", "gain at best", "clock, 1 worker", "2", "gain"]
        body = [
            [
                name,
                *(f"{seconds:.3g}" for seconds in (one.processor, two.processor)),
                f"{2 * one.processor / two.processor:.2f}",
                *(f"{seconds:.3g}" for seconds in (one.clock, two.clock)),
                f"{one.clock / two.clock:.2f}",
            ]
            for name, (one, two) in shared.items()
        ]
        text += "\n\n" + tabulate.tabulate(body, headers, **_PLAIN)
    hours, work = cost_model.budget(phases, _IMAGES[-1]), cost_model.operations()
    one = {name: count / (FLAGS.gpu_teraflops * 1e12 * 3600.0) for name, count in work.items()}
    body = [
        [name, f"{hours[name]:,.1f}", f"{work[name] / 1e15:,.3g}", f"{one[name]:,.3g}", f"{one[name] / 8:,.3g}"]
        for name in hours
    ]
    text += "\n\n" + tabulate.tabulate(
        body,
        [
            "paper's budget, one pair: an estimate",
            "hours of one thread",
            "10^15 operations",
            f"hours of 1 GPU at {FLAGS.gpu_teraflops:g} TFLOP/s",
            "of 8",
        ],
        **_PLAIN,
    )
    return f"{text}\n"


if __name__ == "__main__":
    common_flags.run(main)
