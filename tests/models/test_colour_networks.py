"""The 32x32 and 64x64 networks at full size, parameter counts written out; small ones against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import folding, models
from invgan_tf.models import age, ali, dcgan, families, sn_resnet, wide_resnet
from tests.models import numpy_layers as layers

CIFAR10, CELEB_A = (32, 32, 3), (64, 64, 3)


def _conv(size, inputs, outputs, bias=True):
    return size * size * inputs * outputs + bias * outputs


def _sum(*sizes):
    return sum(_conv(*size) for size in sizes)


_DCGAN = {
    "generator": 128 * 8192
    + 8192
    + 4 * (8192 + 256 + 128 + 64)  # dense and the batch norms
    + _sum((4, 512, 256), (4, 256, 128), (4, 128, 64), (3, 64, 3)),
    "discriminator": _sum((3, 3, 64), (4, 64, 64), (3, 64, 128), (4, 128, 128), (3, 128, 256), (4, 256, 256))
    + _sum((3, 256, 512), (4, 512, 1)),
    "inverter": _sum((3, 3, 64), (4, 64, 128), (4, 128, 256), (4, 256, 512)) + 8192 * 128 + 128,
}
_UP = 2 * 4 * 256 + 2 * _conv(3, 256, 256) + _conv(1, 256, 256)
_PLAIN = 2 * _conv(3, 128, 128)
_BODY = _conv(3, 3, 128) + _conv(3, 128, 128) + _conv(1, 3, 128) + _PLAIN + _conv(1, 128, 128) + 2 * _PLAIN
_SN_RESNET = {
    "generator": 128 * 4096 + 4096 + 3 * _UP + 4 * 256 + _conv(3, 256, 3),
    "discriminator": _BODY + 128 + 1,
    "inverter": _BODY + 128 * 128 + 128,
}
_SN_RESNET_64 = {part: count + (_UP if part == "generator" else _PLAIN) for part, count in _SN_RESNET.items()}
_NO = False  # no bias
_ALI = {
    "ali_encoder": _sum((5, 3, 32, _NO), (4, 32, 64, _NO), (4, 64, 128, _NO), (4, 128, 256, _NO), (4, 256, 512, _NO))
    + _conv(1, 512, 512, _NO) + 4 * (32 + 64 + 128 + 256 + 512 + 512) + _conv(1, 512, 128),
    "ali_decoder": _sum((4, 64, 256, _NO), (4, 256, 128, _NO), (4, 128, 64, _NO), (4, 64, 32, _NO), (5, 32, 32, _NO))
    + _conv(1, 32, 32, _NO) + 4 * (256 + 128 + 64 + 32 + 32 + 32) + _conv(1, 32, 3, _NO) + 32 * 32 * 3,
    "ali_discriminator": _sum((5, 3, 32), (4, 16, 64, _NO), (4, 32, 128, _NO), (4, 64, 256, _NO), (4, 128, 512, _NO))
    + _sum((1, 64, 512, _NO), (1, 256, 512, _NO), (1, 512, 1024), (1, 512, 1024), (1, 512, 1)),
}  # fmt: skip
_AGE = {
    "age_generator": _sum((4, 128, 512, _NO), (4, 512, 256, _NO), (4, 256, 128, _NO), (4, 128, 128, _NO), (1, 128, 3))
    + 4 * (512 + 256 + 128 + 128),
    "age_encoder": _sum((4, 3, 64, _NO), (4, 64, 128, _NO), (4, 128, 256, _NO), (4, 256, 128)) + 4 * (128 + 256),
}
FULL_SIZE = {
    ("dcgan", CIFAR10): (_DCGAN, (3_846_019, 2_935_873, 3_803_904)),
    ("sn_resnet", CIFAR10): (_SN_RESNET, (4_280_323, 1_053_825, 1_070_208)),
    ("sn_resnet", CELEB_A): (_SN_RESNET_64, (5_528_323, 1_348_993, 1_365_376)),
    ("ali", CIFAR10): (_ALI, (3_121_504, 982_240, 2_610_049)),
    ("age", CIFAR10): (_AGE, (3_936_643, 1_184_384)),
}


def _count(model):
    """Parameters, the singular vectors of spectral normalisation aside."""
    return sum(int(np.prod(weight.shape)) for weight in model.weights if not weight.path.endswith("/u"))


@pytest.mark.parametrize(("family", "shape"), FULL_SIZE, ids=lambda value: str(value))
def test_full_size_networks_have_the_papers_parameters(family, shape):
    counts, written = FULL_SIZE[family, shape]
    built = {part: families.build(part, shape, family=family) for part in counts}
    assert {part: _count(model) for part, model in built.items()} == counts
    assert tuple(counts.values()) == written
    for part, model in built.items():
        images, latents = (None, *shape), (None, 64 if family == "ali" else 128)
        expected = {
            "ali_encoder": (images, (None, 128)),
            "ali_discriminator": ([images, latents], (None, 1)),
            "discriminator": (images, (None, 1)),
        }.get(part, (images, latents) if "verter" in part or "encoder" in part else (latents, images))
        assert (model.input_shape, model.output_shape) == expected, part


_OPEN_RANGE = [
    ("dcgan", "generator", CIFAR10),
    ("sn_resnet", "generator", CIFAR10),
    ("sn_resnet", "generator", CELEB_A),
]


@pytest.mark.parametrize(("family", "part", "shape"), [*_OPEN_RANGE, ("age", "age_generator", CIFAR10)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_generators_fill_minus_one_to_one(family, part, shape, dtype):
    model = layers.randomize(families.build(part, shape, family=family, width=2, dtype=dtype))
    kernel = [weight for weight in model.weights if weight.path.endswith("conv/kernel")][-1]
    kernel.assign(1e4 * kernel)
    images = model(100 * np.random.default_rng(0).normal(size=(4, 128)).astype(np.float32), training=False)
    assert images.dtype == "float32" and images.shape == (4, *shape)
    assert -1.0 <= np.min(images) < -0.9 and 0.9 < np.max(images) <= 1.0


def test_sn_resnet_generator_equals_numpy():
    model = layers.randomize(sn_resnet.build_generator(width=1))
    values, latents = layers.weights(model), np.random.default_rng(1).normal(size=(2, 128)).astype(np.float32)

    def conv(x, name):
        return layers.conv(x, values[f"{name}/kernel"], 1) + values[f"{name}/bias"]

    def activated(x, name):
        return layers.relu(layers.batch_norm(x, values, f"{name}_bn"))

    x = (latents @ values["dense/kernel"] + values["dense/bias"]).reshape(2, 4, 4, 4)
    for name in ("block1", "block2", "block3"):
        skip = conv(layers.doubled(x), f"{name}_skip_conv")
        x = conv(layers.doubled(activated(x, f"{name}_first")), f"{name}_conv1")
        x = conv(activated(x, f"{name}_second"), f"{name}_conv2") + skip
    images = np.tanh(conv(activated(x, "last"), "conv"))
    np.testing.assert_allclose(model(latents, training=False), images, atol=1e-5)


@pytest.mark.parametrize(("shape", "blocks"), [(CIFAR10, 4), (CELEB_A, 5)])
@pytest.mark.parametrize("part", ["discriminator", "inverter"])
def test_sn_resnet_body_equals_numpy(part, shape, blocks):
    model = layers.randomize(families.build(part, shape, family="sn_resnet", width=1))
    values = layers.weights(model)
    images = np.random.default_rng(2).uniform(-1, 1, (2, *shape)).astype(np.float32)

    def conv(x, name):
        if part == "inverter":
            return layers.conv(x, values[f"{name}/kernel"], 1) + values[f"{name}/bias"]
        kernel = layers.normalized(values, f"sn_{name}", f"sn_{name}/conv/kernel")
        return layers.conv(x, kernel, 1) + values[f"sn_{name}/bias"]

    x = conv(layers.relu(conv(images, "block1_conv1")), "block1_conv2")
    x = layers.halved(x) + conv(layers.halved(images), "block1_skip_conv")
    for index in range(2, blocks + 1):
        inner = conv(layers.relu(conv(layers.relu(x), f"block{index}_conv1")), f"block{index}_conv2")
        x = layers.halved(inner) + layers.halved(conv(x, "block2_skip_conv")) if index == 2 else inner + x
    features = layers.relu(x).sum(axis=(1, 2))
    if part == "inverter":
        expected = features @ values["latents/kernel"] + values["latents/bias"]
    else:
        expected = features @ layers.normalized(values, "sn_dense", "sn_dense/dense/kernel") + values["sn_dense/bias"]
    np.testing.assert_allclose(model(images, training=False), expected, rtol=1e-4, atol=1e-4)


def test_dcgan_of_32_pixels_equals_numpy():
    generator, inverter = (
        layers.randomize(build(CIFAR10, width=1)) for build in (dcgan.build_generator, dcgan.build_inverter)
    )
    latents = np.random.default_rng(1).normal(size=(2, 128)).astype(np.float32)
    values = layers.weights(generator)
    x = layers.batch_norm(latents @ values["dense/kernel"] + values["dense/bias"], values, "dense_bn")
    x = layers.relu(x).reshape(2, 4, 4, 8)
    for name in ("deconv1", "deconv2", "deconv3"):
        x = layers.deconv(x, values[f"{name}/kernel"]) + values[f"{name}/bias"]
        x = layers.relu(layers.batch_norm(x, values, f"{name}_bn"))
    images = np.tanh(layers.conv(x, values["conv/kernel"], 1) + values["conv/bias"])
    np.testing.assert_allclose(generator(latents, training=False), images, atol=1e-5)

    values, x = layers.weights(inverter), images.astype(np.float32)
    for index, stride in enumerate((1, 2, 2, 2), start=1):
        x = layers.relu(layers.conv(x, values[f"conv{index}/kernel"], stride) + values[f"conv{index}/bias"])
    recovered = x.reshape(2, -1) @ values["latents/kernel"] + values["latents/bias"]
    np.testing.assert_allclose(inverter(images.astype(np.float32), training=False), recovered, atol=1e-5)


def test_generator_of_32_pixels_is_folded_for_descent():
    """Its layers are a chain: batch norm and precision are the descent's to choose. A residual one's are not."""
    generator = layers.randomize(dcgan.build_generator(CIFAR10, width=2))
    latents = np.random.default_rng(1).normal(size=(3, 128)).astype(np.float32)
    folded = folding.fold(generator)(tf.constant(latents))
    np.testing.assert_allclose(folded, generator(latents, training=False), atol=1e-5)
    assert folding.check_dtype(generator, "bfloat16") == "bfloat16"
    with pytest.raises(ValueError, match="cannot be folded"):
        folding.check_dtype(sn_resnet.build_generator(width=1), "bfloat16")


def test_last_convolution_of_the_32_pixel_discriminator_is_linear():
    model = layers.randomize(dcgan.build_discriminator(CIFAR10, width=1))
    values, x = layers.weights(model), np.random.default_rng(2).uniform(-1, 1, (2, *CIFAR10)).astype(np.float32)
    logits = model(x, training=False)
    for index, stride in enumerate((1, 2, 1, 2, 1, 2, 1), start=1):
        name = f"sn_conv{index}"
        x = layers.conv(x, layers.normalized(values, name, f"{name}/conv/kernel"), stride) + values[f"{name}/bias"]
        x = layers.relu(x, 0.2) if index < 7 else x
    expected = (
        x.reshape(2, -1) @ layers.normalized(values, "sn_dense", "sn_dense/dense/kernel") + values["sn_dense/bias"]
    )
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_age_latents_lie_on_the_unit_sphere():
    encoder = age.build_encoder(width=2, dtype="mixed_bfloat16")
    latents = np.asarray(encoder(np.random.default_rng(0).uniform(-1, 1, (5, *CIFAR10)).astype(np.float32)))
    assert latents.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(latents, axis=1), 1.0, rtol=1e-5)


def test_ali_maxout_takes_the_greater_of_two_pieces():
    model = layers.randomize(ali.build_discriminator(width=4))
    values, latents = layers.weights(model), np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)

    def maxout(x, name):
        x = x @ values[f"{name}/kernel"].reshape(x.shape[-1], -1) + values.get(f"{name}/bias", 0.0)
        return x.reshape(len(x), -1, 2).max(axis=-1)

    z = maxout(maxout(latents, "z1"), "z2")
    x_path = keras.Model(model.inputs, model.get_layer("pair").output)
    images = np.random.default_rng(1).uniform(0, 1, (3, *CIFAR10)).astype(np.float32)
    pair = np.asarray(x_path([images, latents], training=False)).reshape(3, -1)
    assert pair.shape == (3, 32)
    np.testing.assert_allclose(pair[:, 16:], z, rtol=1e-4, atol=1e-6)
    expected = maxout(maxout(pair, "joint1"), "joint2") @ values["logits/kernel"] + values["logits/bias"]
    np.testing.assert_allclose(model([images, latents], training=False), expected, rtol=1e-4, atol=1e-6)


def test_ali_decoder_starts_at_the_datas_log_odds():
    decoder = ali.build_decoder(width=2)
    images = np.random.default_rng(0).uniform(size=(50, *CIFAR10)).astype(np.float32)
    images[:, 0, 0] = 0.0
    ali.set_log_odds(decoder, images)
    drawn = np.asarray(decoder(np.zeros((1, 64), np.float32), training=False))[0]  # nothing but the bias
    np.testing.assert_allclose(drawn[1:], images.mean(axis=0)[1:], atol=1e-3)
    assert 0.0 < drawn[0, 0].max() < 0.01


def test_ali_and_age_start_as_their_authors_did():
    for model, deviation in ((ali.build_encoder(), 0.01), (age.build_generator(), 0.02)):
        for weight in model.weights:
            if weight.path.endswith("kernel"):
                assert np.std(weight) == pytest.approx(deviation, rel=0.1), weight.path


def test_families_refuse_what_they_do_not_have():
    with pytest.raises(ValueError, match=r"no 'generator' of a family 'ali'.*dcgan: generator"):
        families.build("generator", CIFAR10, family="ali")
    for family, part, shape in (
        ("sn_resnet", "inverter", (28, 28, 1)),
        ("ali", "ali_encoder", CELEB_A),
        ("age", "age_encoder", CELEB_A),
    ):
        with pytest.raises(models.ImageShapeError, match=r"are defined for|is defined for"):
            families.build(part, shape, family=family)


def _residual_parameters(widths, units):
    count, inputs = _conv(3, 3, 16, _NO), 16
    for width in widths:
        for unit in range(units):
            first = inputs if unit == 0 else width
            count += 4 * first + _conv(3, first, width, _NO) + 4 * width + _conv(3, width, width, _NO)
        inputs = width
    return count + 4 * widths[-1] + widths[-1] * 10 + 10


@pytest.mark.parametrize(
    ("architecture", "shape", "parameters", "features"),
    [
        ("wide", CIFAR10, _residual_parameters((160, 320, 640), 5), 640),
        ("small", CIFAR10, _residual_parameters((16, 32, 64), 3), 64),
        (
            "Y",
            CELEB_A,
            9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128) + 7 * 7 * 128 * 256 + 256 + 256 * 256 + 256 + 512 + 2,
            256,
        ),
    ],
)
def test_colour_classifiers_have_their_parameters(architecture, shape, parameters, features):
    classes = 2 if architecture == "Y" else 10
    model = models.build_classifier(architecture, shape, num_classes=classes)
    assert model.count_params() == parameters
    assert model.compute_output_shape((None, *shape)) == (None, classes)
    assert model.feature_extractor.output_shape == (None, features)


def test_residual_features_equal_numpy():
    model = layers.randomize(wide_resnet.build_features((8, 8, 3), (18, 21), 2))
    values = layers.weights(model)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    flat = images.reshape(2, -1).astype(np.float64)
    x = ((flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)).reshape(images.shape)
    x = layers.conv(x, values["stem/kernel"], 1)

    def activated(x, name):
        return layers.relu(layers.batch_norm(x, values, f"{name}_bn"), 0.1)

    for stage, before, after in ((1, 1, 1), (2, 1, 2)):
        for unit in (1, 2):
            name, stride, skip = f"stage{stage}_unit{unit}", 2 if (stage, unit) == (2, 1) else 1, x
            if unit == 1:
                skip = layers.halved(skip) if stage == 2 else skip
                skip = np.pad(skip, ((0, 0), (0, 0), (0, 0), (before, after)))
            x = layers.conv(activated(x, f"{name}_first"), values[f"{name}_conv1/kernel"], stride)
            x = layers.conv(activated(x, f"{name}_second"), values[f"{name}_conv2/kernel"], 1) + skip
    features = activated(x, "last").mean(axis=(1, 2))
    np.testing.assert_allclose(model(images, training=False), features, rtol=1e-3, atol=1e-4)


def test_standardization_does_not_see_the_range_and_survives_flat_images():
    layer = wide_resnet.ImageStandardization()
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(images), layer(2.0 * images - 1.0), atol=1e-4)
    np.testing.assert_array_equal(layer(np.full((1, 8, 8, 3), 0.25, np.float32)), 0.0)


def test_residual_features_are_rebuilt_from_their_config():
    model = wide_resnet.build_features((8, 8, 3), (18,), 1)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(copy(images), model(images))
