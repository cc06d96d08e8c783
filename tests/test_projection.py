"""Eq. 6: its gradient, its optimisers, and what its answer may depend on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import data, models, projection
from invgan_tf.defenses import DefenseGAN, InvGAN

WIDTH = 8


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(3)
    return models.build_generator(width=WIDTH), models.build_inverter(width=WIDTH)


@pytest.fixture(scope="module")
def images():
    return data.load("mnist", "test", limit=64).images


def test_gradient_of_the_loss_equals_finite_differences():
    keras.utils.set_random_seed(5)
    generator = models.build_generator(width=4, latent_dim=6, dtype="float64")
    # The input and the last activation are float32 by design; a float64 twin makes the differences exact.
    outputs = inputs = keras.Input((6,), dtype="float64")
    for layer in generator.layers[1:-1]:
        outputs = layer(outputs)
    inner = keras.Model(inputs, keras.ops.sigmoid(outputs))
    rng = np.random.default_rng(0)
    latents, targets = rng.standard_normal((3, 6)), rng.random((3, 28, 28, 1))

    def losses(z):
        return projection.explain(inner, tf.constant(z), tf.constant(targets))[1].numpy()

    z = tf.constant(latents)
    with tf.GradientTape() as tape:
        tape.watch(z)
        total = tf.reduce_sum(projection.explain(inner, z, tf.constant(targets))[1])
    gradient = tape.gradient(total, z).numpy()
    step = 1e-6
    for image, coordinate in [(0, 0), (1, 3), (2, 5)]:
        offset = np.zeros_like(latents)
        offset[image, coordinate] = step
        difference = (losses(latents + offset) - losses(latents - offset)) / (2 * step)
        assert difference[image] == pytest.approx(gradient[image, coordinate], rel=1e-5)
        assert np.delete(difference, image) == pytest.approx(0.0, abs=1e-12)


def test_loss_is_the_mean_over_pixels():
    generator = keras.Sequential([keras.Input((4,)), keras.layers.Reshape((2, 2, 1))])
    images, loss = projection.explain(generator, tf.constant([[0.0, 1.0, 2.0, 3.0]]), tf.zeros((1, 2, 2, 1)))
    assert images.shape == (1, 2, 2, 1)
    assert loss.numpy() == pytest.approx([(0 + 1 + 4 + 9) / 4])


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (projection.GradientDescent(0.1), keras.optimizers.SGD(0.1)),
        (projection.Momentum(0.1, 0.7), keras.optimizers.SGD(0.1, momentum=0.7)),
        (projection.Adam(0.01), keras.optimizers.Adam(0.01, epsilon=1e-10)),
    ],
)
def test_optimizers_follow_keras(rule, reference):
    scale = tf.constant([1.0, 5.0, 0.3])
    mine, theirs = tf.constant([1.0, -2.0, 3.0]), tf.Variable([1.0, -2.0, 3.0])
    slots = rule.slots(mine)
    for step in range(20):
        offset, slots = rule.update(scale * mine, slots, tf.constant(step))
        mine = mine + offset
        reference.apply([scale * theirs], [theirs])
    np.testing.assert_allclose(mine, theirs, rtol=2e-4)


def test_zero_steps_is_the_generator_of_the_inverter(networks, images):
    generator, inverter = networks
    result = InvGAN(generator, inverter).project(images[:3], steps=0)
    expected = generator(inverter(images[:3]))
    np.testing.assert_allclose(result.images, expected, atol=1e-6)
    np.testing.assert_allclose(result.loss, np.mean((expected - images[:3]) ** 2, axis=(1, 2, 3)), rtol=1e-5)
    assert result.steps.tolist() == [0, 0, 0]


def _without_kinks(generator):
    """The generator with softplus for ReLU: where a ReLU's input is within rounding of zero, its gradient jumps."""

    def cloned(layer):
        if isinstance(layer, keras.layers.ReLU):
            return keras.layers.Activation("softplus", name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    smooth = keras.models.clone_model(generator, clone_function=cloned)
    smooth.set_weights(generator.get_weights())
    return smooth


@pytest.mark.parametrize("kind", ["invgan", "gradient_descent", "defensegan"])
def test_answer_does_not_depend_on_the_batch(networks, images, kind):
    generator, inverter = _without_kinks(networks[0]), networks[1]
    defense = {
        "invgan": lambda: InvGAN(generator, inverter),
        "gradient_descent": lambda: InvGAN(generator, inverter, optimizer=projection.GradientDescent()),
        "defensegan": lambda: DefenseGAN(generator, restarts=2),
    }[kind]()

    def by_batches(size, steps):
        parts = [
            defense.project(images[first : first + size], steps=steps, indices=np.arange(64)[first : first + size])
            for first in range(0, 64, size)
        ]
        return np.concatenate([part.latents for part in parts]), np.concatenate([part.loss for part in parts])

    whole, _ = by_batches(64, 10)
    for size in (1, 7):
        np.testing.assert_allclose(by_batches(size, 10)[0], whole, atol=1e-4)
    _, whole = by_batches(64, 60)
    np.testing.assert_allclose(by_batches(7, 60)[1], whole, rtol=0.02)


def test_descent_lowers_every_loss(networks, images):
    defense = InvGAN(*networks)
    start = defense.project(images[:8], steps=0).loss
    assert np.all(defense.project(images[:8], steps=50).loss < start)


def test_the_best_restart_is_kept(networks, images):
    defense = DefenseGAN(networks[0], steps=20, restarts=4)
    starts = defense.starts(tf.constant(images[:5]), tf.range(5, dtype=tf.int64), 4, 9)
    projector = projection.ExactProjector(networks[0], defense.optimizer)
    single = [projector(tf.constant(images[:5]), starts[:, r : r + 1], 20)[2].numpy() for r in range(4)]
    kept = defense.project(images[:5], seed=9)
    np.testing.assert_allclose(kept.loss, np.min(single, axis=0), rtol=1e-3)


@pytest.mark.parametrize("lanes", [8, 256])
def test_a_trajectory_passes_where_projections_end(networks, images, lanes):
    defense = DefenseGAN(networks[0], restarts=3)
    defense.projectors["exact"].lanes = lanes
    indices = np.arange(5) + 40
    path = defense.trajectory(images[:5], [0, 4, 9], seed=2, indices=indices)
    assert path.latents.shape == (3, 5, 3, 128) and path.loss.shape == (3, 5, 3)
    for mark, steps in enumerate([0, 4, 9]):
        end = defense.project(images[:5], steps=steps, seed=2, indices=indices)
        np.testing.assert_allclose(path.loss[mark].min(axis=1), end.loss, rtol=1e-4)
        best = path.loss[mark].argmin(axis=1)
        np.testing.assert_allclose(path.latents[mark, np.arange(5), best], end.latents, atol=1e-4)


@pytest.mark.parametrize("steps", [[], [3, 3], [5, 2], [-1, 2]])
def test_a_trajectorys_steps_must_rise(networks, images, steps):
    with pytest.raises(ValueError, match="steps must be"):
        InvGAN(*networks).trajectory(images[:1], steps)


def test_starts_depend_on_seed_and_index_alone(networks, images):
    defense = DefenseGAN(networks[0], restarts=3)
    alone = defense.starts(tf.constant(images[:1]), tf.constant([7], tf.int64), 3, 1)
    among = defense.starts(tf.constant(images[:2]), tf.constant([2, 7], tf.int64), 3, 1)
    np.testing.assert_array_equal(alone[0], among[1])
    assert not np.allclose(alone[0], defense.starts(tf.constant(images[:1]), tf.constant([7], tf.int64), 3, 2)[0])
    assert not np.allclose(among[0], among[1])


def test_other_sizes_and_steps_need_no_new_trace(networks, images):
    defense = InvGAN(*networks)
    for count, steps in [(3, 1), (5, 2), (8, 4), (11, 3), (2, 7)]:
        defense.project(images[:count], steps=steps)
    assert defense.projectors["exact"]._advance.experimental_get_tracing_count() <= 2


def test_arguments_stay_as_they_are(networks, images):
    before = images[:4].copy()
    InvGAN(*networks).project(images[:4], steps=3)
    np.testing.assert_array_equal(images[:4], before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 28, 28), np.float32)}, r"shape \[n, 28, 28, 1\], got \[2, 28, 28\]"),
        ({"images": np.zeros((0, 28, 28, 1), np.float32)}, "at least one image"),
        ({"images": np.zeros((2, 28, 28, 1), np.uint8)}, "dtype uint8"),
        ({"images": np.full((2, 28, 28, 1), np.nan, np.float32)}, "NaN"),
        ({"images": np.full((2, 28, 28, 1), 255.0, np.float32)}, "values from 255 to 255"),
        ({"steps": -1}, "steps must be an integer of at least 0"),
        ({"steps": 2.5}, "steps must be an integer"),
        ({"restarts": 2}, "restarts must be 1"),
        ({"projector": "quick"}, "Unknown projector 'quick'"),
        ({"indices": [1]}, "Expected 2 integer indices"),
    ],
)
def test_bad_arguments_are_named(networks, change, message):
    arguments = {"images": np.zeros((2, 28, 28, 1), np.float32), "steps": 1} | change
    with pytest.raises(ValueError, match=message):
        InvGAN(*networks).project(arguments.pop("images"), **arguments)


def test_the_exact_loop_equals_the_unoptimised_one(images):
    """Folded and compiled against Keras's own model, one eager step after another."""
    defense = InvGAN.from_preset("mnist")
    generator, targets = defense.generator, tf.constant(images[:8])
    starts = defense.inverter(targets, training=False)
    folded = tf.function(lambda z: projection.slope(defense.draw, z, targets)[1])
    latents, adam = starts, projection.Adam(0.01)
    slots = adam.slots(latents)
    for step in range(100):
        with tf.GradientTape() as tape:
            tape.watch(latents)
            loss = tf.reduce_mean(tf.square(generator(latents, training=False) - targets), axis=[1, 2, 3])
            total = tf.reduce_sum(loss)
        gradient = tape.gradient(total, latents)
        if step == 0:
            np.testing.assert_allclose(folded(starts), gradient, atol=1e-5)
        offset, slots = adam.update(gradient, slots, tf.constant(step))
        latents = latents + offset
        if step == 9:
            np.testing.assert_allclose(defense.project(images[:8], steps=10).latents, latents, atol=1e-4)
    final = projection.explain(generator, latents, targets)[1]
    np.testing.assert_allclose(defense.project(images[:8], steps=100).loss, final, rtol=0.01)
