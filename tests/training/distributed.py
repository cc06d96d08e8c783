"""Trains a few steps on one device or over several and writes gradients, losses and weights: what a test compares.

`python distributed.py KIND FILE TRAINER...`; a program, because devices and clusters are set once a process.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import data, models
from invgan_tf.training import age, classifier, gan, inverter, replicas

STEPS, BATCH = 10, 8


def _gan():
    return gan.GANTrainer(
        models.build_generator(width=4), models.build_discriminator(width=4), batch_size=BATCH, seed=3
    )


def _two_discriminator_steps():
    networks = models.build_generator(width=4), models.build_discriminator(width=4)
    return gan.GANTrainer(*networks, batch_size=BATCH, seed=3, discriminator_steps=2)


def _inverter():
    networks = models.build_generator(width=4), models.build_inverter(width=4), models.build_discriminator(width=4)
    return inverter.InverterTrainer(*networks, batch_size=BATCH, seed=3)


def _classifier():
    return classifier.ClassifierTrainer(models.build_classifier("E"), seed=3)


def _age():
    networks = (
        models.build(part, (32, 32, 3), family="age", width=4, dtype="float32")
        for part in ("age_encoder", "age_generator")
    )
    return age.AGETrainer(*networks, batch_size=BATCH, seed=3)


_TRAINERS = {
    "gan": _gan,
    "gan2": _two_discriminator_steps,
    "inverter": _inverter,
    "classifier": _classifier,
    "age": _age,
}


def _batch(name, step, examples):
    if name == "inverter":
        return None
    count = 2 * BATCH if name == "gan2" else BATCH
    numbers = np.arange(step * count, (step + 1) * count) % len(examples)
    images = examples.images[numbers]
    if name == "age":
        images = np.repeat(2 * np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))) - 1, 3, axis=-1)
    return tf.constant(images), tf.constant(examples.labels[numbers])


def _train(name, kind):
    found = {}
    with replicas.strategy(kind).scope():
        keras.utils.set_random_seed(1)
        trainer = _TRAINERS[name]()
        for model in trainer.models.values():
            replicas.synchronize(model)

        @tf.function
        def step(number, batch):
            return replicas.run(trainer.train_step, number, batch)

        examples = data.load("mnist", "test", limit=100)
        for number in range(STEPS):
            values = step(tf.constant(number, tf.int64), _batch(name, number, examples))
            found |= {f"{name} loss {metric} {number}": float(value) for metric, value in values.items()}
            if not number:  # Adam's first moment is now (1 - beta1) times the gradient
                for optimizer in trainer.optimizers.values():
                    for slot in optimizer._momentums:
                        found[f"{name} gradient {slot.path}"] = slot.numpy() / (1.0 - optimizer.beta_1)
        for model in trainer.models.values():
            found |= {f"{name} weight {model.name}/{weight.path}": weight.numpy() for weight in model.weights}
    return found


def main(kind, path, *names):
    if kind == "mirrored":
        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    replicas.strategy(kind)  # before anything is computed
    found = {}
    for name in names:
        found |= _train(name, kind)
    with replicas.strategy(kind).scope():
        assert replicas.count() == (1 if kind == "one" else 2)
        if replicas.is_chief():
            np.savez(path, **{name.replace("/", "|"): value for name, value in found.items()})
        replicas.agree(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
