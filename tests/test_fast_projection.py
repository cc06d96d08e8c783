"""The fast projector: a minimum it must find, restarts it must keep, and that nothing leaks between images."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import optimize

from benchmarks import gauss_newton
from invgan_tf import data, fast_projection, folding, models, presets, projection
from invgan_tf.attacks import bpda
from invgan_tf.defenses import Defended, DefenseGAN, InvGAN
from invgan_tf.evaluation import accuracy


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(3)
    return models.build_generator(width=8), models.build_inverter(width=8)


@pytest.fixture(scope="module")
def images():
    return data.load("mnist", "test", limit=16).images


def _linear():
    """A generator whose Eq. 6 is a least-squares problem of very unequal curvatures."""
    generator = keras.Sequential([keras.Input((6,)), layers.Dense(16), layers.Reshape((4, 4, 1))])
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.standard_normal((16, 6)))[0].T
    generator.layers[0].kernel.assign(np.geomspace(1, 30, 6)[:, None] * orthogonal)
    return generator


def test_gauss_newton_solves_a_quadratic_as_its_damping_shrinks():
    """So what benchmarks.optimizers tells of it is not a fault's doing."""
    generator, steps = _linear(), 8
    targets = np.random.default_rng(1).standard_normal((5, 4, 4, 1)).astype(np.float32)
    kernel = generator.layers[0].kernel.numpy()
    expected = np.linalg.lstsq(kernel.T, targets.reshape(5, 16).T, rcond=None)[0].T
    projector = gauss_newton.GaussNewton(generator, products=6)
    _, latents = projector.descend(tf.constant(targets), tf.zeros((5, 1, 6)), steps * projector.cost)
    np.testing.assert_allclose(latents, expected, rtol=0.01, atol=1e-3)


def test_a_quadratic_is_solved():
    generator = _linear()
    targets = np.random.default_rng(1).standard_normal((5, 4, 4, 1)).astype(np.float32)
    kernel = generator.layers[0].kernel.numpy()
    expected = np.linalg.lstsq(kernel.T, targets.reshape(5, 16).T, rcond=None)[0].T
    starts = tf.random.stateless_normal((5, 1, 6), [4, 4])
    projector = fast_projection.FastProjector(generator, [fast_projection.Stage(60)], memory=6)
    _, latents, loss, steps = projector(tf.constant(targets), starts)
    np.testing.assert_allclose(latents, expected, atol=2e-3)
    np.testing.assert_allclose(loss, np.mean((expected @ kernel - targets.reshape(5, 16)) ** 2, axis=1), rtol=1e-4)
    assert steps == 60


def test_it_keeps_up_with_scipy(networks, images):
    """Of equal evaluations, from equal starts: the median loss is no worse than SciPy's L-BFGS-B's by 10 %."""
    generator, inverter = networks
    result = InvGAN(generator, inverter).project(images[:8], projector="fast", steps=60)
    draw = tf.function(lambda z, x: projection.slope(folding.fold(generator), z, x))

    def fun(z, image):
        loss, gradient = draw(tf.constant(z[None], tf.float32), image[None])
        return float(loss[0]), gradient[0].numpy().astype(np.float64)

    starts = inverter(images[:8], training=False).numpy()
    theirs = [
        optimize.minimize(
            fun, start, (image,), jac=True, method="L-BFGS-B", options={"maxfun": 60, "maxcor": 20, "maxiter": 60}
        ).fun
        for start, image in zip(starts, images)
    ]
    assert np.median(result.loss / theirs) < 1.1


def test_accepted_losses_never_rise(images):
    generator, inverter = (presets.load("mnist", part) for part in ("generator", "inverter"))
    draw, targets = folding.fold(generator), tf.constant(images)
    search, losses = fast_projection.begin(inverter(images, training=False), 5), []
    step = tf.function(lambda search: fast_projection.evaluate(draw, targets, search))
    for _ in range(40):
        search = step(search)
        losses.append(search.loss.numpy())
        np.testing.assert_allclose(search.loss[:, 0], projection.explain(draw, search.point, targets)[1], rtol=1e-4)
    assert np.all(np.diff(losses, axis=0) <= 0) and np.all(losses[-1] < 0.8 * losses[0])


def test_a_trial_that_is_worse_is_shortened_not_taken():
    draw, targets = folding.fold(_linear()), tf.zeros((3, 4, 4, 1))
    search = fast_projection.evaluate(draw, targets, fast_projection.begin(tf.ones((3, 6)), 5))
    far = search._replace(direction=search.direction * 1e3)  # overshoots by far
    after = fast_projection.evaluate(draw, targets, far)
    np.testing.assert_array_equal(after.point, far.point)
    np.testing.assert_array_equal(after.loss, far.loss)
    assert np.all((after.length.numpy() >= 0.1) & (after.length.numpy() <= 0.5))


def test_slack_takes_a_rise_that_rounding_may_have_made_and_no_more():
    draw, targets = folding.fold(_linear()), tf.zeros((1, 4, 4, 1))
    search = fast_projection.evaluate(draw, targets, fast_projection.begin(tf.ones((1, 6)), 5))
    along = tf.reduce_sum(search.gradient * search.direction)
    curvature = 2.0 * projection.explain(draw, search.direction, targets)[1]
    # On a parabola a step of this length comes back to a loss 0.5 % above the first, past Armijo's allowance.
    length = (-along + tf.sqrt(along**2 + 2.0 * curvature * 0.005 * search.loss[:, 0])) / curvature
    trial = search._replace(length=length[:, None])
    for slack, moves in [(0.0, False), (0.001, False), (0.01, True)]:
        after = fast_projection.evaluate(draw, targets, trial, slack)
        assert bool(tf.reduce_any(after.point != trial.point)) == moves
        np.testing.assert_allclose(after.loss, trial.loss * (1.005 if moves else 1.0), rtol=1e-4)


@pytest.mark.parametrize("kind", ["invgan", "defensegan"])
def test_answer_does_not_depend_on_the_batch(networks, images, kind):
    defense = InvGAN(*networks) if kind == "invgan" else DefenseGAN(networks[0], restarts=4)
    whole = defense.project(images, projector="fast", steps=12, seed=3)
    parts = [
        defense.project(images[i : i + 5], projector="fast", steps=12, seed=3, indices=np.arange(16)[i : i + 5])
        for i in range(0, 16, 5)
    ]
    np.testing.assert_allclose(np.concatenate([part.loss for part in parts]), whole.loss, rtol=0.02)


def test_the_best_restart_survives_the_halving(networks, images):
    stages = [fast_projection.Stage(15), fast_projection.Stage(1, 0.25)]
    halved = fast_projection.FastProjector(networks[0], stages)
    alone = fast_projection.FastProjector(networks[0], [fast_projection.Stage(16)])
    targets = tf.constant(images[:6])
    starts = DefenseGAN(networks[0]).starts(targets, tf.range(6, dtype=tf.int64), 4, 9)
    single = [alone(targets, starts[:, r : r + 1])[2].numpy() for r in range(4)]
    np.testing.assert_allclose(halved(targets, starts)[2], np.min(single, axis=0), rtol=0.02)
    assert halved.image_steps(4) == 15 * 4 + 1


def test_scouting_is_the_rule_itself(networks, images):
    """Stages that scout make the exact loop's steps; the restart whose loss came out lowest goes on."""
    rule, targets = projection.Momentum(), tf.constant(images[:6])
    starts = DefenseGAN(networks[0]).starts(targets, tf.range(6, dtype=tf.int64), 4, 9)
    scouts = [fast_projection.Stage(7, scouting=True), fast_projection.Stage(5, scouting=True)]
    scouted = fast_projection.FastProjector(networks[0], scouts, rule).descend(targets, starts)[1]
    exact = projection.ExactProjector(networks[0], rule)
    np.testing.assert_allclose(scouted, exact.descend(targets, starts, 12)[1], rtol=1e-3, atol=1e-4)
    halving = [scouts[0], fast_projection.Stage(5, 0.25, scouting=True)]
    kept = fast_projection.FastProjector(networks[0], halving, rule).descend(targets, starts)[1]
    seen = projection.explain(networks[0], exact.descend(targets, starts, 6)[1], tf.repeat(targets, 4, axis=0))[1]
    best = tf.argmin(tf.reshape(seen, (6, 4)), axis=1)
    expected = tf.gather(tf.reshape(scouted, (6, 4, -1)), best, batch_dims=1)
    np.testing.assert_allclose(kept, expected, rtol=1e-3, atol=1e-4)


def test_a_search_that_scouts_first_ends_with_l_bfgs(networks, images):
    stages = [fast_projection.Stage(10, scouting=True), fast_projection.Stage(20, 0.5)]
    projector = fast_projection.FastProjector(networks[0], stages, projection.Momentum())
    targets = tf.constant(images[:6])
    starts = DefenseGAN(networks[0]).starts(targets, tf.range(6, dtype=tf.int64), 4, 9)
    both, scouting = projector(targets, starts), projector(targets, starts, 10)
    assert np.all(both[2] < scouting[2]) and both[3] == 30 and scouting[3] == 10


def test_steps_cut_the_plan_short_or_go_on_in_its_last_stage(networks):
    stages = (fast_projection.Stage(8), fast_projection.Stage(4, 0.5), fast_projection.Stage(3, precise=True))
    projector = fast_projection.FastProjector(networks[0], stages)
    assert [stage.steps for stage in projector.plan(10)] == [8, 2]
    assert [stage.steps for stage in projector.plan(None)] == [8, 4, 3]
    assert [stage.steps for stage in projector.plan(20)] == [8, 4, 8]
    assert projector.plan(0) == []


def test_other_sizes_and_steps_need_no_new_trace(networks, images):
    defense = DefenseGAN(networks[0], restarts=4)
    for count, steps in [(3, 1), (5, 9), (8, 12), (11, 20), (2, 30)]:
        defense.project(images[:count], projector="fast", steps=steps)
    assert defense.projectors["fast"]._advance.experimental_get_tracing_count() <= 4  # two a precision


def test_it_beats_the_exact_loop_at_equal_cost(images):
    defense = InvGAN.from_preset("mnist")
    fast, exact = (defense.project(images[:8], projector=name, steps=60).loss for name in ("fast", "exact"))
    assert fast.mean() < 0.8 * exact.mean()


def test_bfloat16_first_float32_to_finish(images):
    losses = [
        InvGAN.from_preset("mnist", dtype=dtype).project(images[:8], projector="fast").loss.mean()
        for dtype in ("float32", "bfloat16")
    ]
    assert losses[1] != losses[0] and losses[1] < 1.1 * losses[0]


@pytest.mark.parametrize("kind", ["invgan", "defensegan"])
def test_a_defended_model_projects_as_asked(networks, images, kind):
    defense = InvGAN(*networks) if kind == "invgan" else DefenseGAN(networks[0], restarts=3)
    model = Defended(models.build_classifier("A"), defense, projector="fast", steps=70, seed=5)
    expected = defense.project(images[:3], projector="fast", steps=70, seed=5)
    np.testing.assert_allclose(model(images[:3]), accuracy.outputs(model.classifier, expected.images), atol=0.02)
    np.testing.assert_allclose(
        model.predict(images[:3]), accuracy.outputs(model.classifier, expected.images), atol=1e-4
    )
    if kind == "invgan":  # DefenseGAN's kept restart is the exact one's own path
        exact = Defended(model.classifier, defense, steps=70, seed=5).project(images[:3])
        assert not np.allclose(exact.latents, expected.latents, atol=1e-2)


def test_bpda_holds_against_the_projector_that_is_attacked(images):
    """What BPDA calls fooled fools the fast defence under seeds it never saw, mostly."""
    examples = data.load("mnist", "test", limit=3)
    model = Defended(presets.load_classifier("mnist", "A"), InvGAN.from_preset("mnist", steps=60), projector="fast")
    attacked = bpda(model, examples.images, labels=examples.labels, binary_search_steps=2, max_iterations=60, seed=1)
    changed = np.any(attacked != examples.images, axis=(1, 2, 3))
    fooled = model.predict(attacked).argmax(axis=1) != examples.labels
    assert fooled.sum() >= 2 and not np.any(fooled & ~changed)
