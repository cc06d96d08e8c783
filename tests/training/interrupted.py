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


def _gan(seed):
    keras.utils.set_random_seed(seed)
    return gan.GANTrainer(models.build_generator(width=4), models.build_discriminator(width=4), batch_size=6, seed=3)


def _inverter(seed):
    keras.utils.set_random_seed(0)
    generator = models.build_generator(width=4)
    keras.utils.set_random_seed(seed)
    networks = models.build_inverter(width=4), models.build_discriminator(width=4)
    return inverter.InverterTrainer(generator, *networks, batch_size=6, seed=3)


def _classifier(seed):
    keras.utils.set_random_seed(seed)
    return classifier.ClassifierTrainer(models.build_classifier("D"), seed=3)


def _batches(start):
    return data.stream("mnist", "train", batch_size=6, seed=3, start=start)


_killed = []


def _run(trainer, folder, batches, until=None):
    progress = loop.train(
        trainer, steps=STEPS, output_dir=folder, batches=batches, chunk=CHUNK, checkpoint_every=CHECKPOINT_EVERY
    )
    steps = []
    for state in progress:
        steps.append(state.step)
        if state.step == until:
            _killed.append(progress)  # as a kill leaves it: never closed, so nothing more is saved
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
    for build, batches in ((_gan, _batches), (_inverter, None), (_classifier, _batches)):
        name = build.__name__.strip("_")
        steps, whole = _run(build(1), f"{folder}/{name}/whole", batches)
        before, stopped = _run(build(1), f"{folder}/{name}/cut", batches, until=STOPPED_AT)
        after, resumed = _run(build(2), f"{folder}/{name}/cut", batches)  # other initial weights, to be replaced
        report[name] = {
            "steps": [steps, before, after],
            "variables": len(whole),
            "moved_after_stop": len(_differing(whole, stopped)),
            "differing": _differing(whole, resumed),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
