"""The networks and training steps of `benchmarks.training` in PyTorch, channels last.

Needs PyTorch to be imported at all. Where Keras pads a convolution of stride 2 by one pixel before and two after,
these pad two on both sides, and transposed convolutions mirror that: shapes and work are the same.
"""

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from invgan_tf import losses

_LATENT_DIM = 128
_BATCH_NORM = {"eps": 1e-5, "momentum": 0.1}  # PyTorch's momentum is one less Keras's
_EPSILON = 1e-7  # Keras's default of Adam

Networks = dict[str, nn.Module]


class _Function(nn.Module):
    """A function of a tensor as a layer."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


class _Single(nn.Module):
    """A layer in float32 whatever the precision around it, as the last one of every Keras network is."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.layer(x.float())


def gan(images: torch.Tensor, dtype: str) -> tuple[Networks, Callable[[], torch.Tensor]]:
    """Returns the trained networks and a function that makes one step of `GANTrainer`.

    Args:
        images: the real ones of every step, `[n, c, h, w]`.
        dtype: "float32" or "bfloat16", of the forward passes by autocast.
    """
    generator, discriminator = _generator(), _discriminator()
    generator_adam, discriminator_adam = _adam(generator, 1e-4), _adam(discriminator, 4e-4)
    precision = _precision(dtype)

    def step():
        discriminator.eval()
        with precision():
            loss = -discriminator(generator(_latents(images))).mean()
        _descend(generator, generator_adam, loss)
        discriminator.train()
        with precision(), torch.no_grad():
            fake = generator(_latents(images))
        with precision():  # one call for both halves: u moves once a step
            real_logits, fake_logits = discriminator(torch.cat([images, fake])).chunk(2)
            loss = functional.relu(1.0 - real_logits).mean() + functional.relu(1.0 + fake_logits).mean()
        _descend(discriminator, discriminator_adam, loss)
        return loss

    return {"generator": generator, "discriminator": discriminator}, step


def inverter(images: torch.Tensor, dtype: str) -> tuple[Networks, Callable[[], torch.Tensor]]:
    """Returns the trained networks and a function that makes one step of `InverterTrainer`.

    Args:
        images: as many as a step draws; the generator is all that is known of the data.
        dtype: as for `gan`.
    """
    generator = _generator().eval().requires_grad_(False)
    inverter, discriminator = _inverter(), _discriminator()
    inverter_adam, discriminator_adam = _adam(inverter, 2e-4), _adam(discriminator, 4e-4)
    precision = _precision(dtype)

    def step():
        with precision(), torch.no_grad():
            drawn = generator(_latents(images))
            reconstructions = generator(inverter(drawn))
        discriminator.train()
        with precision():
            real_logits, fake_logits = discriminator(torch.cat([drawn, reconstructions])).chunk(2)
            loss = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
        _descend(discriminator, discriminator_adam, loss)
        discriminator.eval()
        with precision():
            latents = _latents(images)
            drawn = generator(latents)
            recovered = inverter(drawn)
            reconstructions = generator(recovered)
            errors = (drawn - reconstructions).abs().mean(dim=2)
            semantic = functional.relu(errors - losses.SEMANTIC_MARGIN).mean()
            latent = (latents - recovered).square().mean()
            adversarial = functional.softplus(-discriminator(reconstructions)).mean()
            loss = losses.LAMBDA_ADVERSARIAL * adversarial + losses.LAMBDA_SEMANTIC * semantic
            loss = loss + losses.LAMBDA_LATENT * latent
        _descend(inverter, inverter_adam, loss)
        return loss

    return {"inverter": inverter, "inverter_discriminator": discriminator}, step


def classifier(images: torch.Tensor, dtype: str, labels: torch.Tensor) -> tuple[Networks, Callable[[], torch.Tensor]]:
    """Returns classifier A and a function that makes one step of `ClassifierTrainer`.

    Args:
        images, dtype: as for `gan`.
        labels: the images' own.
    """
    network = _channels_last(
        nn.Conv2d(1, 64, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 5, 2),
        nn.ReLU(),
        nn.Dropout(0.25),
        _Function(_flatten),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        _Single(nn.Linear(128, 10)),
    )
    adam, precision = _adam(network, 1e-3, beta1=0.9), _precision(dtype)

    def step():
        with precision():
            loss = functional.cross_entropy(network(images), labels)
        _descend(network, adam, loss)
        return loss

    return {"classifier_a": network}, step


def _generator():
    return _channels_last(
        nn.Linear(_LATENT_DIM, 4 * 4 * 256),
        nn.BatchNorm1d(4 * 4 * 256, **_BATCH_NORM),
        nn.ReLU(),
        _Function(lambda x: x.view(-1, 4, 4, 256).permute(0, 3, 1, 2)),
        nn.ConvTranspose2d(256, 128, 5, 2, padding=2, output_padding=1),
        nn.BatchNorm2d(128, **_BATCH_NORM),
        nn.ReLU(),
        _Function(lambda x: x[:, :, :7, :7]),
        nn.ConvTranspose2d(128, 64, 5, 2, padding=2, output_padding=1),
        nn.BatchNorm2d(64, **_BATCH_NORM),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 5, 2, padding=2, output_padding=1),
        _Function(lambda x: torch.sigmoid(x.float())),
    )


def _discriminator():
    layers = []
    for channels, filters in ((1, 64), (64, 128), (128, 256)):
        conv = nn.Conv2d(channels, filters, 5, 2, padding=2)
        layers += [parametrizations.spectral_norm(conv), nn.LeakyReLU(0.2)]
    dense = parametrizations.spectral_norm(nn.Linear(4 * 4 * 256, 1))
    return _channels_last(*layers, _Function(_flatten), _Single(dense))


def _inverter():
    layers = []
    for channels, filters in ((1, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(channels, filters, 5, 2, padding=2), nn.ReLU()]
    return _channels_last(*layers, _Function(_flatten), _Single(nn.Linear(4 * 4 * 256, _LATENT_DIM)))


def _channels_last(*layers):
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _flatten(x):
    return x.permute(0, 2, 3, 1).flatten(1)  # Keras's order; of channels last nothing is copied


def _latents(images):
    return torch.randn(len(images), _LATENT_DIM)


def _adam(network, learning_rate, beta1=0.5):
    return torch.optim.Adam(network.parameters(), learning_rate, (beta1, 0.999), eps=_EPSILON, fused=True)


def _precision(dtype):
    """Returns a context of autocast to enter once a loss: it would keep its casts of weights that have moved."""
    return functools.partial(torch.autocast, "cpu", torch.bfloat16, enabled=dtype == "bfloat16")


def _descend(network, adam, loss):
    """Takes gradients to this network's parameters alone, as `tape.gradient` does."""
    adam.zero_grad(set_to_none=True)
    loss.backward(inputs=list(network.parameters()))
    adam.step()
