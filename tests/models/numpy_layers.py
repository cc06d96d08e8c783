"""Layers in NumPy, written out: what the Keras networks are compared with."""

import numpy as np


def randomize(model):
    """Gives every weight, moving averages included, a value that shows."""
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "moving_variance" in weight.path or "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "kernel" not in weight.path:
            weight.assign(rng.normal(0.0, 0.2, weight.shape))
    return model


def weights(model):
    return {weight.path: np.asarray(weight, np.float64) for weight in model.weights}


def conv(images, kernel, stride=2):
    """SAME convolution: padding is shared out with the odd row at the end."""
    size, outputs = kernel.shape[0], -(-images.shape[1] // stride)
    total = (outputs - 1) * stride + size - images.shape[1]
    pad = (total // 2, total - total // 2)
    padded = np.pad(images, ((0, 0), pad, pad, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
    return np.einsum("nijcab,abco->nijo", windows, kernel)


def deconv(images, kernel, stride=2):
    """SAME transposed convolution: every pixel stamps the kernel, then the margin is cut off."""
    count, rows = images.shape[:2]
    size = kernel.shape[0]
    canvas = np.zeros((count, (rows - 1) * stride + size, (rows - 1) * stride + size, kernel.shape[2]))
    for i, j in np.ndindex(rows, rows):
        stamp = np.einsum("nc,aboc->nabo", images[:, i, j], kernel)
        canvas[:, i * stride : i * stride + size, j * stride : j * stride + size] += stamp
    before = (size - stride) // 2
    return canvas[:, before : before + rows * stride, before : before + rows * stride]


def relu(x, slope=0.0):
    return np.where(x > 0, x, slope * x)


def batch_norm(x, values, layer, epsilon=1e-5):
    """Batch norm in inference mode, by a model's weights."""
    scale = values[f"{layer}/gamma"] / np.sqrt(values[f"{layer}/moving_variance"] + epsilon)
    return (x - values[f"{layer}/moving_mean"]) * scale + values[f"{layer}/beta"]


def doubled(x):
    """Nearest-neighbour upsampling."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def halved(x):
    """Average pooling over 2x2."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def normalized(values, layer, kernel):
    """A kernel divided by the singular value that one power iteration from the stored u gives."""
    matrix = values[kernel].reshape(-1, values[kernel].shape[-1])
    v = matrix @ values[f"{layer}/u"]
    v /= np.linalg.norm(v)
    return values[kernel] / np.linalg.norm(v @ matrix)
