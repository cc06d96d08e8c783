"""Trains each trainer twice with deterministic kernels, once without a break and once stopped and resumed.

Run as a program, because deterministic kernels stay on for the life of a process. Prints one JSON object:
for each trainer, the steps the two runs reported and the names of the variables in which they differ.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import data, models
from invgan_tf.training import classifier, gan, inverter, loop

STEPS, CHUNK, CHECKPOINT_EVERY, STOPPED_AT = 7, 2, 4, 6


def _gan():
    return gan.GANTrainer(models.build_generator(width=4), models.build_discriminator(width=4), batch_size=6, seed=3)


def _inverter():
    keras.utils.set_random_seed(0)
    generator = models.build_generator(width=4)
    keras.utils.set_random_seed(_inverter.seed)
    networks = models.build_inverter(width=4), models.build_discriminator(width=4)
    return inverter.InverterTrainer(generator, *networks, batch_size=6, seed=3)


def _classifier():
    return classifier.ClassifierTrainer(models.build_classifier("D"), seed=3)


def _run(build, folder, init_seed, with_data, until=None):
    keras.utils.set_random_seed(init_seed)
    _inverter.seed = init_seed
    trainer = build()
    batches = None
    if with_data:
        batches = lambda start: data.stream("mnist", "train", batch_size=6, seed=3, start=start)  # noqa: E731
    progress = loop.train(
        trainer, steps=STEPS, output_dir=folder, batches=batches, chunk=CHUNK, checkpoint_every=CHECKPOINT_EVERY
    )
    steps = []
    for state in progress:
        steps.append(state.step)
        if state.step == until:
            progress.close()
            break
    return steps, _state(trainer)


def _state(trainer):
    named = {}
    for name, model in trainer.models.items():
        named |= {f"{name}/{weight.path}": weight.numpy() for weight in model.weights}
    for name, optimizer in trainer.optimizers.items():
        named |= {f"{name}/{index}": variable.numpy() for index, variable in enumerate(optimizer.variables)}
    return named


def _differing(first, second):
    return [name for name in first if not np.array_equal(first[name], second[name])]


def main(folder):
    tf.config.experimental.enable_op_determinism()
    examples = data.load("mnist", "test", limit=20)
    images = np.rint(255 * examples.images).astype(np.uint8)
    data._read = lambda *args: (images, examples.labels)
    report = {}
    for build, with_data in ((_gan, True), (_inverter, False), (_classifier, True)):
        name = build.__name__.strip("_")
        steps, whole = _run(build, f"{folder}/{name}/whole", 1, with_data)
        before, stopped = _run(build, f"{folder}/{name}/cut", 1, with_data, until=STOPPED_AT)
        after, resumed = _run(build, f"{folder}/{name}/cut", 2, with_data)
        report[name] = {
            "steps": [steps, before, after],
            "variables": len(whole),
            "moved_after_stop": len(_differing(whole, stopped)),
            "differing": _differing(whole, resumed),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
