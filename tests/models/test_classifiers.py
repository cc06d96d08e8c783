"""Classifiers A to F: sizes written out, features, dropout and precision."""

import keras
import numpy as np
import pytest
from keras import layers

from invgan_tf import models

PARAMETERS = {
    "A": (25 * 1 * 64 + 64) + (25 * 64 * 64 + 64) + (12 * 12 * 64 * 128 + 128) + (128 * 10 + 10),
    "B": (64 * 1 * 64 + 64) + (36 * 64 * 128 + 128) + (25 * 128 * 128 + 128) + (128 * 10 + 10),
    "C": (9 * 1 * 128 + 128) + (25 * 128 * 64 + 64) + (12 * 12 * 64 * 128 + 128) + (128 * 10 + 10),
    "D": (784 * 200 + 200) + (200 * 200 + 200) + (200 * 10 + 10),
    "E": (784 * 200 + 200) + (200 * 200 + 200) + (200 * 10 + 10),
    "F": (64 * 1 * 64 + 64) + (36 * 64 * 128 + 128) + (25 * 128 * 128 + 128) + (128 * 10 + 10),
}
FEATURES = {"A": 128, "B": 128, "C": 128, "D": 200, "E": 200, "F": 128}
DROP_RATES = {"A": [0.25, 0.5], "B": [0.2, 0.5], "C": [0.25, 0.5], "D": [0.5], "E": [], "F": []}


@pytest.fixture(scope="module", params=sorted(PARAMETERS))
def classifier(request):
    return request.param, models.build_classifier(request.param)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(4, 28, 28, 1)).astype(np.float32)


def test_parameters(classifier):
    architecture, model = classifier
    assert model.count_params() == PARAMETERS[architecture]


def test_logits_are_the_head_of_the_features(classifier, images):
    architecture, model = classifier
    features = np.asarray(model.features(images))
    assert features.shape == (4, FEATURES[architecture])
    assert features.min() >= 0.0
    kernel, bias = (np.asarray(weight) for weight in model.weights[-2:])
    logits = model(images)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, features @ kernel + bias, atol=1e-5)
    np.testing.assert_array_equal(logits, model.head(features))


def test_dropout_is_inactive_at_inference_and_active_in_training(classifier, images):
    architecture, model = classifier
    clean = np.asarray(model(images))
    np.testing.assert_array_equal(clean, model(images, training=False))
    changed = not np.allclose(clean, model(images, training=True))
    assert changed == bool(DROP_RATES[architecture])


def test_drop_rates(classifier):
    architecture, model = classifier
    dropouts = [layer.rate for layer in model.feature_extractor.layers if isinstance(layer, layers.Dropout)]
    assert dropouts == DROP_RATES[architecture]


@pytest.mark.parametrize("with_dropout, without", [("B", "F"), ("D", "E")])
def test_dropout_is_all_that_tells_the_pair_apart(with_dropout, without, images):
    first, second = models.build_classifier(with_dropout), models.build_classifier(without)
    second.set_weights(first.get_weights())
    np.testing.assert_allclose(second(images, training=True), first(images, training=False), atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_logits_are_float32_under_bfloat16(dtype, images):
    exact, rounded = models.build_classifier("E"), models.build_classifier("E", dtype=dtype)
    rounded.set_weights(exact.get_weights())
    logits = rounded(images)
    assert logits.dtype == "float32"
    assert not np.array_equal(logits, exact(images))
    np.testing.assert_allclose(logits, exact(images), atol=0.1)


def test_shape_and_classes_are_arguments():
    model = models.build_classifier("E", (8, 8, 3), num_classes=2)
    assert model(np.zeros((5, 8, 8, 3), np.float32)).shape == (5, 2)
    assert model.compute_output_shape((None, 8, 8, 3)) == (None, 2)


def test_config_rebuilds_the_classifier(images):
    model = models.build_classifier("D")
    copy = keras.models.clone_model(model)
    assert not np.allclose(copy(images), model(images))
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(images), model(images))


@pytest.mark.parametrize("architecture", ["G", "a", ""])
def test_unknown_architecture_is_refused(architecture):
    with pytest.raises(ValueError, match="choose one of A, B, C, D, E, F, Y, wide, small"):
        models.build_classifier(architecture)
