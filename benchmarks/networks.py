"""The generators that benchmarks name, what an image-step of one costs, and the same network in PyTorch."""

import keras
import numpy as np

from invgan_tf import models, presets

RANDOM = "random:"


def build(name: str) -> keras.Model:
    """Returns a preset's generator ("mnist"), or an untrained one for images of a shape ("random:28x28x1")."""
    if name.startswith(RANDOM):
        shape = tuple(int(side) for side in name.removeprefix(RANDOM).split("x"))
        return models.build_generator(shape)
    return presets.load(name, "generator")


def image_step_flop(generator: keras.Model) -> float:
    """Returns the floating-point operations of one image's forward pass and gradient to its latents.

    Multiplications and additions of the matrix products alone; each is done once forward and once backward.
    """
    total = 0.0
    for layer in generator.layers:
        if isinstance(layer, keras.layers.Dense):
            places = 1
        elif isinstance(layer, keras.layers.Conv2DTranspose):
            places = np.prod(layer.input.shape[1:3])
        elif isinstance(layer, keras.layers.Conv2D):
            places = np.prod(layer.output.shape[1:3])
        else:
            continue
        total += 2 * np.prod(layer.kernel.shape) * places
    return 2 * total


def to_torch(generator: keras.Model, dtype: str):
    """Returns the same network in PyTorch, channels last and batch norm folded: a function of float32 latents.

    Raises:
        ImportError: where PyTorch is not installed, or a layer has no counterpart here.
    """
    import torch

    steps = []
    for layer in generator.layers[1:]:
        steps.append(_step(torch, layer, steps))
    steps = [step for step in steps if step is not None]
    dtype = getattr(torch, dtype)
    for step in steps:
        if isinstance(step, torch.nn.Module):
            step.to(dtype)
        elif isinstance(step, _Deconvolution):
            step.module.to(dtype)

    def run(latents):
        x = latents.to(dtype)
        for step in steps:
            x = step(x)
        return x

    return run


def _step(torch, layer, steps):
    functional = torch.nn.functional
    match layer:
        case keras.layers.Dense():
            linear = torch.nn.Linear(*layer.kernel.shape)
            _fill(torch, linear, np.transpose(layer.kernel.numpy()), layer.bias.numpy())
            return linear
        case keras.layers.Conv2DTranspose():
            return _Deconvolution(torch, layer)
        case keras.layers.BatchNormalization():
            scale = layer.gamma.numpy() / np.sqrt(layer.moving_variance.numpy() + layer.epsilon)
            shift = layer.beta.numpy() - layer.moving_mean.numpy() * scale
            _fold(torch, steps[-1], scale, shift)
            return None
        case keras.layers.ReLU():
            return functional.relu
        case keras.layers.Reshape():
            height, width, channels = layer.target_shape
            return lambda x: x.view(-1, height, width, channels).permute(0, 3, 1, 2)
        case keras.layers.Cropping2D():
            (top, bottom), (left, right) = layer.cropping
            return lambda x: x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]
        case keras.layers.Activation() if layer.activation is keras.activations.sigmoid:
            return lambda x: torch.sigmoid(x.float())
    raise ImportError(f"no PyTorch counterpart of {layer.name}, a {type(layer).__name__}, is written")


class _Deconvolution:
    """Keras's SAME transposed convolution: PyTorch's with the odd row and column cut off at the end."""

    def __init__(self, torch, layer):
        height, width, filters, channels = layer.kernel.shape
        stride = layer.strides[0]
        self.cut = (height - stride) % 2
        self.module = torch.nn.ConvTranspose2d(channels, filters, (height, width), stride, (height - stride) // 2)
        _fill(torch, self.module, np.transpose(layer.kernel.numpy(), (3, 2, 0, 1)), layer.bias.numpy())
        self.module.to(memory_format=torch.channels_last)

    def __call__(self, x):
        x = self.module(x)
        return x[:, :, : x.shape[2] - self.cut, : x.shape[3] - self.cut]


def _fill(torch, module, weight, bias):
    module.weight.data = torch.from_numpy(np.ascontiguousarray(weight))
    module.bias.data = torch.from_numpy(np.ascontiguousarray(bias))
    module.requires_grad_(False)


def _fold(torch, step, scale, shift):
    module = step if isinstance(step, torch.nn.Linear) else step.module
    scale, shift = torch.from_numpy(scale), torch.from_numpy(shift)
    shape = (-1, 1) if isinstance(step, torch.nn.Linear) else (1, -1, 1, 1)
    module.weight.data = module.weight.data * scale.view(shape)
    module.bias.data = module.bias.data * scale + shift
