"""The loop and the three trainers, at small width."""

import fcntl
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from invgan_tf import data, files, losses, models
from invgan_tf.evaluation import accuracy
from invgan_tf.training import classifier, gan, inverter, loop

ROOT = pathlib.Path(__file__).parents[2]


def _step(number):
    return tf.constant(number, tf.int64)


def _twin(build, model):
    """A network of its own with the same weights."""
    twin = build()
    twin.set_weights(model.get_weights())
    return twin


def _equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second))


def _events(folder):
    """The scalars and image tags of a run: ({tag: [(step, value)]}, {tag: [steps]})."""
    accumulator = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    scalars, images = {}, {}
    for tag in accumulator.Tags()["tensors"]:
        events = accumulator.Tensors(tag)
        if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "images":
            images[tag] = [event.step for event in events]
        else:
            scalars[tag] = [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events]
    return scalars, images


# The draws.


def test_latents_depend_on_seed_step_and_role_alone():
    draw = loop.latents(5, _step(7), 1, (4, 8)).numpy()
    tf.random.set_seed(9)
    np.testing.assert_array_equal(loop.latents(5, _step(7), 1, (4, 8)), draw)
    compiled = tf.function(lambda step: loop.latents(5, step, 1, (4, 8)))
    np.testing.assert_array_equal(compiled(_step(7)), draw)
    for seed, step, role in ((6, 7, 1), (5, 8, 1), (5, 7, 2), (5, 7, -1), (1, 7, 5), (7, 5, 1)):
        assert not np.intersect1d(loop.latents(seed, _step(step), role, (4, 8)), draw).size


def test_latents_are_standard_normal():
    draw = loop.latents(0, _step(0), 0, (500, 128)).numpy()
    assert draw.mean() == pytest.approx(0.0, abs=0.02)
    assert draw.std() == pytest.approx(1.0, abs=0.02)


# The loop, around a step that only counts.


class _Counting(loop.Trainer):
    metrics = ("value",)

    def __init__(self, bad_step=-1):
        self.models = {"counter": keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])}
        self.models["counter"].set_weights([np.zeros((1, 1))])
        self.optimizers = {}
        self.bad_step = bad_step

    @property
    def count(self):
        return float(self.models["counter"].get_weights()[0][0, 0])

    def train_step(self, step, batch):
        self.models["counter"].weights[0].assign_add([[1.0]])
        return {"value": tf.where(step == self.bad_step, np.nan, tf.cast(step, tf.float32))}

    def images(self):
        return {"pictures": tf.fill((23, 4, 4, 1), 0.5)}

    def scalars(self):
        return {"dear": self.count}


def _train(trainer, folder, steps=11, **arguments):
    return list(loop.train(trainer, steps=steps, output_dir=folder, **{"chunk": 5, "checkpoint_every": 4, **arguments}))


def test_chunks_end_at_every_boundary_and_average_their_steps(tmp_path):
    trainer = _Counting()
    progress = _train(trainer, tmp_path)
    steps = [state.step for state in progress]
    assert steps == [0, 4, 5, 8, 10, 11]
    assert progress[0].metrics == {}
    for start, state in zip(steps, progress[1:]):
        assert state.metrics == {"value": pytest.approx(np.mean(range(start, state.step)))}
    assert trainer.count == 11


def test_last_three_checkpoints_are_kept(tmp_path):
    _train(_Counting(), tmp_path, steps=18)
    saved = {int(path.name.split("-")[1]) for path in (tmp_path / "checkpoints").glob("ckpt-*")}
    assert saved == {12, 16, 18}


def test_weights_are_exported_at_the_end_and_at_snapshots(tmp_path):
    _train(_Counting(), tmp_path, snapshot_every=3)
    weights = {
        path.relative_to(tmp_path).as_posix(): next(iter(safetensors.numpy.load_file(path).values())).item()
        for path in tmp_path.rglob("*.safetensors")
    }
    assert weights == {
        "snapshots/000003/counter.safetensors": 3,
        "snapshots/000006/counter.safetensors": 6,
        "snapshots/000009/counter.safetensors": 9,
        "counter.safetensors": 11,
    }


@pytest.mark.parametrize(("closed", "steps"), [(False, [8, 10, 11]), (True, [10, 11])], ids=["killed", "closed"])
def test_run_goes_on_from_its_newest_checkpoint(tmp_path, closed, steps):
    progress = loop.train(_Counting(), steps=11, output_dir=tmp_path, chunk=5, checkpoint_every=4)
    while next(progress).step < 10:
        pass
    if closed:  # saves where it stands; one that is killed has the last checkpoint
        progress.close()
    assert not list(tmp_path.glob("*.safetensors"))
    resumed = _Counting()
    assert [state.step for state in _train(resumed, tmp_path)] == steps
    assert resumed.count == 11


def test_finished_run_makes_no_step(tmp_path):
    _train(_Counting(), tmp_path)
    (tmp_path / "counter.safetensors").unlink()
    again = _Counting()
    assert [state.step for state in _train(again, tmp_path)] == [11]
    assert again.count == 11
    assert (tmp_path / "counter.safetensors").is_file()


def test_longer_run_extends_a_finished_one(tmp_path):
    _train(_Counting(), tmp_path)
    longer = _Counting()
    _train(longer, tmp_path, steps=13)
    assert longer.count == 13


def test_metric_that_is_not_finite_is_named_and_nothing_is_saved_after_it(tmp_path):
    with pytest.raises(FloatingPointError, match="value was not finite at step 9;"):
        _train(_Counting(bad_step=9), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
    saved = {int(path.name.split("-")[1]) for path in (tmp_path / "checkpoints").glob("ckpt-*")}
    assert saved == {4, 8}
    mended = _Counting()
    assert [state.step for state in _train(mended, tmp_path)] == [8, 10, 11]


class _Exploding(_Counting):
    """Step 7 spoils the weights; the metrics show it from step 8 on."""

    def train_step(self, step, batch):
        values = super().train_step(step, batch)
        (weight,) = self.models["counter"].weights
        weight.assign(tf.where(step == 7, np.nan, weight.value))
        return {"value": values["value"] + tf.where(step > 7, tf.reduce_sum(weight.value), 0.0)}


def test_weights_that_are_not_finite_are_not_what_a_run_goes_on_from(tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"counter's sequential\w*/dense\w*/kernel was not finite after step 8"
    ):
        _train(_Exploding(), tmp_path)
    resumed = _Counting()
    _train(resumed, tmp_path, steps=9)
    assert resumed.count == 9


def test_a_metric_and_the_weight_behind_it_are_both_named(tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"value was not finite at step 8 \(counter's .*kernel is not finite\)"
    ):
        _train(_Exploding(), tmp_path, checkpoint_every=100, chunk=100)
    assert not list(tmp_path.rglob("ckpt-*")) and not list(tmp_path.rglob("*.safetensors"))


def test_a_second_training_in_the_folder_is_refused(tmp_path):
    first = loop.train(_Counting(), steps=11, output_dir=tmp_path)
    next(first)
    other = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    first.close()
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(files.InUseError, match="is in use"):
        next(loop.train(_Counting(), steps=11, output_dir=tmp_path))
    os.close(other)


def test_checkpoint_of_another_network_is_refused(tmp_path):
    _train(_Counting(), tmp_path)
    other = _Counting()
    other.models = {"counter": keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, use_bias=False)])}
    with pytest.raises((ValueError, AssertionError)):
        _train(other, tmp_path, steps=12)


def test_events_hold_scalars_and_pictures(tmp_path):
    _train(_Counting(), tmp_path, summary_every=5)
    scalars, images = _events(tmp_path)
    assert dict(scalars["value"]) == {4: 1.5, 5: 4.0, 8: 6.0, 10: 8.5, 11: 10.0}
    assert dict(scalars["dear"]) == {5: 5.0, 10: 10.0, 11: 11.0}
    assert [step for step, _ in scalars["steps_per_second"]] == [4, 5, 8, 10, 11]
    assert all(rate > 0 for _, rate in scalars["steps_per_second"])
    assert images == {"pictures": [5, 10, 11]}


def test_grid_lays_images_out_in_rows():
    images = tf.reshape(tf.range(12 * 2 * 3, dtype=tf.float32), (12, 2, 3, 1))
    grid = loop._grid(images, columns=4)
    assert grid.shape == (1, 3 * 2, 4 * 3, 1)
    for index in range(12):
        row, column = divmod(index, 4)
        tile = grid[0, row * 2 : row * 2 + 2, column * 3 : column * 3 + 3]
        np.testing.assert_array_equal(tile, images[index])


# The GAN.


def _generator():
    return models.build_generator(width=4)


def _discriminator():
    return models.build_discriminator(width=4)


def _inverter():
    return models.build_inverter(width=4)


@pytest.fixture
def gan_trainer():
    return gan.GANTrainer(_generator(), _discriminator(), batch_size=6, seed=3)


def _adam_first_step(weights, gradients, learning_rate):
    """What Adam's first step makes of the weights: its two moments cancel but for epsilon."""
    smoothing = 1e-7 / np.sqrt(1 - 0.999)
    return [w - learning_rate * g / (np.abs(g) + smoothing) for w, g in zip(weights, map(np.asarray, gradients))]


def _assert_stepped(variables, before, gradients, learning_rate):
    for variable, expected in zip(variables, _adam_first_step(before, gradients, learning_rate)):
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=0.02 * learning_rate)


def _values(variables):
    return [variable.numpy() for variable in variables]


def test_gan_step_follows_the_hinge_losses(gan_trainer, digits):
    generator, discriminator = gan_trainer.models.values()
    old_generator, old_discriminator = _twin(_generator, generator), _twin(_discriminator, discriminator)
    with tf.GradientTape(persistent=True) as tape:
        fake = old_generator(loop.latents(3, _step(5), 0, (6, 128)), training=True)
        generator_loss = -tf.reduce_mean(old_discriminator(fake))
    generator_gradient = tape.gradient(generator_loss, old_generator.trainable_variables)

    before = _values(generator.trainable_variables), _values(discriminator.trainable_variables)
    values = gan_trainer.train_step(_step(5), (tf.constant(digits.images[:6]),))

    fake = generator(loop.latents(3, _step(5), 1, (6, 128)), training=True)
    with tf.GradientTape() as tape:
        real_logits, fake_logits = tf.split(old_discriminator(tf.concat([digits.images[:6], fake], 0)), 2)
        discriminator_loss = tf.reduce_mean(tf.nn.relu(1 - real_logits)) + tf.reduce_mean(tf.nn.relu(1 + fake_logits))
    discriminator_gradient = tape.gradient(discriminator_loss, old_discriminator.trainable_variables)

    expected = generator_loss, discriminator_loss, tf.reduce_mean(real_logits), tf.reduce_mean(fake_logits)
    assert set(values) == set(gan_trainer.metrics)
    for name, value in zip(("generator_loss", "discriminator_loss", "real_logit", "fake_logit"), expected):
        assert float(values[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    _assert_stepped(generator.trainable_variables, before[0], generator_gradient, 1e-4)
    _assert_stepped(discriminator.trainable_variables, before[1], discriminator_gradient, 4e-4)


def test_gan_step_changes_both_networks_and_the_moving_averages(gan_trainer, digits):
    generator, discriminator = gan_trainer.models.values()
    before = {weight.path: weight.numpy() for model in (generator, discriminator) for weight in model.weights}
    gan_trainer.train_step(_step(0), (tf.constant(digits.images[:6]),))
    after = {weight.path: weight.numpy() for model in (generator, discriminator) for weight in model.weights}
    unchanged = [path for path in before if np.array_equal(before[path], after[path])]
    # no gradient but rounding errors: a bias before batch norm, and the last one while no logit leaves the
    # hinge's slope; a vector of one entry cannot turn
    assert set(unchanged) <= {"dense/bias", "deconv1/bias", "deconv2/bias", "sn_dense/bias", "sn_dense/u"}
    assert not any("moving" in path for path in unchanged)


def _next_u(layer):
    matrix = np.reshape(layer.layer.kernel.numpy().astype(np.float64), (-1, layer.u.shape[0]))
    u = (matrix @ layer.u.numpy()) @ matrix
    return u / np.linalg.norm(u)


def test_singular_vectors_move_once_a_gan_step(gan_trainer, digits):
    layers = [layer for layer in gan_trainer.models["discriminator"].layers if hasattr(layer, "u")]
    expected = [_next_u(layer) for layer in layers]
    gan_trainer.train_step(_step(0), (tf.constant(digits.images[:6]),))
    assert len(layers) == 4
    for layer, u in zip(layers, expected):
        np.testing.assert_allclose(layer.u.numpy(), u, atol=1e-5)


def test_every_discriminator_step_has_its_own_images_and_latents(digits):
    generator, discriminator = _generator(), _discriminator()
    trainer = gan.GANTrainer(generator, discriminator, batch_size=4, seed=3, discriminator_steps=2)
    calls = []
    record = discriminator.call
    discriminator.call = lambda inputs, **kwargs: calls.append(np.asarray(inputs)) or record(inputs, **kwargs)
    trainer.train_step(_step(0), (tf.constant(digits.images[:8]),))
    assert int(trainer.optimizers["generator_optimizer"].iterations) == 1
    assert int(trainer.optimizers["discriminator_optimizer"].iterations) == 2
    _, first, second = calls
    np.testing.assert_array_equal(first[:4], digits.images[:4])
    np.testing.assert_array_equal(second[:4], digits.images[4:8])
    assert not np.allclose(first[4:], second[4:])


def test_learning_rates_and_moments_of_the_gan():
    trainer = gan.GANTrainer(_generator(), _discriminator())
    rates = [float(optimizer.learning_rate) for optimizer in trainer.optimizers.values()]
    assert rates == pytest.approx([1e-4, 4e-4])
    assert {(optimizer.beta_1, optimizer.beta_2) for optimizer in trainer.optimizers.values()} == {(0.5, 0.999)}


def test_gan_samples_are_pictures_of_the_generator():
    trainer = gan.GANTrainer(_generator(), _discriminator(), value_range=(-1.0, 1.0))
    pictures = trainer.images()["samples"]
    assert pictures.shape == (100, 28, 28, 1)
    assert float(tf.reduce_min(pictures)) >= 0.5  # a sigmoid seen as if it ran from -1 to 1
    np.testing.assert_array_equal(trainer.images()["samples"], pictures)


# The inverter.


@pytest.fixture
def no_data(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dataset was opened")

    for name in ("load", "stream", "_read"):
        monkeypatch.setattr(data, name, refuse)


def _inverter_trainer(**arguments):
    return inverter.InverterTrainer(
        _generator(), _inverter(), _discriminator(), **{"batch_size": 6, "seed": 3, **arguments}
    )


def test_inverter_trains_without_data_and_leaves_the_generator(no_data, tmp_path):
    trainer = _inverter_trainer()
    generator, networks = trainer.generator.get_weights(), [m.get_weights() for m in trainer.models.values()]
    _train(trainer, tmp_path, steps=4)
    assert _equal(trainer.generator.get_weights(), generator)
    for model, weights in zip(trainer.models.values(), networks):
        assert not any(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights) if a.size > 1)
    written = {path.name for path in tmp_path.glob("*.safetensors")}
    assert written == {"inverter.safetensors", "inverter_discriminator.safetensors"}
    scalars, images = _events(tmp_path)
    assert set(trainer.metrics) <= set(scalars)
    assert images == {"generated_above_reconstructed": [4]}


def test_inverter_step_follows_its_losses():
    trainer = _inverter_trainer(semantic_margin=0.001)
    inverter_model, discriminator = trainer.models.values()
    old_inverter, old_discriminator = _twin(_inverter, inverter_model), _twin(_discriminator, discriminator)
    before = _values(inverter_model.trainable_variables), _values(discriminator.trainable_variables)
    values = trainer.train_step(_step(5), None)

    images = trainer.generator(loop.latents(3, _step(5), 0, (6, 128)), training=False)
    with tf.GradientTape() as tape:
        real = old_discriminator(images)
        fake = old_discriminator(trainer.generator(old_inverter(images), training=False))
        discriminator_loss = -tf.reduce_mean(tf.math.log_sigmoid(real)) - tf.reduce_mean(tf.math.log_sigmoid(-fake))
    gradient = tape.gradient(discriminator_loss, old_discriminator.trainable_variables)
    _assert_stepped(discriminator.trainable_variables, before[1], gradient, 4e-4)

    latents = loop.latents(3, _step(5), 1, (6, 128))
    images = trainer.generator(latents, training=False)
    with tf.GradientTape() as tape:
        recovered = old_inverter(images)
        reconstructions = trainer.generator(recovered, training=False)
        errors = tf.reduce_mean(tf.abs(images - reconstructions), axis=1)
        semantic = tf.reduce_mean(tf.maximum(errors - 0.001, 0.0))
        latent = tf.reduce_mean((latents - recovered) ** 2)
        adversarial = -tf.reduce_mean(tf.math.log_sigmoid(discriminator(reconstructions)))
        total = 100.0 * semantic + latent + adversarial
    gradient = tape.gradient(total, old_inverter.trainable_variables)
    _assert_stepped(inverter_model.trainable_variables, before[0], gradient, 2e-4)

    expected = dict(
        semantic_loss=semantic,
        latent_loss=latent,
        adversarial_loss=adversarial,
        discriminator_loss=discriminator_loss,
    )
    assert values.keys() == expected.keys() == set(trainer.metrics)
    for name, value in expected.items():
        assert float(values[name]) == pytest.approx(float(value), rel=1e-4), name
    assert float(semantic) > 0.0


def test_singular_vectors_move_once_an_inverter_step():
    trainer = _inverter_trainer()
    layers = [layer for layer in trainer.models["inverter_discriminator"].layers if hasattr(layer, "u")]
    expected = [_next_u(layer) for layer in layers]
    trainer.train_step(_step(0), None)
    for layer, u in zip(layers, expected):
        np.testing.assert_allclose(layer.u.numpy(), u, atol=1e-5)


def test_ablation_without_adversarial_loss_leaves_the_discriminator():
    trainer = _inverter_trainer(adversarial_weight=0.0, latent_weight=0.0, semantic_margin=0.0)
    inverter_model, discriminator = trainer.models.values()
    before, untouched = _values(inverter_model.trainable_variables), discriminator.get_weights()
    old_inverter = _twin(_inverter, inverter_model)
    values = trainer.train_step(_step(0), None)
    assert _equal(discriminator.get_weights(), untouched)
    assert float(values["adversarial_loss"]) == float(values["discriminator_loss"]) == 0.0
    images = trainer.generator(loop.latents(3, _step(0), 1, (6, 128)), training=False)
    with tf.GradientTape() as tape:
        total = 100.0 * tf.reduce_mean(tf.abs(images - trainer.generator(old_inverter(images), training=False)))
    gradient = tape.gradient(total, old_inverter.trainable_variables)
    _assert_stepped(inverter_model.trainable_variables, before, gradient, 2e-4)


def test_inverter_defaults_are_the_papers():
    trainer = inverter.InverterTrainer(_generator(), _inverter(), _discriminator())
    rates = [float(optimizer.learning_rate) for optimizer in trainer.optimizers.values()]
    assert rates == pytest.approx([2e-4, 4e-4])
    assert {(optimizer.beta_1, optimizer.beta_2) for optimizer in trainer.optimizers.values()} == {(0.5, 0.999)}
    assert trainer.weights == (1.0, 100.0, 1.0)
    assert trainer.semantic_margin == losses.SEMANTIC_MARGIN == 0.02
    assert trainer.shape == (25, 128)


def test_inverter_pictures_pair_images_with_reconstructions():
    trainer = _inverter_trainer()
    pairs = trainer.images()["generated_above_reconstructed"].numpy().reshape(5, 2, 10, 28, 28, 1)
    above, below = pairs[:, 0].reshape(50, 28, 28, 1), pairs[:, 1].reshape(50, 28, 28, 1)
    reconstructions = trainer.generator(trainer.models["inverter"](above), training=False)
    np.testing.assert_allclose(below, reconstructions, atol=1e-5)
    assert np.abs(above - below).max() > 1e-3


# The classifier.


def test_classifier_learns_200_digits(digits, monkeypatch, tmp_path):
    images = np.rint(255 * digits.images).astype(np.uint8)
    monkeypatch.setattr(data, "_read", lambda *args: (images, digits.labels))
    model = models.build_classifier("D")
    trainer = classifier.ClassifierTrainer(model, seed=1, validation=digits)
    progress = _train(
        trainer,
        tmp_path,
        steps=60,
        chunk=10,
        checkpoint_every=60,
        summary_every=30,
        batches=lambda start: data.stream("mnist", "train", batch_size=50, seed=1, start=start),
    )
    assert progress[-1].metrics["loss"] < 0.4 * progress[1].metrics["loss"]
    share = np.mean(accuracy.predict(model, digits.images) == digits.labels)
    assert share > 0.9
    scalars, _ = _events(tmp_path)
    assert [step for step, _ in scalars["validation_accuracy"]] == [30, 60]
    assert scalars["validation_accuracy"][-1][1] == pytest.approx(share)
    assert {"loss", "training_accuracy"} <= set(scalars)
    assert (tmp_path / "classifier_d.safetensors").is_file()


def test_classifier_step_is_adam_on_cross_entropy(digits):
    model = models.build_classifier("E")
    trainer = classifier.ClassifierTrainer(model)
    images, labels = digits.images[:8], digits.labels[:8]
    before = _values(model.trainable_variables)
    with tf.GradientTape() as tape:
        logits = model(images)
        loss = -tf.reduce_mean(tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1))
    gradient = tape.gradient(loss, model.trainable_variables)
    values = trainer.train_step(_step(0), (tf.constant(images), tf.constant(labels)))
    assert float(values["loss"]) == pytest.approx(float(loss), rel=1e-5)
    assert float(values["training_accuracy"]) == np.mean(np.argmax(logits, 1) == labels)
    _assert_stepped(model.trainable_variables, before, gradient, 1e-3)


def _losses(steps, seed, images, labels, architecture="A"):
    """Losses of a classifier that a learning rate of zero keeps as it is: only the masks change."""
    keras.utils.set_random_seed(0)
    trainer = classifier.ClassifierTrainer(
        models.build_classifier(architecture), seed=seed, optimizer=keras.optimizers.Adam(0.0)
    )
    return [float(trainer.train_step(_step(s), (tf.constant(images), tf.constant(labels)))["loss"]) for s in steps]


def test_dropout_masks_are_a_function_of_seed_and_step(digits):
    batch = digits.images[:8], digits.labels[:8]
    first, second, third, again = _losses((0, 1, 2, 0), 1, *batch)
    assert first == pytest.approx(again, rel=1e-6)
    assert len({round(loss, 5) for loss in (first, second, third)}) == 3
    assert _losses((2, 1), 1, *batch) == pytest.approx([third, second], rel=1e-6)
    assert _losses((0,), 9, *batch) != pytest.approx([first], rel=1e-4)


def test_layers_of_a_classifier_drop_independently():
    trainer = classifier.ClassifierTrainer(models.build_classifier("A"), seed=1)
    assert len(trainer.dropout_states) == 2
    trainer.train_step(_step(0), (tf.zeros((2, 28, 28, 1)), tf.constant([0, 1])))
    first, second = (state.numpy().tolist() for state in trainer.dropout_states)
    assert first != second


# Stop and resume.


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = pathlib.Path(__file__).with_name("interrupted.py")
    command = [sys.executable, str(program), str(tmp_path_factory.mktemp("runs"))]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name, variables", [("gan", 20 + 12 + 2 * 14 + 2 * 8 + 4), ("inverter", 8 + 12 + 32 + 4)])
def test_stopped_and_resumed_networks_equal_uninterrupted_ones_bit_for_bit(interrupted, name, variables):
    _assert_resumed(interrupted[name], variables)


def test_stopped_and_resumed_classifier_with_dropout_equals_an_uninterrupted_one_bit_for_bit(interrupted):
    _assert_resumed(interrupted["classifier"], 6 + 2 * 6 + 2)


def _assert_resumed(run, variables):
    assert run["steps"] == [[0, 2, 4, 6, 7], [0, 2, 4, 6], [4, 6, 7]]
    assert run["variables"] == variables
    assert run["moved_after_stop"] > variables // 2
    assert run["differing"] == []
