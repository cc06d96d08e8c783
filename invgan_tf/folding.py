"""A generator made ready for descent: batch norm folded into the layers before it, in the precision asked for.

Eq. 6 runs a frozen generator thousands of times. In inference mode its batch norms are affine maps, which the
layer before can take over; cropped rows need not be computed; and a transposed convolution to few channels is
far cheaper as an ordinary one followed by a rearrangement. Only a chain of known layers is rewritten; any other
model is called as it is.
"""

import functools
import itertools
import pathlib
import statistics
import time
from collections.abc import Callable

import keras
import tensorflow as tf

_LINEAR = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Conv2DTranspose)
_POINTWISE = (
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.Activation,
)
_KNOWN = (*_LINEAR, *_POINTWISE, keras.layers.Reshape, keras.layers.Flatten, keras.layers.Cropping2D)
_DESCRIBED = pathlib.Path("/proc/cpuinfo")
_TRIAL, _TRIALS = 768, 7  # size of a trial's square matrices; how often
_PAYS = 0.9  # of float32's time: less is not worth the rounding
_FEW_CHANNELS = 4  # up to here a transposed convolution's own kernel leaves most of a vector register idle


def fold(generator: keras.Model, dtype: str = "float32") -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns G in inference mode as a function of latents; a graph function, called inside compiled code.

    The weights are read when it is called, so that a compiled loop which folds at its start always has the
    model's present ones.

    Args:
        generator: Keras model from latents to images.
        dtype: precision of the matrix products, as `check_dtype` allows it.

    Returns:
        A function from latents `[n, latent_dim]` to float32 images `[n, h, w, c]`.
    """
    chain = _chain(generator)
    if chain is None:
        return lambda latents: tf.cast(generator(latents, training=False), tf.float32)
    # The first layer in float32: latents rounded to 8 bits would stand still under small steps.
    first, *rest = _groups(chain)
    steps = [_step(first, _exactly), *(_step(layers, _OPERANDS[dtype]) for layers in rest)]

    def draw(latents):
        x = latents
        for step in steps:
            x = step(x)
        return tf.cast(x, tf.float32)

    return draw


@functools.cache
def bfloat16_pays() -> bool:
    """Returns whether matrix products of bfloat16 are faster here than float32's.

    A GPU's are. A processor that lacks the instructions, as far as Linux tells, is not even tried; one that has them
    need not be fast at them (on some they take twice as long), so a trial of a tenth of a second decides.
    """
    if tf.config.list_physical_devices("GPU"):
        return True
    features = set(_DESCRIBED.read_text(encoding="utf-8").split()) if _DESCRIBED.is_file() else set()
    if not features & {"avx512_bf16", "amx_bf16"}:
        return False
    with tf.init_scope():  # outside the graph that is being traced, if any
        operands = {dtype: tf.ones((_TRIAL, _TRIAL), dtype) for dtype in (tf.float32, tf.bfloat16)}
        seconds = {dtype: [] for dtype in operands}
        for _ in range(1 + _TRIALS):  # the first warms up
            for dtype, matrix in operands.items():
                began = time.perf_counter()
                tf.matmul(matrix, matrix).numpy()
                seconds[dtype].append(time.perf_counter() - began)
    medians = {dtype: statistics.median(taken[1:]) for dtype, taken in seconds.items()}
    return medians[tf.bfloat16] < _PAYS * medians[tf.float32]


def _exactly(x):
    return tf.cast(x, tf.float32)


def _rounded(x):
    """Rounds an operand of a matrix product to bfloat16.

    Where the processor cannot multiply those faster, float32 multiplies them: TensorFlow's own way without the
    instructions adds up in bfloat16 too, which is far slower and less exact.
    """
    x = tf.cast(x, tf.bfloat16)
    return x if bfloat16_pays() else tf.cast(x, tf.float32)


_OPERANDS = {"float32": _exactly, "bfloat16": _rounded}  # what a matrix product is made of


def check_dtype(generator: keras.Model, dtype: str) -> str:
    """Returns `dtype` if the generator can be folded in it, or raises ValueError.

    A model that is not a chain of known layers computes in its own precision: only "float32", for its output.
    """
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be 'float32' or 'bfloat16', got {dtype!r}.")
    if dtype != "float32" and _chain(generator) is None:
        raise ValueError(
            f"{generator.name} cannot be folded in {dtype}: it is not one chain of Dense, convolution, batch norm and "
            f"activation layers. Build it with dtype='{dtype}' itself."
        )
    return dtype


def _chain(model):
    """Returns the layers of a chain this module can rewrite, or None."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if not all(layer.__class__ in _KNOWN for layer in layers):
        return None
    try:
        connected = all(later.input is earlier.output for earlier, later in itertools.pairwise(layers))
    except (AttributeError, ValueError):  # a layer used twice, or not at all
        return None
    known = all(_supported(layer) for layer in layers)
    return layers if connected and known and model.outputs[0] is layers[-1].output else None


def _supported(layer):
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.axis in (-1, len(layer.input.shape) - 1)
    if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose):
        plain = (
            layer.dilation_rate == (1, 1)
            and getattr(layer, "groups", 1) == 1
            and getattr(layer, "output_padding", None) is None
        )
        return plain and layer.data_format == "channels_last" and layer.padding == "same"
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _groups(chain):
    """Cuts a chain into runs that become one step: a linear layer with the batch norm and cropping it takes over."""
    groups: list[list] = []
    for layer in chain:
        before = groups[-1] if groups else []
        linear = before and isinstance(before[0], _LINEAR) and before[0].activation is keras.activations.linear
        if linear and len(before) == 1 and isinstance(layer, keras.layers.BatchNormalization):
            before.append(layer)
        elif isinstance(layer, keras.layers.Cropping2D) and _cropped(groups):
            _cropped(groups).append(layer)
        else:
            groups.append([layer])
    return groups


def _cropped(groups):
    """Returns the transposed convolution that can crop instead, past layers that look at one place at a time."""
    for group in reversed(groups):
        if isinstance(group[0], keras.layers.Conv2DTranspose):
            return None if isinstance(group[-1], keras.layers.Cropping2D) else group
        if not isinstance(group[0], _POINTWISE):
            return None
    return None


def _step(group, operand):
    first = group[0]
    if isinstance(first, keras.layers.BatchNormalization):
        scale, shift = (operand(part) for part in _affine(first))
        return lambda x: operand(x) * scale + shift
    if isinstance(first, keras.layers.Activation):  # in float32: a bfloat16 sigmoid has 8 bits
        return lambda x: first.call(tf.cast(x, tf.float32))
    if not isinstance(first, _LINEAR):
        return first.call
    kernel = tf.cast(first.kernel, tf.float32)
    bias = tf.cast(first.bias, tf.float32) if first.use_bias else tf.zeros((1,))
    cropping = (0, 0), (0, 0)
    for layer in group[1:]:
        if isinstance(layer, keras.layers.Cropping2D):
            cropping = layer.cropping
            continue
        scale, shift = _affine(layer)
        transposed = isinstance(first, keras.layers.Conv2DTranspose)
        kernel, bias = kernel * (scale[:, None] if transposed else scale), bias * scale + shift
    product = _product(first, operand(kernel), cropping)
    bias, activation = operand(bias), first.activation
    if activation is keras.activations.linear:
        return lambda x: product(operand(x)) + bias
    return lambda x: activation(tf.cast(product(operand(x)) + bias, tf.float32))


def _affine(norm):
    """Returns the scale and shift that a batch norm is in inference mode."""
    mean, variance = tf.cast(norm.moving_mean, tf.float32), tf.cast(norm.moving_variance, tf.float32)
    scale = tf.math.rsqrt(variance + norm.epsilon)
    if norm.scale:
        scale *= tf.cast(norm.gamma, tf.float32)
    shift = -mean * scale
    return scale, shift + tf.cast(norm.beta, tf.float32) if norm.center else shift


def _product(layer, kernel, cropping):
    if isinstance(layer, keras.layers.Dense):
        return lambda x: tf.linalg.matmul(x, kernel)
    if isinstance(layer, keras.layers.Conv2D):
        return lambda x: tf.nn.conv2d(x, kernel, layer.strides, "SAME")
    return _transposed(layer, kernel, cropping)


def _transposed(layer, kernel, cropping):
    """A SAME transposed convolution of which some rows and columns are dropped.

    Its gradient is an ordinary convolution, where what was dropped is zero padding: nothing has to be put back.
    """
    rows, columns = (slice(before, -after or None) for before, after in cropping)
    height, width = layer.strides
    padding = [[0, 0], [0, 0], [0, 0], [0, 0]]
    for axis, (size, stride) in enumerate(zip(kernel.shape[:2], layer.strides)):
        total = max(size - stride, 0)
        padding[1 + axis] = [total // 2 + cropping[axis][0], total - total // 2 + cropping[axis][1]]
    taps = _paired_taps(kernel) if _has_few_channels(kernel, layer.strides) else None

    @tf.custom_gradient
    def product(x):
        if taps is None:
            shape = tf.shape(x)
            sides = [shape[0], shape[1] * height, shape[2] * width, kernel.shape[2]]
            images = tf.nn.conv2d_transpose(x, kernel, sides, layer.strides, "SAME")
        else:
            images = tf.nn.depth_to_space(tf.nn.conv2d(x, taps, 1, "SAME"), 2)
        return images[:, rows, columns], lambda upstream: tf.nn.conv2d(upstream, kernel, layer.strides, padding)

    return product


def _has_few_channels(kernel, strides):
    return tuple(kernel.shape[:2]) == (5, 5) and tuple(strides) == (2, 2) and kernel.shape[2] <= _FEW_CHANNELS


def _paired_taps(kernel):
    """A 5x5 SAME transposed convolution of stride 2, as a 3x3 one that gives each doubled pixel's four as channels.

    Along an axis, tap k of output 2m + p reads input m + t - 1 with k = 3 + p - 2t: with one zero before
    them the taps are pairs (t, p) in falling t.
    """
    outputs, inputs = kernel.shape[2:]
    taps = tf.reshape(tf.pad(kernel, [[1, 0], [1, 0], [0, 0], [0, 0]]), (3, 2, 3, 2, outputs, inputs))
    taps = tf.transpose(tf.reverse(taps, [0, 2]), (0, 2, 5, 1, 3, 4))
    return tf.reshape(taps, (3, 3, inputs, 4 * outputs))
