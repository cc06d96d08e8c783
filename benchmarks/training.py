"""The three trainers against what a user would write: `python -m benchmarks.training`.

Images and labels are random: no dataset is needed, and a step costs the same.
"""

import itertools
import os

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import rounds
from experiments import common_flags
from invgan_tf import models
from invgan_tf.training import classifier, gan, inverter, loop

_BATCHES = {"gan": 64, "inverter": 64, "classifier": 128}  # images or latents a step
_IMAGE_SHAPE = (28, 28, 1)
_STEPS = 10  # in one call of a peer

flags.DEFINE_list("trainings", list(_BATCHES), "Trainers to measure.")

FLAGS = flags.FLAGS

flags.register_validator(
    "trainings",
    lambda trainings: bool(trainings) and set(trainings) <= set(_BATCHES),
    f"must list some of {', '.join(_BATCHES)}",
)


def main() -> None:
    """Prints training steps a second of every peer for every trainer."""
    rates = {}
    for training in FLAGS.trainings:
        batch = _BATCHES[training]
        peers = [
            rounds.Peer("compiled chunk, float32", _chunk, (training, batch, "float32")),
            rounds.Peer("compiled chunk, mixed bfloat16", _chunk, (training, batch, "mixed_bfloat16")),
            rounds.Peer("a tf.function called every step", _python_loop, (training, batch, True)),
            rounds.Peer("eager", _python_loop, (training, batch, False)),
            rounds.Peer("PyTorch, float32", _torch, (training, batch, "float32")),
            rounds.Peer("PyTorch, bfloat16", _torch, (training, batch, "bfloat16")),
        ]
        rates[f"{training}, batch {batch}"] = rounds.compare(peers, training)
    settings = {
        "trainings": FLAGS.trainings,
        "batches": {training: _BATCHES[training] for training in FLAGS.trainings},
        "steps_a_call": _STEPS,
        "rounds": FLAGS.rounds,
        "seconds": FLAGS.seconds,
    }
    rounds.tell("training", "training steps a second", rates, settings)


def _trainer(training, batch, dtype):
    """Returns a trainer at the paper's layer sizes."""
    if training == "classifier":
        return classifier.ClassifierTrainer(models.build_classifier("A", _IMAGE_SHAPE, dtype=dtype))
    builders = models.build_generator, models.build_inverter, models.build_discriminator
    generator, inverts, discriminator = (build(_IMAGE_SHAPE, dtype=dtype) for build in builders)
    if training == "gan":
        return gan.GANTrainer(generator, discriminator, batch_size=batch)
    return inverter.InverterTrainer(generator, inverts, discriminator, batch_size=batch)


def _examples(batch):
    """Returns a batch of images in [0, 1] and their labels, as `data.stream` gives them."""
    random = np.random.default_rng(0)
    images = random.random((batch, *_IMAGE_SHAPE), np.float32)
    return images, random.integers(0, 10, batch, np.int32)


def _chunk(training, batch, dtype):
    """As `loop.train` runs it: steps in one compiled call, the means of their metrics read at its end."""
    trainer = _trainer(training, batch, dtype)
    stream = None if training == "inverter" else iter(tf.data.Dataset.from_tensors(_examples(batch)).repeat())
    run_chunk, starts = loop.compile_chunk(trainer, stream), itertools.count(0, _STEPS)

    def work():
        start = next(starts)
        means, _ = run_chunk(tf.constant(start, tf.int64), tf.constant(start + _STEPS, tf.int64))
        for value in means.values():
            value.numpy()
        return _STEPS

    return work


def _python_loop(training, batch, compiled):
    """One step a call: how one writes it first."""
    trainer = _trainer(training, batch, "float32")
    examples = None if training == "inverter" else tuple(map(tf.constant, _examples(batch)))
    step = tf.function(trainer.train_step) if compiled else trainer.train_step
    numbers = itertools.count()

    def work():
        for number in itertools.islice(numbers, _STEPS):
            metrics = step(tf.constant(number, tf.int64), examples)
        for value in metrics.values():
            value.numpy()
        return _STEPS

    return work


def _torch(training, batch, dtype):
    import torch

    from benchmarks import torch_networks

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    images, labels = _examples(batch)
    images = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last, without a copy
    build = getattr(torch_networks, training)
    labelled = (torch.from_numpy(labels).long(),) if training == "classifier" else ()
    networks, step = build(images, dtype, *labelled)
    for name, model in _trainer(training, batch, "float32").models.items():
        theirs = sum(parameter.numel() for parameter in networks[name].parameters())
        ours = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
        if theirs != ours:
            raise RuntimeError(f"PyTorch's {name} has {theirs:,} trainable parameters, Keras's {ours:,}.")

    def work():
        for _ in range(_STEPS):
            loss = step()
        loss.item()
        return _STEPS

    return work


if __name__ == "__main__":
    common_flags.run(main)
