"""The public names: what they say of themselves, and the examples they give."""

import doctest
import importlib
import inspect
import pydoc
import re

import keras
import numpy as np
import pytest

import invgan_tf
from invgan_tf import attacks, data, inversion, models

_TOLD = {
    "shapes": r"\[n",
    "ranges": r"range|\[0, 1|N\(0, I\)|at least|from 0",
    "errors": r"Error",
    "source": r"Eqs?\.|Table|[Ss]ection|\([^()]{5,60}(19|20)\d\d\)|Papernot",
}
_NAMES = [name for name in invgan_tf.__all__ if name != "__version__"]


def test_every_public_name_is_there_and_listed():
    assert set(invgan_tf.__all__) <= set(dir(invgan_tf))
    for name in invgan_tf.__all__:
        assert getattr(invgan_tf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = invgan_tf.nothing


def _public():
    """Yields (name, object) of every public function and class, those of public rooms included."""
    for name in _NAMES:
        public = getattr(invgan_tf, name)
        if not inspect.ismodule(public):
            yield name, public
            continue
        for part in getattr(public, "__all__", ("load", "stream")):
            yield f"{name}.{part}", getattr(public, part)


@pytest.mark.parametrize("name", [name for name, _ in _public()])
def test_pydoc_tells_shapes_ranges_errors_and_source(name):
    text = re.sub(".\b", "", pydoc.render_doc(dict(_public())[name]))
    for what, pattern in _TOLD.items():
        assert re.search(pattern, text), f"the documentation of {name} tells no {what}"


def test_the_help_of_the_package_lists_every_public_name():
    text = re.sub(".\b", "", pydoc.render_doc(invgan_tf))
    for name in (*_NAMES, "[n, h, w, c]", "[n, latent_dim]", "ValueError", "Eq. 6"):
        assert name in text


@pytest.mark.parametrize("module", ["inversion", "presets", "presets.saving", "defenses.invgan", "defenses.base"])
def test_examples_of_docstrings_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"invgan_tf": invgan_tf, "keras": keras, "data": data, "attacks": attacks}
    module = importlib.import_module(f"invgan_tf.{module}")
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs=names) if test.examples]
    assert tests
    for test in tests:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


# The inverter of any generator.


def _linear_generator(seed=0, latent_dim=6):
    """G(z) = 1 + A z: images 8x8x1 of which z can be read off exactly."""
    dense = keras.layers.Dense(64, kernel_initializer=keras.initializers.Orthogonal(1.0, seed), bias_initializer="ones")
    return keras.Sequential([keras.Input((latent_dim,)), dense, keras.layers.Reshape((8, 8, 1))], name="linear")


_RANGE = (-2.0, 4.0)


def test_training_an_inverter_changes_no_argument_and_depends_on_the_seed_alone():
    generator = _linear_generator()
    begun = inversion.any_shape.build_inverter_for(generator, width=4)
    before = generator.get_weights(), begun.get_weights()
    given = {"steps": 3, "width": 4, "value_range": _RANGE}
    first = invgan_tf.train_inverter(generator, seed=1, **given)
    keras.utils.set_random_seed(99)
    again = invgan_tf.train_inverter(generator, seed=1, **given)
    other = invgan_tf.train_inverter(generator, seed=2, **given)
    continued = invgan_tf.train_inverter(generator, inverter=begun, **given)
    for kept, now in zip(before, (generator.get_weights(), begun.get_weights())):
        for one, two in zip(kept, now):
            np.testing.assert_array_equal(one, two)
    for one, two in zip(first.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(one, two)
    assert any(np.any(one != two) for one, two in zip(first.get_weights(), other.get_weights()))
    moved = [np.abs(one - two).max() for one, two in zip(continued.get_weights(), before[1])]
    assert 0 < max(moved) <= 3 * 2e-4 * 1.5  # three steps of Adam from where it began


def test_a_trained_inverter_beats_looking_at_no_image():
    generator, seen = _linear_generator(), []
    inverter = invgan_tf.train_inverter(
        generator,
        steps=200,
        inverter=keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(6)]),
        value_range=_RANGE,
        adversarial_weight=0.0,
        inverter_learning_rate=1e-2,
        on_progress=lambda progress: seen.append(progress.step),
    )
    assert seen == [0, 50, 100, 150, 200]
    found = inversion.recovery(generator, inverter, count=200, seed=3)
    assert found["Inverter"].latent_mse.value < 0.2 < found["Constant"].latent_mse.value
    assert found["Inverter"].image_mse.value < found["Constant"].image_mse.value < found["Random"].image_mse.value
    # By hand: z has variance 1, two independent ones differ by 2, and images are orthonormal maps.
    assert found["Constant"].latent_mse.value == pytest.approx(1.0, abs=0.15)
    assert found["Random"].latent_mse.value == pytest.approx(2.0, abs=0.3)
    for name, expected in (("Constant", 1.0), ("Random", 2.0)):
        assert found[name].image_mse.value == pytest.approx(expected * 6 * 1 / 64, rel=0.15)


@pytest.mark.parametrize(
    "generator, given, message",
    [
        (keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()]), {}, r"takes latents \[n, latent_dim\]"),
        (keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), {}, r"gives images \[n, h, w, c\]"),
        (_linear_generator(), {}, r"draws pixels from .*value_range is \[0.0, 1.0\]"),
        (_linear_generator(), {"value_range": _RANGE, "steps": 0}, "steps must be an integer of at least 1"),
        (_linear_generator(), {"value_range": _RANGE, "inverter": _linear_generator()}, "the generator needs"),
    ],
)
def test_what_is_no_generator_or_does_not_fit_is_refused(generator, given, message):
    with pytest.raises(ValueError, match=message):
        invgan_tf.train_inverter(generator, **given)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 1), (64, 48, 3)])
def test_default_networks_fit_any_shape(shape):
    size = int(np.prod(shape))
    generator = keras.Sequential([keras.Input((5,)), keras.layers.Dense(size), keras.layers.Reshape(shape)])
    inverter = inversion.any_shape.build_inverter_for(generator, width=2)
    discriminator = inversion.any_shape.build_discriminator_for(generator, width=2)
    assert inverter(np.zeros((2, *shape), np.float32)).shape == (2, 5)
    assert discriminator(np.zeros((2, *shape), np.float32)).shape == (2, 1)


def test_default_inverter_of_28x28_is_the_papers():
    ours = inversion.any_shape.build_inverter_for(models.build_generator(width=4), width=8)
    assert [w.shape for w in ours.weights] == [w.shape for w in models.build_inverter(width=8).weights]


# invert and reconstruct.


def test_invert_and_reconstruct_are_the_networks_on_checked_images(digits):
    defense = invgan_tf.InvGAN.from_preset("mnist")
    images = digits.images[:3].astype(np.float64)
    latents, copies = defense.invert(images), defense.reconstruct(images)
    assert latents.dtype == copies.dtype == np.float32
    np.testing.assert_allclose(latents, defense.inverter(images.astype(np.float32)), atol=1e-5)
    np.testing.assert_allclose(copies, defense.project(images, steps=0).images, atol=1e-5)
    np.testing.assert_allclose(copies, defense.reconstructed(images.astype(np.float32)), atol=1e-5)
    for wrong in (images[..., 0], images + 1.0, (255 * images).astype(np.uint8)):
        for method in (defense.invert, defense.reconstruct):
            with pytest.raises(ValueError, match="Expected"):
                method(wrong)
