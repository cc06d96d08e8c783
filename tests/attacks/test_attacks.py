"""Attacks against independent answers: by hand, by finite differences, by foolbox."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import attacks, data, models, presets, projection
from invgan_tf.attacks import carlini_wagner
from invgan_tf.attacks.bpda import _SHORT_CONFIDENCE, _WARM_CONFIDENCE, _shortened, _views
from invgan_tf.attacks.reparameterization import reparameterized
from invgan_tf.defenses import Defended, DefenseGAN, InvGAN
from invgan_tf.evaluation import accuracy


@pytest.fixture(scope="module")
def examples():
    return data.load("mnist", "test", limit=600)


@pytest.fixture(scope="module")
def classifier(examples):
    """Classifier E, fitted to what it is asked here: attacks need a model with margins, not a good one."""
    keras.utils.set_random_seed(1)
    model = models.build_classifier("E")
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(examples.images, examples.labels, batch_size=50, epochs=15, verbose=0)
    return model


@pytest.fixture(scope="module")
def identity_defense():
    """G(I(x)) = x: a defence that hides nothing, behind which every attack must do as well as in front."""
    generator = keras.Sequential([keras.Input((784,)), keras.layers.Reshape((28, 28, 1))], name="generator")
    inverter = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()], name="inverter")
    # The loss is the mean of 784 squares: one step at this rate lands on the image from anywhere.
    return InvGAN(generator, inverter, steps=2, optimizer=projection.GradientDescent(784 / 2))


def _norm(difference):
    return np.linalg.norm(difference.reshape(len(difference), -1), axis=1)


def test_fgsm_is_a_signed_step(classifier, examples):
    images, labels = examples.images[:20], examples.labels[:20]
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(classifier(x), tf.float64)))
    expected = np.clip(images + 0.3 * np.sign(tape.gradient(loss, x)), 0, 1)
    np.testing.assert_allclose(attacks.fgsm(classifier, images, eps=0.3, labels=labels), expected, atol=1e-6)


def test_fgsm_moves_away_from_the_models_own_label_by_default(classifier, examples):
    images = examples.images[:20]
    own = accuracy.predict(classifier, images)
    np.testing.assert_array_equal(
        attacks.fgsm(classifier, images, eps=0.1), attacks.fgsm(classifier, images, eps=0.1, labels=own)
    )


def test_fgsm_sees_the_label_of_a_saturated_model():
    """Of three logits only the label's depends on the image: in float32 its gradient would be exactly zero."""
    head = keras.layers.Dense(3, use_bias=True)
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), head])
    kernel = np.zeros((4, 3), np.float32)
    kernel[:, 0] = 10.0
    head.set_weights([kernel, np.array([10.0, 0.0, 0.0], np.float32)])
    images = np.full((1, 2, 2, 1), 0.5, np.float32)
    np.testing.assert_allclose(attacks.fgsm(model, images, eps=0.2), images - 0.2, atol=1e-6)


def test_rp_gradient_is_that_of_the_whole_chain():
    """The gradient of f(G(I(x))) in float64, against central differences."""
    keras.utils.set_random_seed(2)
    generator, inverter = models.build_generator(width=4), models.build_inverter(width=4)
    model = reparameterized(Defended(models.build_classifier("E"), InvGAN(generator, inverter)))
    images = tf.random.stateless_uniform((2, 28, 28, 1), [1, 1])
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(model(images)[:, 3])
    gradient = tape.gradient(total, images).numpy()
    direction = np.sign(gradient).astype(np.float32)  # the direction FGSM takes: the difference is large in float32
    step = 1e-2
    difference = tf.reduce_sum((model(images + step * direction) - model(images - step * direction))[:, 3]) / (2 * step)
    assert float(difference) == pytest.approx(np.abs(gradient).sum(), rel=0.05)


def test_rp_through_a_transparent_defence_is_fgsm(classifier, examples, identity_defense):
    images, labels = examples.images[:20], examples.labels[:20]
    through = attacks.reparameterization(Defended(classifier, identity_defense), images, eps=0.2, labels=labels)
    np.testing.assert_allclose(through, attacks.fgsm(classifier, images, eps=0.2, labels=labels), atol=1e-6)


def test_bounded_attacks_stay_in_ball_and_range(classifier, examples, identity_defense):
    images, labels = examples.images[:30], examples.labels[:30]
    model = Defended(classifier, identity_defense)
    for eps in (0.05, 0.3, 1.0):
        for attacked in (
            attacks.fgsm(classifier, images, eps=eps),
            attacks.pgd(classifier, images, eps=eps, steps=5),
            attacks.reparameterization(model, images, eps=eps, labels=labels),
        ):
            assert attacked.dtype == np.float32 and attacked.shape == images.shape
            assert attacked.min() >= 0 and attacked.max() <= 1
            assert np.abs(attacked - images).max() <= eps + 1e-6


def test_strength_grows_from_noise_to_fgsm_to_pgd(classifier, examples):
    images, labels = examples.images[:200], examples.labels[:200]

    def survives(attacked):
        return np.mean(accuracy.predict(classifier, attacked) == labels)

    for eps in (0.05, 0.1, 0.3):
        noise = np.sign(np.random.default_rng(0).standard_normal(images.shape)).astype(np.float32)
        random = survives(np.clip(images + eps * noise, 0, 1))
        once = survives(attacks.fgsm(classifier, images, eps=eps, labels=labels))
        often = survives(attacks.pgd(classifier, images, eps=eps, steps=20, labels=labels))
        assert often <= once <= random
    assert survives(attacks.pgd(classifier, images, eps=1.0, steps=20, labels=labels)) <= 0.1


def test_carlini_wagner_finds_the_nearest_boundary_of_a_linear_model():
    """Two logits +-w.x: the least L2 change is the margin over the norm of w."""
    w = np.linspace(-1, 1, 16).astype(np.float32).reshape(16, 1)
    head = keras.layers.Dense(2, use_bias=False)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), head])
    head.set_weights([np.hstack([w, -w])])
    images = (0.5 + 0.1 * np.sign(np.random.default_rng(1).standard_normal((6, 4, 4, 1)))).astype(np.float32)
    margin = np.abs(images.reshape(6, 16) @ w).ravel() / np.linalg.norm(w)
    attacked = attacks.carlini_wagner_l2(model, images, learning_rate=0.01, max_iterations=300, binary_search_steps=9)
    assert np.all(accuracy.predict(model, attacked) != accuracy.predict(model, images))
    np.testing.assert_allclose(_norm(attacked - images), margin, rtol=0.02, atol=2e-3)


def _foolbox_carlini_wagner(model, images, labels):
    """foolbox's attack at the settings of Table 2; returns its images and success flags."""
    foolbox = pytest.importorskip("foolbox")
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=6, steps=100, stepsize=0.2, confidence=0, initial_const=10, abort_early=False
    )
    wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
    _, attacked, success = attack(wrapped, tf.constant(images), tf.constant(labels, tf.int64), epsilons=None)
    return attacked.numpy(), success.numpy()


def test_carlini_wagner_agrees_with_foolbox(classifier, examples):
    images = examples.images[:40]
    own = accuracy.predict(classifier, images)
    mine = attacks.carlini_wagner_l2(classifier, images)
    theirs, success = _foolbox_carlini_wagner(classifier, images, own)
    np.testing.assert_array_equal(accuracy.predict(classifier, mine) != own, success)
    assert np.median(_norm(mine - images)) == pytest.approx(np.median(_norm(theirs - images)), rel=0.03)


def test_carlini_wagner_does_not_mix_the_images_of_a_batch(classifier, examples):
    images = examples.images[:12]
    whole = attacks.carlini_wagner_l2(classifier, images, binary_search_steps=4)
    singles = attacks.carlini_wagner_l2(classifier, images, binary_search_steps=4, batch_size=1)
    np.testing.assert_allclose(_norm(singles - images), _norm(whole - images), rtol=0.01)


@pytest.mark.slow
def test_carlini_wagner_on_the_shipped_classifier_agrees_with_foolbox_and_with_itself(examples):
    """The size the results page reports: 200 images, six rounds of 100 iterations, batches of 1, 10 and 200."""
    model, images = presets.load_classifier("mnist", "A"), examples.images[:200]
    own = accuracy.predict(model, images)
    found = {}
    for batch_size in (200, 10, 1):
        attacked = attacks.carlini_wagner_l2(model, images, batch_size=batch_size)
        found[batch_size] = accuracy.predict(model, attacked) != own, _norm(attacked - images)
    attacked, success = _foolbox_carlini_wagner(model, images, own)
    found["foolbox"] = success, _norm(attacked - images)
    for name, (fooled, norm) in found.items():
        both = fooled & found[200][0]
        change = np.abs(norm[both] / found[200][1][both] - 1)
        print(
            f"{name}: fooled {fooled.mean():.3f}, flags as in one batch {np.mean(fooled == found[200][0]):.3f}, median "
            f"L2 {np.median(norm):.4f}, L2 apart: median {np.median(change):.2%}, largest {change.max():.2%}, "
            f"at most 1 % on {np.mean(change <= 0.01):.3f}"
        )
    for name, (fooled, norm) in found.items():
        assert np.mean(fooled == found[200][0]) >= 0.99
        # Medians: rounding differs with the batch's size, and 600 steps carry single images away by more than 1 %.
        assert np.median(norm) == pytest.approx(np.median(found[200][1]), rel=0.03 if name == "foolbox" else 0.01)


def test_carlini_wagner_gives_back_the_clean_image_where_it_fails(examples):
    head = keras.layers.Dense(2, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant([5.0, 0.0]))
    constant = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), head])
    attacked = attacks.carlini_wagner_l2(constant, examples.images[:3], binary_search_steps=2, max_iterations=5)
    np.testing.assert_array_equal(attacked, examples.images[:3])


@pytest.mark.parametrize(("inner_steps", "least", "most"), [(1, _SHORT_CONFIDENCE, _WARM_CONFIDENCE), (None, 0.0, 0.0)])
def test_bpda_on_a_transparent_defence_is_carlini_wagner(
    classifier, examples, identity_defense, inner_steps, least, most
):
    """Warm, it is one that wins by a large margin, shortened to a small one: between the two in size."""
    images, labels = examples.images[:10], examples.labels[:10]
    shorter, longer = (
        _norm(attacks.carlini_wagner_l2(classifier, images, labels=labels, confidence=confidence) - images)
        for confidence in (least, most)
    )
    model = Defended(classifier, identity_defense, steps=0 if inner_steps is None else 2)
    through = attacks.bpda(model, images, labels=labels, inner_steps=inner_steps, binary_search_steps=6, seed=1)
    lead = carlini_wagner.margin(tf.constant(model.predict(through))[:, None], tf.constant(labels))
    assert np.all(lead < 0)
    size = _norm(through - images)
    assert np.all(size > 0.98 * shorter) and np.all(size < 1.02 * longer)
    if inner_steps is not None:
        assert np.mean(size / shorter) < np.mean(longer / shorter)


def test_warm_bpda_is_shortened_to_where_it_still_holds():
    """Images that hold from known lengths on; one that never does, one that nothing changed."""
    holds_from = np.array([0.2, 0.75, 0.85, 0.97, 2.0, 0.2])
    images = np.zeros((6, 2, 2, 1), np.float32)
    attacked = np.ones_like(images)
    attacked[5] = 0
    asked = []

    def verify(candidates, found, confidence, fresh):
        asked.append((found.copy(), confidence, fresh))
        return found & (candidates[:, 0, 0, 0] >= holds_from)

    lengths = _shortened(images, attacked, verify)[:, 0, 0, 0]
    np.testing.assert_allclose(lengths, [0.7, 0.8, 0.9, 1.0, 1.0, 0.0], rtol=1e-6)
    for found, *how in asked:
        np.testing.assert_array_equal(found, [True] * 5 + [False])
        assert how == [_SHORT_CONFIDENCE, True]


@pytest.fixture(scope="module")
def ten():
    """The shipped classifier behind a short DefenseGAN, and ten digits that both read rightly."""
    defense = DefenseGAN.from_preset("mnist", steps=20, restarts=4)
    model = Defended(presets.load_classifier("mnist", "A"), defense)
    digits = data.load("mnist", "test", limit=40)
    read = model.predict(digits.images).argmax(axis=1) == digits.labels
    return model, digits.images[read][:10], digits.labels[read][:10]


@pytest.fixture(scope="module")
def shipped(ten):
    """The same with the first four of them."""
    return ten[0], ten[1][:4], ten[2][:4]


def test_bpda_on_a_random_defence_holds_under_seeds_it_never_saw(ten):
    model, images, labels = ten
    attacked = attacks.bpda(model, images, labels=labels, max_iterations=50, seed=5)
    assert np.any(attacked != images)
    held = []
    for seed in (0, 5, 6):  # the attacker's number too: its starts are not the evaluator's
        evaluated = Defended(model.classifier, model.defense, seed=seed)
        held.append(np.mean(evaluated.predict(attacked).argmax(axis=1) == labels))
    assert np.mean(held) <= 0.5


def test_attacker_and_evaluator_never_draw_the_same_starts(shipped, monkeypatch):
    model, images, labels = shipped
    seeds, numbers = set(), []
    starts = DefenseGAN.starts

    def recorded(self, images, indices, restarts, seed):
        seeds.add(seed)
        if tf.executing_eagerly():  # inside a loop they are the state's, which starts with these
            numbers.extend(np.asarray(indices))
        return starts(self, images, indices, restarts, seed)

    monkeypatch.setattr(DefenseGAN, "starts", recorded)
    attacks.bpda(model, images, labels=labels, binary_search_steps=1, max_iterations=1, indices=[7, 3, 5, 9], seed=0)
    assert numbers[:4] == [7, 3, 5, 9] and set(numbers) == {7, 3, 5, 9}
    assert seeds and min(seeds) >= 2**31


@pytest.mark.parametrize(("projector", "expected"), [("exact", 7), ("fast", 20)])
def test_cold_bpda_descends_the_models_steps_by_the_defences_rule(shipped, monkeypatch, projector, expected):
    model, images, labels = shipped
    descend, stops = projection.descend, set()

    def recorded(*arguments):
        stop = tf.get_static_value(arguments[-1])  # the exact loop's own is a tensor: None
        stops.add(None if stop is None else int(stop))
        return descend(*arguments)

    monkeypatch.setattr(projection, "descend", recorded)
    other = Defended(model.classifier, model.defense, steps=7, projector=projector)
    attacks.bpda(other, images, labels=labels, inner_steps=None, binary_search_steps=1, max_iterations=1)
    assert stops - {None} == {expected}


@pytest.mark.parametrize("attack", [attacks.bpda, attacks.bpda_authors])
def test_bpda_does_not_depend_on_an_images_place(shipped, attack):
    model, images, labels = shipped
    short = Defended(model.classifier, model.defense, steps=2, restarts=2)
    options = {"binary_search_steps": 1, "max_iterations": 2, "seed": 3, "learning_rate": 3.0}
    forward = attack(short, images, labels=labels, indices=[0, 1, 2, 3], **options)
    backward = attack(short, images[::-1], labels=labels[::-1], indices=[3, 2, 1, 0], **options)
    assert np.any(forward != images)
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-4)


def test_latent_space_does_not_depend_on_an_images_place_and_sees_new_weights():
    def build(seed):
        keras.utils.set_random_seed(seed)
        return models.build_generator(width=4), models.build_inverter(width=4)

    def attack(model, rows):
        labels = model.predict(images).argmax(axis=1)
        given = {"labels": labels[rows], "indices": rows, "eps": 0.3, "steps": 60, "penalties": (1.0, 2.0)}
        return attacks.latent_space(model, images[rows], **given)

    networks, others = build(1), build(2)
    images = accuracy.outputs(others[0], np.random.default_rng(0).standard_normal((3, 128)).astype(np.float32))
    classifier = models.build_classifier("E")
    classifier.head.kernel.assign(100.0 * classifier.head.kernel)  # an untrained one's logits hardly differ
    model = Defended(classifier, InvGAN(*networks, steps=2))
    first = attack(model, [0, 1, 2])
    np.testing.assert_allclose(attack(model, [2, 0]), first[[2, 0]], atol=1e-4)
    for own, other in zip(networks, others):
        own.set_weights(other.get_weights())
    fresh = Defended(classifier, InvGAN(*others, steps=2))
    np.testing.assert_allclose(attack(model, [0, 1, 2]), attack(fresh, [0, 1, 2]), atol=1e-4)
    assert np.abs(attack(fresh, [0, 1, 2]) - first).max() > 0.01


def test_bpda_views_are_the_better_half_of_each_images_restarts(classifier, examples, identity_defense):
    """Latents of the transparent defence are images: three restarts that miss their target by known amounts."""
    images = examples.images[:2]
    offsets = np.array([[0.3, 0.1, 0.2], [0.0, 0.2, 0.1]], np.float32)
    targets = np.repeat(images, 3, axis=0)
    latents = targets.reshape(6, 784) + offsets.reshape(6, 1)
    model = Defended(classifier, DefenseGAN(identity_defense.generator, steps=1, restarts=3))
    views = _views(model, tf.constant(targets), tf.constant(latents), 3).numpy()
    logits = accuracy.outputs(classifier, latents.reshape(6, 28, 28, 1)).reshape(2, 3, 10)
    np.testing.assert_allclose(views, np.stack([logits[0, [1, 2]], logits[1, [0, 2]]]), rtol=1e-4, atol=1e-4)


def test_margin_is_the_labels_lead_in_each_view():
    logits = tf.constant([[[1.0, 4.0, 2.0], [3.0, 0.0, 1.0]], [[5.0, 5.0, 7.0], [0.0, 9.0, 1.0]]])
    lead = carlini_wagner.margin(logits, tf.constant([1, 2]))
    np.testing.assert_allclose(lead, [[2.0, -3.0], [2.0, -8.0]])


def test_bpda_authors_differs_and_stays_in_range(classifier, examples, identity_defense):
    model = Defended(classifier, identity_defense, steps=0)
    images, labels = examples.images[:6], examples.labels[:6]
    attacked = attacks.bpda_authors(model, images, labels=labels, max_iterations=10)
    assert attacked.shape == images.shape and attacked.min() >= 0 and attacked.max() <= 1
    assert not np.allclose(attacked, attacks.bpda(model, images, labels=labels, max_iterations=10, inner_steps=None))


def test_attacks_repeat_under_a_seed(shipped):
    model, images, labels = shipped
    options = {"labels": labels, "binary_search_steps": 1, "max_iterations": 20}
    first, again, other = (attacks.bpda(model, images, seed=seed, **options) for seed in (3, 3, 4))
    assert np.any(first != images)
    np.testing.assert_allclose(first, again, atol=1e-5)
    assert not np.allclose(first, other, atol=1e-5)


def test_pixels_that_rounding_left_outside_are_attacked_all_the_same(classifier, examples):
    images = examples.images[:4].copy()
    images[images == 1] = np.float32(1 + 9.5e-7)
    assert images.max() > 1
    options = {"binary_search_steps": 2, "max_iterations": 30}
    attacked = attacks.carlini_wagner_l2(classifier, images, **options)
    np.testing.assert_allclose(
        attacked, attacks.carlini_wagner_l2(classifier, examples.images[:4], **options), atol=1e-4
    )


def test_arguments_stay_as_they_are(classifier, examples):
    images = examples.images[:3].copy()
    attacks.carlini_wagner_l2(classifier, images, binary_search_steps=1, max_iterations=3)
    attacks.fgsm(classifier, images, eps=0.3)
    np.testing.assert_array_equal(images, examples.images[:3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: attacks.fgsm(m, x, eps=0.0), "eps must be a positive number"),
        (lambda m, x: attacks.fgsm(m, x * 255, eps=0.3), r"Expected pixels in \[0.0, 1.0\]"),
        (lambda m, x: attacks.fgsm(m, x, eps=0.3, labels=[1]), "Expected 2 integer labels"),
        (lambda m, x: attacks.carlini_wagner_l2(m, x, labels=[1, 10]), "labels in 0..9"),
        (lambda m, x: attacks.carlini_wagner_l2(m, x, binary_search_steps=0), "binary_search_steps must be"),
        (lambda m, x: attacks.carlini_wagner_l2(m, x, learning_rate=-1.0), "learning_rate must be a positive number"),
        (lambda m, x: attacks.carlini_wagner_l2(m, x, batch_size=0), "batch_size must be"),
        (lambda m, x: attacks.fgsm(m, x[0], eps=0.3), r"Expected images of shape \[n, 28, 28, 1\]"),
        (lambda m, x: attacks.fgsm(m, x.reshape(2, 14, 56, 1), eps=0.3), r"Expected images of shape \[n, 28, 28, 1\]"),
        (lambda m, x: attacks.reparameterization(m, x, eps=0.3), "Defended by InvGAN"),
        (lambda m, x: attacks.bpda(m, x), "attacks a Defended classifier"),
        (lambda m, x: attacks.pgd(m, x, eps=0.3, step_size=0.4), "step_size must lie between"),
        (lambda m, x: attacks.pgd(m, x, eps=0.3, steps=0), "steps must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(classifier, examples, call, message):
    with pytest.raises(ValueError, match=message):
        call(classifier, examples.images[:2])
