"""The exact loop of Eq. 6 against what a user would write: `python -m benchmarks.projection --network=mnist`."""

import os
import time

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import networks, rounds
from experiments import common_flags
from invgan_tf import projection

flags.DEFINE_string("network", "mnist", "Preset, or random:HEIGHTxWIDTHxCHANNELS for an untrained generator.")
flags.DEFINE_list("batches", ["1", "16", "64", "256", "1024"], "Images a loop works on.")

FLAGS = flags.FLAGS

_CALL_IMAGE_STEPS = 512  # about a fifth of a second's work in one call of a peer
_SIDES = (256, 512, 1024, 2048)


def main() -> None:
    """Prints image-steps a second of every peer at every batch, and the matrix product's rate beside them."""
    flop = networks.image_step_flop(networks.build(FLAGS.network, "float32"))
    rates = {}
    for batch in map(int, FLAGS.batches):
        peers = [
            rounds.Peer("exact, float32", _exact, (FLAGS.network, batch, "float32")),
            rounds.Peer("exact, bfloat16", _exact, (FLAGS.network, batch, "bfloat16")),
            rounds.Peer("a tf.function called every step", _python_loop, (FLAGS.network, batch, True)),
            rounds.Peer("eager", _python_loop, (FLAGS.network, batch, False)),
            rounds.Peer("PyTorch, float32", _torch, (FLAGS.network, batch, "float32")),
            rounds.Peer("PyTorch, bfloat16", _torch, (FLAGS.network, batch, "bfloat16")),
            rounds.Peer("matrix product, float32", _product, ("float32", flop)),
            rounds.Peer("matrix product, bfloat16", _product, ("bfloat16", flop)),
        ]
        rates[f"batch {batch}"] = rounds.compare(peers, f"batch {batch}")
    print(f"{FLAGS.network}: {flop / 1e6:.1f} MFLOP an image-step; a matrix product is counted in those.\n")
    settings = {"network": FLAGS.network, "flop": flop, "rounds": FLAGS.rounds, "seconds": FLAGS.seconds}
    rounds.tell("projection", "image-steps a second", rates, settings)


def _problem(network, batch, dtype):
    """Returns a generator, images it drew, and latents to start from."""
    generator = networks.build(network, dtype)
    shape = batch, generator.input_shape[-1]
    truth, start = (tf.random.stateless_normal(shape, [seed, 0]) for seed in range(2))
    return generator, generator(truth, training=False), start


def _steps(batch):
    return max(2, _CALL_IMAGE_STEPS // batch)


def _exact(network, batch, dtype):
    generator, images, start = _problem(network, batch, dtype)
    run, steps = projection.ExactProjector(generator, projection.Adam()), _steps(batch)

    def work():
        run(images, start[:, None, :], steps)[2].numpy()
        return batch * steps

    return work


def _python_loop(network, batch, compiled):
    """One step a call, Keras's optimiser, a variable of latents: how one writes it first."""
    generator, images, start = _problem(network, batch, "float32")
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


def _torch(network, batch, dtype):
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    generator, images, start = _problem(network, batch, "float32")
    draw, steps = networks.to_torch(generator, dtype), _steps(batch)
    target = torch.from_numpy(np.transpose(images.numpy(), (0, 3, 1, 2)).copy())
    latents = torch.from_numpy(start.numpy()).requires_grad_(True)
    difference = np.abs(draw(latents).detach().numpy() - np.transpose(generator(start).numpy(), (0, 3, 1, 2))).max()
    if difference > (1e-3 if dtype == "float32" else 0.2):
        raise RuntimeError(f"PyTorch's network differs from Keras's by {difference}.")
    adam = torch.optim.Adam([latents], 0.01)

    def work():
        for _ in range(steps):
            adam.zero_grad(set_to_none=True)
            loss = (draw(latents) - target).square().mean(dim=(1, 2, 3)).sum()
            loss.backward()
            adam.step()
        return batch * steps

    return work


def _product(dtype, flop):
    """The best of square and tall matrix products; counted in image-steps."""

    @tf.function
    def product(a, b):
        return tf.linalg.matmul(a, b)

    def rate(a, b):
        began = time.perf_counter()
        for _ in range(3):
            product(a, b)[0, 0].numpy()
        return 3 / (time.perf_counter() - began) * a.shape[0] * a.shape[1] * b.shape[1]

    def pair(rows, side):
        normal = tf.random.stateless_normal
        return tf.cast(normal((rows, side), [0, 0]), dtype), tf.cast(normal((side, side), [1, 0]), dtype)

    pairs = [pair(rows, side) for side in _SIDES for rows in (side, 4096)]
    for a, b in pairs:
        rate(a, b)
    a, b = max(pairs, key=lambda given: rate(*given))

    def work():
        product(a, b)[0, 0].numpy()
        return 2 * a.shape[0] * a.shape[1] * b.shape[1] / flop

    return work


if __name__ == "__main__":
    common_flags.run(main)
