"""From what phases cost to what the paper's budget would: straight lines, counted operations, an estimate."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from invgan_tf import models

_BPDA_ROUNDS, _BPDA_ITERATIONS = 4, 100


class Phase(NamedTuple):
    """A phase's costs: seconds of one thread for each amount of work, and what a unit of that is."""

    name: str
    unit: str
    work: list[float]
    seconds: list[float]

    def line(self) -> tuple[float, float, float]:
        """Returns seconds at no work, seconds a unit, and R squared of the straight line through the costs."""
        slope, start = np.polyfit(self.work, self.seconds, 1)
        left = np.array(self.seconds) - (start + slope * np.array(self.work))
        return float(start), float(slope), 1.0 - float(left.var() / np.var(self.seconds))


def budget(phases: Sequence[Phase], many: int) -> dict[str, float]:
    """Returns hours of one thread that the paper's budget would take by the model: an estimate, not measured.

    10,000 images; InvGAN T = 1000, DefenseGAN R L = 2000; white-box columns Clean, FGSM, CW, RP and BPDA, whose 400
    iterations each project cold; 200,000 GAN steps of 50 images, 100,000 inverter steps of 25 latents.

    Args:
        phases: as `benchmarks.scaling` measures them.
        many: the images of the descents among them.
    """
    line = {phase.name: phase.line() for phase in phases}
    step = {name: line[f"{name}, {many} images"][1] for name in ("InvGAN", "DefenseGAN, R = 4")}
    images, hour = 10_000, 3600.0
    descents = {"InvGAN": 1000 * step["InvGAN"], "DefenseGAN": 2000 * step["DefenseGAN, R = 4"]}
    return {
        "GAN training": 200_000 * (line["GAN training"][0] + 50 * line["GAN training"][1]) / hour,
        "inverter training": 100_000 * (line["inverter training"][0] + 25 * line["inverter training"][1]) / hour,
        "CW attack": images * 600 * line["CW on the classifier"][1] / hour,
        **{f"{name}, four columns": 4 * images * cost / hour for name, cost in descents.items()},
        **{
            f"BPDA on {name}, cold": images * _BPDA_ROUNDS * _BPDA_ITERATIONS * cost / hour
            for name, cost in descents.items()
        },
    }


def multiply_adds(model: keras.Model) -> int:
    """Returns the multiplications of a forward pass for one image, in dense and convolutional layers."""
    total = 0
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.kernel.shape))
        elif isinstance(layer, keras.layers.Conv2D):
            total += int(np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3]))
        elif isinstance(layer, keras.layers.Conv2DTranspose):
            total += int(np.prod(layer.kernel.shape) * np.prod(layer.input.shape[1:3]))
    return total


def operations() -> dict[str, float]:
    """Returns the floating-point operations of `budget`'s rows, by the layers' sizes alone.

    A pass forward costs two operations a multiplication, one back to the inputs as much, one to the weights as much
    again. Descent goes forward and back to the latents.
    """
    mirrored = models.build_inverter()
    generator, inverse = 2 * multiply_adds(models.build_generator()), 2 * multiply_adds(mirrored)
    classifier = 2 * multiply_adds(models.build_classifier("A"))
    discriminator = inverse - 2 * int(np.prod(mirrored.get_layer("latents").kernel.shape))  # the same convolutions
    # Of a GAN step: G trained through D, then D trained on both halves, which G draws one of.
    gan_step = 3 * generator + 2 * discriminator + generator + 2 * 3 * discriminator
    # Of an inverter's: D's step on G(z) and G(I(G(z))), then I trained through G and D.
    inverter_step = (
        2 * generator + inverse + 6 * discriminator + generator + 3 * inverse + 2 * (generator + discriminator)
    )
    images, image_step = 10_000, 2 * generator
    descents = {"InvGAN": 1000 * image_step, "DefenseGAN": 2000 * image_step}
    return {
        "GAN training": 200_000 * 50 * gan_step,
        "inverter training": 100_000 * 25 * inverter_step,
        "CW attack": images * 600 * 2 * classifier,
        **{f"{name}, four columns": 4 * images * cost for name, cost in descents.items()},
        **{f"BPDA on {name}, cold": images * _BPDA_ROUNDS * _BPDA_ITERATIONS * cost for name, cost in descents.items()},
    }
