"""The exact loop of Eq. 6 against what a user would write: `python -m benchmarks.projection --network=mnist`."""

import os
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import networks, rounds
from experiments import common_flags
from invgan_tf import projection
from invgan_tf.defenses import DefenseGAN, InvGAN

flags.DEFINE_string("network", "mnist", "Preset, or random:HEIGHTxWIDTHxCHANNELS for an untrained generator.")
flags.DEFINE_list("batches", ["1", "16", "64", "256", "1024"], "Images a loop works on.")
flags.DEFINE_bool("torch_compile", False, "Measure PyTorch under torch.compile too: a minute more a batch.")

FLAGS = flags.FLAGS

_CALL_IMAGE_STEPS = 512  # of one call of a peer, about a fifth of a second: small batches make many steps
_CALL_STEPS = 8  # at least
_PROJECT_IMAGE_STEPS = 6400  # of one `project`: it has costs of its own (checks, starts, a last G(z)) that T hides
_SIDES = (256, 512, 1024, 2048)
_FED = 256  # images of a batch that is fed
_STEPS = 1000  # T of Table 2, that feeding is compared with


def main() -> None:
    """Prints image-steps a second of every peer at every batch, and the matrix product's rate beside them."""
    flop = networks.image_step_flop(networks.build(FLAGS.network))
    rates = {}
    for batch in map(int, FLAGS.batches):
        peers = [
            rounds.Peer("exact, float32", _exact, (FLAGS.network, batch, "float32")),
            rounds.Peer("exact, bfloat16", _exact, (FLAGS.network, batch, "bfloat16")),
            rounds.Peer("a tf.function called every step", _python_loop, (FLAGS.network, batch, True)),
            rounds.Peer("eager", _python_loop, (FLAGS.network, batch, False)),
            rounds.Peer("PyTorch, float32", _torch, (FLAGS.network, batch, "float32", False)),
            rounds.Peer("PyTorch, bfloat16", _torch, (FLAGS.network, batch, "bfloat16", False)),
            rounds.Peer("matrix product, float32", _product, ("float32", flop)),
            rounds.Peer("matrix product, bfloat16", _product, ("bfloat16", flop)),
        ]
        if FLAGS.torch_compile:
            peers += [
                rounds.Peer(f"PyTorch compiled, {dtype}", _torch, (FLAGS.network, batch, dtype, True))
                for dtype in ("float32", "bfloat16")
            ]
        rates[f"batch {batch}"] = rounds.compare(peers, f"batch {batch}")
    print(f"{FLAGS.network}: {flop / 1e6:.1f} MFLOP an image-step; a matrix product is counted in those.\n")
    settings = {"network": FLAGS.network, "flop": flop, "rounds": FLAGS.rounds, "seconds": FLAGS.seconds}
    reached = {case: _fractions(peers) for case, peers in rates.items()}
    feeding = _milliseconds(rounds.Peer("feeding", _feed, (FLAGS.network,)))
    measured = {"fraction_of_matrix_product": reached, "milliseconds_of_feeding": feeding}
    if not FLAGS.network.startswith(networks.RANDOM):
        measured["milliseconds_of_one_image_at_zero_steps"] = _milliseconds(
            rounds.Peer("one image at T = 0", _one_image, (FLAGS.network,))
        )
    rounds.tell("projection", "image-steps a second", rates, settings | measured)
    for case, fractions in reached.items():
        told = ", ".join(f"{fraction:.2f} in {dtype}" for dtype, fraction in fractions.items())
        print(f"{case}: the exact loop reaches {told} of the matrix product's rate.")
    told = "Feeding {} images and reading their answer: {:.2f} ms; making T = {} steps of them takes {:,.0f} ms."
    fastest = max(statistics.median(peers["exact, float32"]) for peers in rates.values())
    print(told.format(_FED, statistics.median(feeding), _STEPS, 1e3 * _FED * _STEPS / fastest))
    if latency := measured.get("milliseconds_of_one_image_at_zero_steps"):
        told = ", ".join(f"{milliseconds:.2f}" for milliseconds in sorted(latency))
        print(f"InvGAN.project of one image at T = 0, mean milliseconds of each round: {told}.")


def _fractions(peers):
    """Returns the exact loop's share of the matrix product's rate by precision, median over rounds."""
    return {
        dtype: statistics.median(
            ours / best for ours, best in zip(peers[f"exact, {dtype}"], peers[f"matrix product, {dtype}"])
        )
        for dtype in ("float32", "bfloat16")
    }


def _milliseconds(peer):
    """Returns the milliseconds that one call of a peer takes, its mean in each round."""
    return [1e3 / rate for rate in rounds.compare([peer], peer.name)[peer.name]]


def _one_image(network):
    """What a server that inverts without descent pays for an image, through the public method."""
    defense = InvGAN.from_preset(network)
    image = np.full((1, *defense.image_shape), np.mean(defense.value_range), np.float32)

    def work():
        defense.project(image, steps=0)
        return 1

    return work


def _feed(network):
    """All that `project` does between two batches: what feeding ahead, while a batch runs, could save."""
    generator = networks.build(network)
    images = np.zeros((_FED, *generator.output_shape[1:]), np.float32)
    latents = np.zeros((_FED, generator.input_shape[-1]), np.float32)

    def work():
        tf.constant(images).numpy().copy()
        tf.constant(latents).numpy().copy()
        return 1

    return work


def _problem(network, batch):
    """Returns a generator, images it drew, and latents to start from."""
    generator = networks.build(network)
    shape = batch, generator.input_shape[-1]
    truth, start = (tf.random.stateless_normal(shape, [seed, 0]) for seed in range(2))
    return generator, generator(truth, training=False), start


def _steps(batch):
    return max(_CALL_STEPS, _CALL_IMAGE_STEPS // batch)


def _exact(network, batch, dtype):
    """As a user calls it, with checks, starts and the copies to and from numpy."""
    generator, images, _ = _problem(network, batch)
    defense = DefenseGAN(generator, optimizer=projection.Adam(), restarts=1, dtype=dtype)
    steps = min(_STEPS, max(_CALL_STEPS, _PROJECT_IMAGE_STEPS // batch))
    low, high = defense.value_range
    images = tf.clip_by_value(images, low, high).numpy()

    def work():
        defense.project(images, steps=steps)
        return batch * steps

    return work


def _python_loop(network, batch, compiled):
    """One step a call, Keras's optimiser, a variable of latents: how one writes it first."""
    generator, images, start = _problem(network, batch)
    latents, adam, steps = tf.Variable(start), keras.optimizers.Adam(0.01), _steps(batch)
    adam.build([latents])

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(generator(latents, training=False) - images), axis=[1, 2, 3])
        adam.apply_gradients([(tape.gradient(loss, latents), latents)])
        return loss

    step = tf.function(step) if compiled else step

    def work():
        for _ in range(steps):
            loss = step()
        loss.numpy()
        return batch * steps

    return work


def _torch(network, batch, dtype, compiled):
    """Channels last, batch norm folded, gradients to the latents alone; `torch.compile` where asked for."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    generator, images, start = _problem(network, batch)
    draw, steps = networks.to_torch(generator, dtype), _steps(batch)
    target = torch.from_numpy(np.transpose(images.numpy(), (0, 3, 1, 2)).copy())
    latents = torch.from_numpy(start.numpy()).requires_grad_(True)
    difference = np.abs(draw(latents).detach().numpy() - np.transpose(generator(start).numpy(), (0, 3, 1, 2))).max()
    if difference > (1e-3 if dtype == "float32" else 0.2):
        raise RuntimeError(f"PyTorch's network differs from Keras's by {difference}.")
    adam = torch.optim.Adam([latents], 0.01)

    def explain(latents):
        return (draw(latents) - target).square().mean(dim=(1, 2, 3)).sum()

    explain = torch.compile(explain) if compiled else explain

    def work():
        for _ in range(steps):
            adam.zero_grad(set_to_none=True)
            explain(latents).backward()
            adam.step()
        return batch * steps

    try:
        work()
    except RuntimeError as error:  # torch.compile needs a C++ compiler
        raise ImportError(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    return work


def _product(dtype, flop):
    """The best of square and tall matrix products; counted in image-steps."""

    def rate(a, b):
        began = time.perf_counter()
        for _ in range(3):
            tf.linalg.matmul(a, b)[0, 0].numpy()
        return 3 / (time.perf_counter() - began) * a.shape[0] * a.shape[1] * b.shape[1]

    def pair(rows, side):
        normal = tf.random.stateless_normal
        return tf.cast(normal((rows, side), [0, 0]), dtype), tf.cast(normal((side, side), [1, 0]), dtype)

    pairs = [pair(rows, side) for side in _SIDES for rows in (side, 4096)]
    for a, b in pairs:
        rate(a, b)
    a, b = max(pairs, key=lambda given: rate(*given))

    def work():
        tf.linalg.matmul(a, b)[0, 0].numpy()
        return 2 * a.shape[0] * a.shape[1] * b.shape[1] / flop

    return work


if __name__ == "__main__":
    common_flags.run(main)
