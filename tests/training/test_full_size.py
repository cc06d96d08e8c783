"""The SN-ResNets at the paper's size: seconds of a step; and at half its width: that they train. All slow."""

import time

import numpy as np
import pytest
import tensorflow as tf

from experiments import recipes
from invgan_tf import data, defenses, models
from invgan_tf.models import sn_resnet
from invgan_tf.training import gan, inverter, loop
from tests.experiments import colour

pytestmark = pytest.mark.slow


def _networks(dataset, *parts, width=64):
    shape = data.spec(dataset).image_shape
    return [models.build(part, shape, family="sn_resnet", width=width) for part in parts]


def _gan(dataset, batch_size=None, width=64):
    recipe = recipes.recipe(dataset, "sn_resnet")
    return gan.GANTrainer(
        *_networks(dataset, "generator", "discriminator", width=width),
        batch_size=batch_size or recipe.gan_batch_size,
        seed=1,
        generator_learning_rate=recipe.generator_learning_rate,
        discriminator_learning_rate=recipe.discriminator_learning_rate,
        discriminator_steps=recipe.discriminator_steps,
        value_range=(-1.0, 1.0),
    )


def _noise(dataset, count):
    return tf.random.stateless_uniform((count, *data.spec(dataset).image_shape), (0, 1), -1.0, 1.0)


def _seconds(title, run):
    """Prints what a second call takes: the first one compiles."""
    run()
    began = time.perf_counter()
    answer = run()
    print(f"\n{title}: {time.perf_counter() - began:.2f} s")
    return answer


@pytest.mark.parametrize("dataset", ["cifar10", "celeb_a"])
def test_one_step_of_everything_at_full_size(dataset):
    recipe = recipes.recipe(dataset, "sn_resnet")
    trainer = _gan(dataset)
    batch = _noise(dataset, recipe.gan_batch_size * recipe.discriminator_steps), None
    step = tf.function(lambda number: trainer.train_step(number, batch))
    values = _seconds(
        f"{dataset}: a GAN step of {recipe.gan_batch_size} latents", lambda: step(tf.constant(0, tf.int64))
    )
    assert all(np.isfinite(value) for value in values.values())

    generator = trainer.models["generator"]
    inverting = inverter.InverterTrainer(
        generator, *_networks(dataset, "inverter", "discriminator"), batch_size=recipe.inverter_batch_size
    )
    step = tf.function(lambda number: inverting.train_step(number, None))
    values = _seconds(
        f"{dataset}: an inverter step of {recipe.inverter_batch_size} latents", lambda: step(tf.constant(0, tf.int64))
    )
    assert all(np.isfinite(value) for value in values.values())

    defense = defenses.InvGAN(generator, inverting.models["inverter"], value_range=(-1.0, 1.0))
    images = _noise(dataset, 8).numpy()
    at_once = defense.project(images, steps=0)
    projected = _seconds(f"{dataset}: a projection of 8 images, 1 step", lambda: defense.project(images, steps=1))
    assert projected.images.shape == images.shape and np.isfinite(projected.loss).all()
    moved = projected.latents - at_once.latents
    assert 0.0 < np.abs(moved).max() <= 0.0101  # Adam's first step is its rate


@pytest.mark.parametrize(("dataset", "batch_size"), [("cifar10", 16), ("celeb_a", 4)])
def test_half_the_papers_width_trains_500_steps(dataset, batch_size, tmp_path, monkeypatch):
    if dataset == "celeb_a":
        folder = colour.write_faces(tmp_path / "faces", (60, 2, 2))
        examples = data.load("celeb_a", "train", data_dir=folder)
    else:
        examples = data.load("cifar10", "test", limit=1000)  # what the package has; nothing is measured on them
    images = np.rint((examples.images + 1.0) * 127.5).astype(np.uint8)
    monkeypatch.setattr(data, "_read", lambda *args: (images, examples.labels))
    trainer = _gan(dataset, batch_size, width=32)
    taken = batch_size * trainer.discriminator_steps
    progress = loop.train(
        trainer,
        steps=500,
        output_dir=tmp_path / "run",
        batches=lambda start: data.stream(dataset, "train", batch_size=taken, seed=1, start=start),
    )
    states = list(progress)
    assert states[-1].step == 500
    assert all(np.isfinite(value) for state in states for value in state.metrics.values())
    samples = trainer.images()["samples"].numpy()
    across = samples.std(axis=0).mean()  # between samples, at a place
    within = samples.std(axis=(1, 2)).mean()  # between places of a sample
    print(f"\n{dataset}: standard deviation between samples {across:.3f}, within one {within:.3f}")
    assert across > 0.02 and within > 0.02
    untrained = sn_resnet.build_generator(data.spec(dataset).image_shape, width=32)
    drawn = (untrained(loop.latents(1, tf.constant(0, tf.int64), -1, (100, 128)), training=False) + 1.0) / 2.0
    real = (examples.images + 1.0) / 2.0
    closer = [
        np.abs(found.mean(axis=(0, 1, 2)) - real.mean(axis=(0, 1, 2))).sum() for found in (samples, drawn.numpy())
    ]
    print(f"{dataset}: mean colour is {closer[0]:.3f} from the data's, an untrained generator's {closer[1]:.3f}")
