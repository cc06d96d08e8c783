"""Every public function and flag with every kind of wrong value, and the error each must give."""

import functools
import importlib
import pathlib
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import experiments
import invgan_tf
from experiments import common_flags, export
from invgan_tf import attacks, data, files, inversion, models, presets, serving, validation
from invgan_tf.attacks import substitute
from invgan_tf.defenses import detector
from invgan_tf.evaluation import accuracy, detection, means
from invgan_tf.training import gan, inverter, loop

_SHAPE, _N = (28, 28, 1), 3


class Wrong(NamedTuple):
    """A kind of wrong value, and what the error says of it."""

    kind: str
    value: object
    message: str
    error: type[Exception] | tuple = ValueError


class Call(NamedTuple):
    """A public function with arguments that are right, and the wrong values of each."""

    name: str
    call: Callable
    right: dict
    wrong: dict[str, list[Wrong]]


def _filled(value, shape=(_N, *_SHAPE), dtype=np.float32):
    return np.full(shape, value, dtype)


def _one_pixel(value):
    images = _filled(0.5)
    images[1, 3, 4, 0] = value
    return images


_IMAGES = [
    Wrong("rank", _filled(0.5, _SHAPE), r"shape \[n, .*got \[28, 28, 1\]"),
    Wrong("size", _filled(0.5, (_N, 27, 28, 1)), r"shape \[n, 28, 28, 1\], got \[3, 27, 28, 1\]"),
    Wrong("channels", _filled(0.5, (_N, 28, 28, 3)), r"shape \[n, 28, 28, 1\], got \[3, 28, 28, 3\]"),
    Wrong("nothing", None, r"shape \[n, .*got \[\]"),
    Wrong("empty", _filled(0.5, (0, *_SHAPE)), "at least one image, got none"),
    Wrong("integers", _filled(1, dtype=np.uint8), "floating images .* got dtype uint8"),
    Wrong("text", _filled("1", dtype="<U1"), "floating images .* got dtype <U1"),
    Wrong("objects", _filled(None, dtype=object), "floating images .* got dtype object"),
    Wrong("NaN", _one_pixel(np.nan), "finite images"),
    Wrong("infinite", _one_pixel(np.inf), "finite images"),
]
_OUTSIDE = [
    Wrong("above", _one_pixel(1.5), r"pixels in \[0.0, 1.0\], got values from 0.5 to 1.5"),
    Wrong("below", _one_pixel(-0.5), r"pixels in \[0.0, 1.0\], got values from -0.5 to 0.5"),
    Wrong("0 to 255", _filled(200.0), r"pixels in \[0.0, 1.0\], got values from 200"),
]
_PIXELS = _IMAGES + _OUTSIDE
_LABELS = [
    Wrong("too few", [1, 2], r"3 integer labels, got shape \[2\]"),
    Wrong("one-hot", np.eye(10)[:_N], r"3 integer labels, got shape \[3, 10\]"),
    Wrong("floating", [1.0, 2.0, 3.0], "integer labels, .* float64"),
    Wrong("text", ["1", "2", "3"], "integer labels, .* <U1"),
    Wrong("too high", [1, 2, 10], r"labels in 0\.\.9, got 1 to 10"),
    Wrong("negative", [-1, 2, 3], r"labels in 0\.\.9, got -1 to 3"),
]
_INDICES = [
    Wrong("too few", [1, 2], r"3 integer indices, got shape \[2\]"),
    Wrong("rank", [[1, 2, 3]], r"3 integer indices, got shape \[1, 3\]"),
    Wrong("floating", [1.0, 2.0, 3.0], "integer indices, .* float64"),
]
_RANGES = [
    Wrong("reversed", (1.0, 0.0), "value_range must be the lowest and the highest pixel"),
    Wrong("empty range", (0.5, 0.5), "value_range must be"),
    Wrong("one number", 1.0, "value_range must be"),
    Wrong("three", (0.0, 0.5, 1.0), "value_range must be"),
    Wrong("NaN", (0.0, np.nan), "value_range must be"),
    Wrong("text", ("0", "1"), "value_range must be"),
]


def _count(name, least, *, optional=False):
    values = [least - 1, 1.5, float("nan"), "3", True, [3]] + ([] if optional else [None])
    return [Wrong(repr(value), value, rf"{name} must be an integer of at least {least}, got") for value in values]


def _positive(name, zero=False, optional=False):
    values = [-0.1, float("nan"), float("inf"), "0.3", [0.3]]
    values += ([] if zero else [0.0]) + ([] if optional else [None])
    return [Wrong(repr(value), value, rf"{name} must be .*a positive number, got") for value in values]


@functools.cache
def _nets():
    """Tiny networks, none of which runs: every error comes before any work."""
    keras.utils.set_random_seed(0)
    generator, inverse = models.build_generator(width=2), models.build_inverter(width=2)
    classifier = models.build_classifier("E")
    invgan = invgan_tf.InvGAN(generator, inverse, steps=1)
    defensegan = invgan_tf.DefenseGAN(generator, steps=1, restarts=2)
    return {
        "generator": generator,
        "inverter": inverse,
        "discriminator": models.build_discriminator(width=2),
        "classifier": classifier,
        "featureless": keras.Sequential([keras.Input(_SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)]),
        "invgan": invgan,
        "defensegan": defensegan,
        "defended": invgan_tf.Defended(classifier, invgan),
        "detector": invgan_tf.AttackDetector(invgan_tf.Defended(classifier, invgan)),
        "calibrated": _calibrated(invgan_tf.Defended(classifier, invgan)),
        "fast": _calibrated(invgan_tf.Defended(classifier, invgan, projector="fast")),
    }


def _calibrated(model):
    found = invgan_tf.AttackDetector(model)
    found.threshold = 0.1
    return found


_GOOD = _filled(0.5)


def _of(network, method):
    """A method of one of the tiny networks, looked up when it is called."""
    return lambda **arguments: getattr(_nets()[network], method)(**arguments)


def _with(function, *networks, **fixed):
    return lambda **arguments: function(*(_nets()[name] for name in networks), **fixed, **arguments)


def _attack(name, network, wrong):
    right = {"images": _GOOD} | ({} if name == "carlini_wagner_l2" else {"eps": 0.3})
    return Call(f"attacks.{name}", _with(getattr(attacks, name), network), right, wrong)


def _attack_wrongs(eps=True, **more):
    common = {"images": _PIXELS, "labels": _LABELS, "value_range": _RANGES}
    return common | ({"eps": _positive("eps")} if eps else {}) | more


_BALL = {"norm": [Wrong("name", "1", "norm must be one of inf, 2, got '1'"), Wrong("nothing", None, "norm must be")]}
_SEED = {"seed": _count("seed", 0)}
_CW = {
    "binary_search_steps": _count("binary_search_steps", 1),
    "max_iterations": _count("max_iterations", 1),
    "learning_rate": _positive("learning_rate"),
    "initial_const": _positive("initial_const"),
}
_WALK = {"steps": _count("steps", 1), "restarts": _count("restarts", 1)}
_FOREIGN = [
    Wrong("bare", lambda: _nets()["classifier"], "attacks a Defended classifier, got Classifier"),
    Wrong("nothing", lambda: None, "attacks a Defended classifier, got NoneType"),
]


def _bpda_like(name, **wrong):
    def call(model=None, **arguments):
        return getattr(attacks, name)(model() if model else _nets()["defended"], **arguments)

    right = {"images": _GOOD} | ({} if name in ("bpda", "bpda_authors", "Anchored") else {"eps": 0.3})
    right |= {"threshold": 0.1} if name == "evade_detector" else {}
    foreign = [] if name == "evade_detector" else _FOREIGN
    common = {"images": _PIXELS, "indices": _INDICES, "model": foreign}
    common |= {} if name == "Anchored" else {"labels": _LABELS, "value_range": _RANGES}
    return Call(f"attacks.{name}", call, right, common | _SEED | wrong)


_ADAPTIVE = {"eps": _positive("eps"), **_BALL, **_WALK}
_ADAPTIVE |= {"inner_steps": _count("inner_steps", 1), "draws": _count("draws", 1), "products": _count("products", 0)}
_PROJECT = {"images": _PIXELS, "indices": _INDICES, **_SEED, "restarts": _count("restarts", 1, optional=True)}
_STEPS = {"steps": _count("steps", 0, optional=True)}
_PROJECTOR = {"projector": [Wrong("name", "best", "Unknown projector 'best'; choose one of exact, fast")]}
_SCORES = np.linspace(0.0, 1.0, _N)
_SCORE_WRONGS = [
    Wrong("length", _SCORES[:2], "the same two or more images"),
    Wrong("rank", _SCORES[None], "the same two or more images"),
    Wrong("NaN", np.array([0.1, np.nan, 0.3]), "finite scores"),
    Wrong("infinite", np.array([0.1, np.inf, 0.3]), "finite scores"),
    Wrong("text", np.array(["a", "b", "c"]), "could not convert string"),
]
_FLAG_WRONGS = [
    Wrong("rank", np.ones((2, 3), bool), r"vector of at least one flag, .*got shape \(2, 3\)"),
    Wrong("numbers", np.array([0.2, 0.4, 0.9]), "vector of at least one flag, .* float64"),
    Wrong("NaN", np.array([np.nan] * 3), "vector of at least one flag"),
    Wrong("text", np.array(["yes", "no", "no"]), "vector of at least one flag"),
    Wrong("nothing", None, "vector of at least one flag, .*got shape"),
]
_FLAGS_GIVEN = np.array([True, False, True])

_DETECTORS = [
    Wrong("nothing", lambda: None, "Expected an AttackDetector, got NoneType"),
    Wrong("model", lambda: _nets()["defended"], "Expected an AttackDetector, got Defended"),
    Wrong("uncalibrated", lambda: _nets()["detector"], r"no threshold yet: call calibrate\(clean_images\) first"),
]


def _toolbox(name, attribute):
    """A class or function of an integration; its cases are skipped where the extra is absent."""

    def call(first=lambda: _nets()["defended"], **arguments):
        module = pytest.importorskip(f"invgan_tf.integrations.{name}", exc_type=ImportError)
        return getattr(module, attribute)(first(), **arguments)

    return call


def _preprocess(images):
    art = pytest.importorskip("invgan_tf.integrations.art", exc_type=ImportError)
    return art.ProjectionPreprocessor(_nets()["invgan"])(images)


_BOUNDS = [wrong._replace(message=wrong.message.replace("value_range", "bounds")) for wrong in _RANGES]
_TOOLBOXES = [
    Call("art.ProjectionPreprocessor", _toolbox("art", "ProjectionPreprocessor"), {
        "first": lambda: _nets()["invgan"],
    }, {
        **_STEPS, **_SEED, **_PROJECTOR, "restarts": _count("restarts", 1, optional=True),
        "first": [Wrong("nothing", lambda: None, "needs a defence, got NoneType"),
                  Wrong("model", lambda: _nets()["defended"], "needs a defence, got Defended")],
    }),
    Call("art.ProjectionPreprocessor()", _preprocess, {}, {"images": _PIXELS}),
    Call("art.art_classifier", _toolbox("art", "art_classifier"), {}, {
        "value_range": _RANGES, "first": [Wrong("nothing", lambda: None, "NoneType does not tell the shape")],
    }),
    Call("foolbox.FoolboxModel", _toolbox("foolbox", "FoolboxModel"), {}, {
        "bounds": _BOUNDS, "first": [Wrong("nothing", lambda: None, "needs a Keras model, got NoneType")],
        "logits_dtype": [Wrong("name", "float16", "logits_dtype must be 'float64' or 'float32', got 'float16'"),
                         Wrong("nothing", None, "logits_dtype must be")],
    }),
]  # fmt: skip

# The functions of invgan_tf.losses are not here: they are graph functions of tensors, which run in every step of every
# training and check nothing; their callers, the trainers and `train_inverter`, do.
CALLS = [
    Call("InvGAN.project", _of("invgan", "project"), {"images": _GOOD}, _PROJECT | _STEPS | _PROJECTOR),
    Call("DefenseGAN.project", _of("defensegan", "project"), {"images": _GOOD}, _PROJECT | _STEPS | _PROJECTOR),
    Call("InvGAN.invert", _of("invgan", "invert"), {}, {"images": _PIXELS}),
    Call("InvGAN.reconstruct", _of("invgan", "reconstruct"), {}, {"images": _PIXELS}),
    Call(
        "DefenseGAN.trajectory",
        _of("defensegan", "trajectory"),
        {"images": _GOOD, "steps": [1, 2]},
        _PROJECT
        | {
            "steps": [
                Wrong("none", [], "rising numbers"),
                Wrong("falling", [2, 1], "rising numbers"),
                Wrong("twice", [1, 1], "rising numbers"),
                Wrong("negative", [-1, 1], "steps must be an integer of at least 0, got -1"),
                Wrong("floating", [0.5, 1], "steps must be an integer"),
            ]
        },
    ),
    Call("Defended.project", _of("defended", "project"), {"images": _GOOD}, {"images": _PIXELS, "indices": _INDICES}),
    Call("Defended.predict", _of("defended", "predict"), {"x": _GOOD}, {"x": _PIXELS, "indices": _INDICES}),
    Call("AttackDetector.score", _of("detector", "score"), {"images": _GOOD}, {"images": _PIXELS, "indices": _INDICES}),
    Call("AttackDetector.calibrate", _of("detector", "calibrate"), {}, {"clean_images": _PIXELS}),
    Call(
        "AttackDetector.flag",
        _of("detector", "flag"),
        {},
        {"images": [Wrong("uncalibrated", _GOOD, r"call calibrate\(clean_images\) first", RuntimeError)]},
    ),
    Call(
        "detector.threshold",
        detector.threshold,
        {"clean_scores": _SCORES},
        {
            "false_positive_rate": [
                Wrong("negative", -0.1, r"must lie in \[0, 1\), got -0.1"),
                Wrong("one", 1.0, r"must lie in \[0, 1\)"),
                Wrong("NaN", float("nan"), r"must lie in \[0, 1\)"),
            ]
        },
    ),
    Call(
        "AttackDetector",
        lambda model: invgan_tf.AttackDetector(model()),
        {},
        {
            "model": [
                Wrong("bare", lambda: _nets()["classifier"], "needs a Defended classifier, got Classifier"),
                Wrong(
                    "featureless",
                    lambda: invgan_tf.Defended(_nets()["featureless"], _nets()["invgan"]),
                    "has no features",
                ),
            ]
        },
    ),
    Call(
        "Defended",
        lambda classifier=None, defense=None, **more: invgan_tf.Defended(
            classifier() if classifier else _nets()["classifier"], defense() if defense else _nets()["invgan"], **more
        ),
        {},
        _STEPS | _PROJECTOR | _SEED | {
            "restarts": _count("restarts", 1, optional=True),
            "classifier": [
                Wrong("nothing", lambda: None, "Keras model as its classifier, got NoneType"),
                Wrong("function", lambda: np.mean, "Keras model as its classifier, got"),
            ],
            "defense": [
                Wrong("nothing", lambda: None, "needs an InvGAN or another defence, got NoneType"),
                Wrong("generator", lambda: _nets()["generator"], "needs an InvGAN or another defence, got Functional"),
            ],
        },
    ),
    Call("InvGAN", _with(invgan_tf.InvGAN, "generator", "inverter"), {}, {
        "steps": _count("steps", 0), "restarts": _count("restarts", 1),
        "dtype": [Wrong("name", "float8", "dtype must be 'float32' or 'bfloat16', got 'float8'")],
        "value_range": _RANGES,
    }),
    Call("DefenseGAN", _with(invgan_tf.DefenseGAN, "generator"), {}, {
        "steps": _count("steps", 0), "restarts": _count("restarts", 1),
        "dtype": [Wrong("name", "float8", "dtype must be 'float32' or 'bfloat16', got 'float8'")],
        "value_range": _RANGES,
    }),
    _attack("fgsm", "classifier", _attack_wrongs()),
    _attack("pgd", "classifier", _attack_wrongs(
        steps=_count("steps", 1),
        step_size=[*_positive("step_size", optional=True), Wrong("long", 0.4, "must lie between 0 and eps = 0.3")],
    )),
    _attack("carlini_wagner_l2", "classifier", _attack_wrongs(
        False, **_CW, confidence=_positive("confidence", zero=True), batch_size=_count("batch_size", 1)
    )),
    _attack("pgd_restarts", "classifier", _attack_wrongs(
        **_BALL, **_WALK, **_SEED, confidence=_positive("confidence", zero=True)
    )),
    _attack("auto_pgd", "classifier", _attack_wrongs(
        **_BALL, **_WALK, **_SEED, batch_size=_count("batch_size", 1),
        loss=[Wrong("name", "hinge", "loss must be one of .*, got 'hinge'")],
    )),
    _attack("square", "classifier", _attack_wrongs(**_SEED, queries=_count("queries", 1))),
    _attack("reparameterization", "defended", _attack_wrongs()),
    _bpda_like("bpda", **_CW, inner_steps=_count("inner_steps", 1, optional=True)),
    _bpda_like("bpda_authors", **_CW),
    _bpda_like("bpda_pgd", **_ADAPTIVE),
    _bpda_like("evade_detector", **_ADAPTIVE, threshold=_positive("threshold")),
    _bpda_like(
        "latent_space", eps=_positive("eps"), **_BALL, steps=_count("steps", 1),
        learning_rate=_positive("learning_rate"),
        penalties=[Wrong("none", (), "penalties must be"), Wrong("negative", (1.0, -1.0), "penalties must be"),
                   Wrong("number", 3.0, "penalties must be")],
    ),
    _bpda_like("Anchored", steps=_count("steps", 0), restarts=_count("restarts", 1)),
    Call("serving.export", lambda detector=None, **more: serving.export(
        detector() if detector else _nets()["calibrated"], "nowhere", **more
    ), {}, {"detector": [
        *_DETECTORS, Wrong("fast", lambda: _nets()["fast"], "Only the exact projector can be exported, got 'fast'"),
    ], **_STEPS}),
    Call("serving.answers", lambda images, detector=None: serving.answers(
        detector() if detector else _nets()["calibrated"], images
    ), {"images": _GOOD}, {"detector": _DETECTORS, "images": _PIXELS}),
    Call("substitute.Settings", substitute.Settings, {}, {
        **{name: _count(name, 1) for name in ("rounds", "epochs", "batch_size")},
        **{name: _positive(name) for name in ("step", "learning_rate")},
    }),
    Call("substitute.fit", _with(substitute.fit, "classifier"), {"images": _GOOD, "labels": [1, 2, 3]}, {
        "images": _IMAGES, "labels": _LABELS, **_SEED,
    }),
    Call("substitute.augment", _with(substitute.augment, "classifier"), {"images": _GOOD, "labels": [1, 2, 3]}, {
        "images": _IMAGES, "labels": _LABELS,
    }),
    Call("accuracy.Proportion.of", accuracy.Proportion.of, {}, {
        "correct": [*_FLAG_WRONGS, Wrong("empty", np.zeros(0, bool), "at least one flag, .* got shape")],
    }),
    Call("accuracy.mcnemar", accuracy.mcnemar, {"first": _FLAGS_GIVEN, "second": _FLAGS_GIVEN}, {
        "first": [*_FLAG_WRONGS, Wrong("length", np.ones(4, bool), "pairs images")], "second": _FLAG_WRONGS,
    }),
    Call("accuracy.paired_difference", accuracy.paired_difference, {"first": _FLAGS_GIVEN, "second": _FLAGS_GIVEN}, {
        "first": [*_FLAG_WRONGS, Wrong("length", np.ones(4, bool), "needs the same images")], "second": _FLAG_WRONGS,
    }),
    Call("detection.AUC.of", detection.AUC.of, {"clean": _SCORES, "attacked": _SCORES}, {
        "clean": _SCORE_WRONGS, "attacked": _SCORE_WRONGS,
    }),
    Call("means.Mean.of", means.Mean.of, {}, {"values": [
        Wrong("one", [1.0], "two or more finite values"), Wrong("rank", [[1.0, 2.0]], "two or more finite values"),
        Wrong("NaN", [1.0, np.nan], "two or more finite values"), Wrong("empty", [], "two or more finite values"),
    ]}),
    Call("detection.feature_score", _with(detection.feature_score, "classifier"), {"images": _GOOD}, {
        "projected": [Wrong("length", _GOOD[:2], "alike"), Wrong("rank", _GOOD[0], "alike")],
    }),
    Call("detection.image_score", detection.image_score, {"images": _GOOD}, {
        "projected": [Wrong("length", _GOOD[:2], "alike"), Wrong("rank", _GOOD[..., 0], "alike")],
    }),
    Call("data.spec", data.spec, {}, {"name": [Wrong("name", "svhn", "Unknown dataset 'svhn'; choose one of mnist")]}),
    Call("data.load", data.load, {"name": "mnist", "split": "test"}, {
        "name": [Wrong("name", "svhn", "Unknown dataset 'svhn'"), Wrong("nothing", None, "Unknown dataset None")],
        "split": [Wrong("name", "all", "Unknown split 'all' of mnist; choose one of train, validation, test")],
        "limit": [*_count("limit", 1, optional=True), Wrong("many", 10_001, "10000 images here, 10001 were asked for")],
    }),
    Call("data.stream", data.stream, {"name": "mnist", "split": "test", "batch_size": 4, "seed": 0}, {
        "batch_size": _count("batch_size", 1), **_SEED, "start": _count("start", 0),
        "split": [Wrong("name", "all", "Unknown split 'all'")],
    }),
    Call("models.build_classifier", models.build_classifier, {"architecture": "A"}, {
        "architecture": [Wrong("name", "G", "Unknown classifier 'G'; choose one of A, B, C, D, E, F"),
                         Wrong("nothing", None, "Unknown classifier None")],
    }),
    *(
        Call(f"models.{build.__name__}", build, {}, {
            "image_shape": [Wrong("size", (29, 28, 1), "28x28|32x32", models.ImageShapeError)],
        })
        for build in (models.build_generator, models.build_discriminator, models.build_inverter)
    ),
    Call("presets.find", presets.find, {}, {
        "preset": [Wrong("name", "nowhere", "No preset .nowhere.: give the name", presets.PresetError)],
    }),
    Call("presets.load", presets.load, {"preset": "mnist"}, {
        "part": [Wrong("name", "encoder", "has no part 'encoder'; it has classifier_a", presets.PresetError)],
    }),
    Call("presets.load_classifier", presets.load_classifier, {"preset": "mnist"}, {
        "architecture": [Wrong("name", "G", "has no part 'classifier_g'", presets.PresetError)],
    }),
    Call("presets.read_card", presets.read_card, {"preset": "mnist"}, {
        "dataset": [Wrong("foreign", "fashion_mnist", "trained on mnist, not on fashion_mnist", presets.PresetError)],
    }),
    Call("InvGAN.from_preset", invgan_tf.InvGAN.from_preset, {}, {
        "preset": [Wrong("name", "nowhere", "No preset 'nowhere'", presets.PresetError)],
    }),
    Call("save_preset", lambda **more: invgan_tf.save_preset("nowhere", _nets()["invgan"], **more), {}, {
        "dataset": [Wrong("name", "svhn", "Unknown dataset 'svhn'")],
        "dtype": [Wrong("name", "float8", "dtype must be 'float32' or 'float16', got 'float8'")],
    }),
    Call("train_inverter", _with(inversion.train_inverter, "generator"), {}, {
        "steps": _count("steps", 1), **_SEED, "batch_size": _count("batch_size", 1),
    }),
    Call("GANTrainer", _with(gan.GANTrainer, "generator", "discriminator"), {}, {
        "batch_size": _count("batch_size", 1),
    }),
    Call("InverterTrainer", _with(inverter.InverterTrainer, "generator", "inverter", "discriminator"), {}, {
        "batch_size": _count("batch_size", 1),
    }),
    Call("loop.train", lambda **arguments: next(loop.train(None, **arguments)), {"steps": 1, "output_dir": "nowhere"}, {
        **{name: _count(name, 1) for name in ("steps", "chunk", "checkpoint_every", "summary_every")},
        "snapshot_every": _count("snapshot_every", 1, optional=True),
    }),
    *_TOOLBOXES,
    Call("validation.check_count", validation.check_count, {"name": "rounds", "minimum": 2}, {
        "value": _count("rounds", 2),
    }),
]  # fmt: skip

CASES = [
    pytest.param(call, argument, wrong, id=f"{call.name}-{argument}-{wrong.kind}")
    for call in CALLS
    for argument, wrongs in call.wrong.items()
    for wrong in wrongs
]


@pytest.mark.parametrize(("call", "argument", "wrong"), CASES)
def test_wrong_values_are_answered_as_written(call, argument, wrong):
    arguments = {**call.right, argument: wrong.value}
    before = {name: np.array(value, copy=True) for name, value in arguments.items() if isinstance(value, np.ndarray)}
    with pytest.raises(wrong.error, match=f"(?s){wrong.message}"):
        call.call(**arguments)
    for name, value in before.items():
        assert value.dtype == object or np.array_equal(arguments[name], value, equal_nan=value.dtype.kind == "f")


# Flags: every one that a program defines, with every wrong value of its type.


@functools.cache
def _program_flags():
    """Every flag that the programs define: {name: flag}."""
    for module in pkgutil.iter_modules(experiments.__path__):
        importlib.import_module(f"experiments.{module.name}")
    modules = flags.FLAGS.flags_by_module_dict()
    return {flag.name: flag for name, own in modules.items() if name.startswith("experiments.") for flag in own}


def _wrong_texts(flag):
    kind = type(flag.parser).__name__
    if kind == "IntegerParser":
        bounds = [flag.parser.lower_bound, flag.parser.upper_bound]
        outside = [str(bound + step) for bound, step in zip(bounds, (-1, 1)) if bound is not None]
        return ["many", "1.5", "", "nan", *outside]
    if kind == "FloatParser":
        return ["much", "", "nan", "inf", "-inf", *(["-1e9"] if flag.parser.lower_bound is not None else [])]
    if kind == "EnumParser":
        return ["no_such_choice", "", flag.parser.enum_values[0].upper() + "x"]
    if kind == "BooleanParser":
        return ["maybe", "2"]
    return []


FLAG_CASES = [
    pytest.param(name, text, id=f"--{name}={text}")
    for name, flag in sorted(_program_flags().items())
    for text in _wrong_texts(flag)
]


@pytest.mark.parametrize(("name", "text"), FLAG_CASES)
def test_wrong_flags_are_refused_by_name(name, text):
    with flagsaver.flagsaver(), pytest.raises(flags.IllegalFlagValueError, match=f"flag --{name}="):
        flags.FLAGS(["program", f"--{name}={text}"])


_EPS = ("linf_eps", "l2_eps", "few_eps")
LIST_FLAGS = {  # flag: members that are right, and wrong lists
    "attacks": ["magic", "clean,clean", "", "CLEAN"],
    "defenses": ["magic", "none,none", ""],
    "programs": ["table9", ""],
    "datasets": ["svhn", ""],
    "invgan_steps": ["", "5,1", "1,1", "-1,2", "a", "1.5"],
    "defensegan_marks": ["", "5,1", "1,1", "-1,2", "a"],
    "restarts_shown": ["", "5,1", "1,1", "-1,2", "a"],
    **{name: ["", "0", "-1,2", "far", "0.1,inf", "0.1,nan", "0.1,,0.3", "0.1,0.10"] for name in _EPS},
    "queries": ["", "0", "-1,2", "many", "1.5", "1000,nan", "1000,,5000", "5,5"],
    "pixel_range": ["", "0", "1,0", "0,0", "0,1,2", "zero,1", "0,nan", "-inf,1", "0,,1"],
    "loss_weights": ["", "1", "1,2", "1,2,3,4", "1,2,many", "1,-1,1", "1,nan,1", "1,inf,1", "0,0,0"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in LIST_FLAGS.items() for text in texts])
def test_wrong_lists_are_refused_by_name(name, text):
    with flagsaver.flagsaver(), pytest.raises(flags.IllegalFlagValueError, match=name):
        flags.FLAGS(["program", f"--{name}={text}"])


def test_every_number_choice_and_switch_has_cases():
    cased = {case.values[0] for case in FLAG_CASES} | set(LIST_FLAGS)
    left = {name: type(flag.parser).__name__ for name, flag in _program_flags().items() if name not in cased}
    assert set(left.values()) <= {"ArgumentParser", "ListParser", "CsvListSerializer"}, left  # texts: folders, names
    for name in ("no_such_flag", "num_imagesx"):
        with flagsaver.flagsaver(), pytest.raises(flags.UnrecognizedFlagError, match=name):
            flags.FLAGS(["program", f"--{name}=1"])


_VALIDATION = {"calibration_images": 60_000, "calibration_split": "validation"}
EXPORTS = {  # flags of experiments.export that do not fit together, or not to the preset: one line, before any work
    "projector": ({"projector": "fast"}, "--projector must be exact"),
    "preset": ({"preset": "nothing"}, "No preset 'nothing'"),
    "digits": ({"calibration_images": 10_001}, "--calibration_images must be at most 10000, .* got 10001"),
    "validation": (_VALIDATION, r"must be at most \d+, the images of mnist's validation split, got 60000"),
    "foreign": ({"preset": "own"}, "own is of no known dataset: give the --threshold"),
    "bfloat16": (
        {"preset": "own", "projection_dtype": "bfloat16", "threshold": 0.1},
        "--projection_dtype=bfloat16: .* cannot be folded",
    ),
    "classifier": ({"preset": "own", "projection_dtype": "float32", "threshold": 0.1}, "has no part 'classifier_a'"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with a preset "own", whose generator is no chain of layers and of no known dataset."""
    latents = keras.Input((3,))
    drawn = keras.layers.Dense(16, "sigmoid")(latents)
    drawn = keras.layers.Average()([drawn, keras.layers.Dense(16, "sigmoid")(latents)])
    generator = keras.Model(latents, keras.layers.Reshape((4, 4, 1))(drawn))
    inverse = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    folder = tmp_path_factory.mktemp("own")
    invgan_tf.save_preset(folder / "own", invgan_tf.InvGAN(generator, inverse))
    return folder


@pytest.mark.parametrize("kind", EXPORTS)
def test_what_cannot_be_exported_is_refused_before_work(own, tmp_path, monkeypatch, kind):
    given, message = EXPORTS[kind]
    if given.get("preset") == "own":
        given = given | {"preset": str(own / "own")}
    monkeypatch.setattr(data, "load", lambda *arguments, **keywords: pytest.fail("images were read"))
    _program_flags()
    flags.FLAGS(["program"])
    with (
        flagsaver.flagsaver(output_dir=str(tmp_path / "new"), **given),
        pytest.raises((common_flags.FlagError, presets.PresetError), match=message) as caught,
    ):
        export.main()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


# Files of a preset.


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """A preset of one small network that is whole, as a function of what to do to its files."""
    network = models.build_generator(width=2)

    def write(spoil):
        folder = tmp_path_factory.mktemp("preset")
        presets.save_weights(network, folder / "generator.safetensors")
        card = {"generator": {"dataset": "mnist", "sha256": presets.checksum(folder / "generator.safetensors")}}
        files.write_json(folder / "card.json", card)
        spoil(folder)
        return folder

    return write


def _weights(content):
    return lambda folder: (folder / "generator.safetensors").write_bytes(content)


def _card(content):
    return lambda folder: (folder / "card.json").write_bytes(content)


PRESETS = [
    Wrong("foreign weights", _weights(b"\x80\x04\x95pickle"), "damaged or foreign"),
    Wrong("empty weights", _weights(b""), "damaged or foreign"),
    Wrong("no weights", lambda folder: (folder / "generator.safetensors").unlink(), "is missing"),
    Wrong("no card", lambda folder: (folder / "card.json").unlink(), "No preset"),
    Wrong("card is no JSON", _card(b"{"), "not a readable card"),
    Wrong("card is no text", _card(b"\xff\xfe\x00"), "not a readable card"),
    Wrong("card is a list", _card(b"[]"), "is not a card"),
    Wrong("card of numbers", _card(b'{"generator": 7}'), "is not a card"),
    Wrong("no dataset", _card(b'{"generator": {"sha256": "0"}}'), "does not say"),
    Wrong("no checksum", _card(b'{"generator": {"dataset": "mnist"}}'), "does not say"),
    Wrong("deep card", _card(b"[" * 100_000), "not a readable card"),
]


@pytest.mark.parametrize("wrong", PRESETS, ids=[wrong.kind for wrong in PRESETS])
def test_presets_that_are_none_are_refused(part, wrong):
    with pytest.raises(presets.PresetError, match=wrong.message):
        presets.load(part(wrong.value), "generator")


@pytest.mark.parametrize("damage", ["no folder", "a file", "an empty folder"])
def test_training_data_that_are_not_there_are_named(tmp_path, monkeypatch, damage):
    import tensorflow_datasets as tfds

    folder = tmp_path / "tfds"
    if damage == "a file":
        folder.write_text("no dataset")
    elif damage == "an empty folder":
        folder.mkdir()

    def no_network(*arguments, **keywords):
        raise ConnectionError("the test has no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
    with pytest.raises(
        data.DataUnavailableError, match=r"mnist is not prepared in .*tfds.*--data_dir or TFDS_DATA_DIR"
    ):
        data.load("mnist", "train", data_dir=folder, limit=1)


def test_the_table_is_long():
    assert len(CASES) + len(FLAG_CASES) + len(PRESETS) > 400
    assert not pathlib.Path("nowhere").exists()  # the folder that no refused training may make
