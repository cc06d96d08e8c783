"""ALI, AGE and the classifier's recipe: one step against its formula, and short runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import losses, models
from invgan_tf.models import families
from invgan_tf.training import age, ali, classifier, loop, masks

CIFAR10 = (32, 32, 3)


def _step(number):
    return tf.constant(number, tf.int64)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (6, *CIFAR10)).astype(np.float32)


def _networks(family, *parts):
    return [families.build(part, CIFAR10, family=family, width=4) for part in parts]


def _twins(models):
    twins = [keras.models.clone_model(model) for model in models]
    for twin, model in zip(twins, models):
        twin.set_weights(model.get_weights())
    return twins


def _assert_first_adam_step(variables, before, gradients, rate):
    """Adam's first step is the rate times the gradient's sign, but for its epsilon."""
    for variable, old, gradient in zip(variables, before, map(np.asarray, gradients)):
        expected = old - rate * gradient / (np.abs(gradient) + 1e-7 / np.sqrt(1e-3))
        np.testing.assert_allclose(variable, expected, atol=0.05 * rate, err_msg=variable.path)


def _no_dropout(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def test_ali_step_moves_both_sides_from_the_same_batch(images):
    networks = _networks("ali", "ali_encoder", "ali_decoder", "ali_discriminator")
    for network in networks:  # weights of 0.01 would leave gradients that rounding drowns
        for weight in network.trainable_weights:
            if weight.path.endswith("kernel"):
                weight.assign(20.0 * weight.numpy())
    _no_dropout(networks[2])
    trainer = ali.ALITrainer(*networks, batch_size=6, seed=3)
    encoder, decoder, discriminator = _twins(networks)
    _no_dropout(discriminator)
    before = [[variable.numpy() for variable in variables] for variables in trainer.variables]
    values = trainer.train_step(_step(5), (tf.constant(images), None))

    noise, latents = (loop.latents(3, _step(5), role, (6, 64)) for role in (0, 1))
    unit = (images + 1.0) / 2.0
    with tf.GradientTape(persistent=True) as tape:
        parameters = encoder(unit, training=True)
        inferred = parameters[:, :64] + tf.exp(parameters[:, 64:]) * noise
        generated = decoder(latents, training=True)
        logits = discriminator([tf.concat([unit, generated], 0), tf.concat([inferred, latents], 0)])
        real, fake = logits[:6], logits[6:]
        told = -tf.reduce_mean(tf.math.log_sigmoid(real)) - tf.reduce_mean(tf.math.log_sigmoid(-fake))
        fooled = -tf.reduce_mean(tf.math.log_sigmoid(-real)) - tf.reduce_mean(tf.math.log_sigmoid(fake))
    assert float(values["discriminator_loss"]) == pytest.approx(float(told), rel=1e-4)
    assert float(values["generator_loss"]) == pytest.approx(float(fooled), rel=1e-4)
    own = [*encoder.trainable_variables, *decoder.trainable_variables], discriminator.trainable_variables
    for moved, old, loss, variables in zip(trainer.variables, before, (fooled, told), own):
        _assert_first_adam_step(moved, old, tape.gradient(loss, variables), 1e-4)


def test_alis_dropout_is_a_function_of_seed_and_step(images):
    (discriminator,) = _networks("ali", "ali_discriminator")
    states = masks.states(discriminator)
    latents = np.ones((6, 64), np.float32)

    def logits(seed, step):
        masks.key(states, seed, _step(step))
        assert len(states) == 10 and len({tuple(state.numpy()) for state in states}) == 10
        return discriminator([images, latents], training=True).numpy()

    first = logits(1, 4)
    logits(1, 5)
    np.testing.assert_array_equal(logits(1, 4), first)
    assert not np.array_equal(logits(1, 5), first) and not np.array_equal(logits(2, 4), first)


def _divergence(codes):
    mean = tf.reduce_mean(codes, 0)
    deviation = tf.sqrt(tf.reduce_mean((codes - mean) ** 2, 0))
    return tf.reduce_mean((deviation**2 + mean**2) / 2 - tf.math.log(deviation) - 0.5)


def test_ages_encoder_step_follows_its_formula(images):
    networks = _networks("age", "age_encoder", "age_generator")
    trainer = age.AGETrainer(*networks, batch_size=6, seed=3)
    encoder, generator = _twins(networks)
    before = [variable.numpy() for variable in networks[0].trainable_variables]
    values = trainer.train_step(_step(5), (tf.constant(images), None))
    assert int(trainer.optimizers["age_encoder_optimizer"].iterations) == 1
    assert int(trainer.optimizers["age_generator_optimizer"].iterations) == 2

    def latents(role):
        drawn = loop.latents(3, _step(5), role, (6, 128))
        return drawn / tf.norm(drawn, axis=1, keepdims=True)

    fake = generator(latents(0), training=True)
    with tf.GradientTape() as tape:
        codes = encoder(images, training=True)
        real_divergence, fake_divergence = _divergence(codes), _divergence(encoder(fake, training=True))
        distance = tf.reduce_mean(tf.abs(images - generator(codes, training=True)))
        loss = real_divergence - fake_divergence + 10.0 * distance
    gradients = tape.gradient(loss, encoder.trainable_variables)
    _assert_first_adam_step(networks[0].trainable_variables, before, gradients, 2e-4)
    assert float(values["real_divergence"]) == pytest.approx(float(real_divergence), rel=1e-4)
    assert float(values["reconstruction_loss"]) == pytest.approx(float(distance), rel=1e-4)


def test_ages_generator_step_follows_its_formula(images, monkeypatch):
    monkeypatch.setattr(age.AGETrainer, "generator_steps", 1)
    networks = _networks("age", "age_encoder", "age_generator")
    (generator,) = _twins(networks[1:])
    before = [variable.numpy() for variable in generator.trainable_variables]
    age.AGETrainer(*networks, batch_size=6, seed=3).train_step(_step(5), (tf.constant(images), None))
    (encoder,) = _twins(networks[:1])  # after its own step, which comes first
    latents = loop.latents(3, _step(5), 1, (6, 128))
    latents /= tf.norm(latents, axis=1, keepdims=True)
    with tf.GradientTape() as tape:
        codes = encoder(generator(latents, training=True), training=True)
        loss = _divergence(codes) + 1000.0 / 128.0 * (1.0 - tf.reduce_mean(tf.reduce_sum(codes * latents, 1)))
    gradients = tape.gradient(loss, generator.trainable_variables)
    _assert_first_adam_step(networks[1].trainable_variables, before, gradients, 2e-4)


def test_divergence_of_known_moments():
    codes = np.array([[1.0, 0.0], [3.0, 4.0]], np.float32)  # means 2 and 2, deviations 1 and 2
    expected = ((1 + 4) / 2 - 0.0 - 0.5 + (4 + 4) / 2 - np.log(2.0) - 0.5) / 2
    assert float(losses.normal_divergence(codes)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.cosine_distance(np.eye(2), np.array([[0.0, 1.0], [0.0, 1.0]]))) == pytest.approx(0.5)


def test_ages_rates_are_halved_at_the_same_step():
    """The generator makes two steps where the encoder makes one."""
    trainer = age.AGETrainer(*_networks("age", "age_encoder", "age_generator"), batch_size=6, halving_steps=5)
    encoder_optimizer, generator_optimizer = trainer.optimizers.values()
    for step, rate in ((0, 2e-4), (4, 2e-4), (5, 1e-4), (9, 1e-4), (10, 5e-5)):
        encoder_optimizer.iterations.assign(step)
        generator_optimizer.iterations.assign(2 * step)
        assert float(encoder_optimizer.learning_rate) == pytest.approx(rate)
        assert float(generator_optimizer.learning_rate) == pytest.approx(rate)


def test_augmentation_shifts_and_mirrors():
    """Every image is the padded original's window at some shift, mirrored or not; all of them occur."""
    image = np.arange(1, 1 + 12 * 12, dtype=np.float32).reshape(12, 12, 1)
    batch = tf.constant(np.stack([image] * 600))
    drawn = classifier.augmented(batch, 3, _step(7)).numpy()
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    windows = {}
    for row in range(9):
        for column in range(9):
            window = padded[row : row + 12, column : column + 12]
            windows[window.tobytes()] = (row, column, False)
            windows[window[:, ::-1].tobytes()] = (row, column, True)
    found = {windows[one.tobytes()] for one in drawn}
    assert len(found) > 0.9 * len(windows)
    np.testing.assert_array_equal(drawn, classifier.augmented(batch, 3, _step(7)))
    assert not np.array_equal(drawn, classifier.augmented(batch, 3, _step(8)))


def test_weight_decay_pulls_kernels_alone():
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2, name="dense")])
    model.layers[-1].bias.assign([0.5, -0.5])
    before = [weight.numpy() for weight in model.weights]
    trainer = classifier.ClassifierTrainer(model, optimizer=keras.optimizers.SGD(0.1), weight_decay=0.5)
    images, labels = tf.zeros((2, 4, 4, 1)), tf.constant([0, 1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images)))
    gradient = tape.gradient(loss, model.trainable_variables)
    trainer.train_step(_step(0), (images, labels))
    np.testing.assert_allclose(model.weights[0], before[0] * 0.95, rtol=1e-6)  # no gradient: the images are black
    np.testing.assert_allclose(model.weights[1], before[1] - 0.1 * np.asarray(gradient[1]), rtol=1e-5)


def _ali():
    return ali.ALITrainer(*_networks("ali", "ali_encoder", "ali_decoder", "ali_discriminator"), batch_size=6, seed=3)


def _age():
    return age.AGETrainer(*_networks("age", "age_encoder", "age_generator"), batch_size=6, seed=3, halving_steps=3)


def _residual():
    model = models.build_classifier("small", CIFAR10)
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 4), momentum=0.9)
    return classifier.ClassifierTrainer(model, seed=3, optimizer=optimizer, weight_decay=5e-4, augment=True)


@pytest.mark.slow
@pytest.mark.parametrize("build", [_ali, _age, _residual])
def test_resumed_training_is_the_uninterrupted_one(build, images, tmp_path):
    """Weights, optimisers, batch norm, dropout, augmentation and rates go on where they stopped."""

    def train(steps, folder):
        keras.utils.set_random_seed(0)
        trainer = build()
        stream = tf.data.Dataset.from_tensors((images, np.arange(6, dtype=np.int32))).repeat()
        list(loop.train(trainer, steps=steps, output_dir=folder, batches=lambda start: stream, chunk=2))
        return [weight for model in trainer.models.values() for weight in model.get_weights()]

    whole = train(4, tmp_path / "whole")
    half = train(2, tmp_path / "halves")
    resumed = train(4, tmp_path / "halves")
    moved = np.mean([np.abs(a - b).mean() for a, b in zip(half, whole)])
    apart = np.mean([np.abs(a - b).mean() for a, b in zip(resumed, whole)])
    assert moved > 1e-5 and apart < 1e-3 * moved, (moved, apart)
