"""Every network under the name that presets and programs give it, by family."""

import keras

from invgan_tf.models import age, ali, dcgan, sn_resnet

DEFAULT_WIDTH = 64  # the paper's


def _gan(module):
    return {
        "generator": module.build_generator,
        "discriminator": module.build_discriminator,
        "inverter": module.build_inverter,
        "ablation_inverter": module.build_inverter,
    }


_BUILDERS = {
    "dcgan": _gan(dcgan),
    "sn_resnet": _gan(sn_resnet),
    "ali": {
        "ali_encoder": ali.build_encoder,
        "ali_decoder": ali.build_decoder,
        "ali_discriminator": ali.build_discriminator,
    },
    "age": {"age_encoder": age.build_encoder, "age_generator": age.build_generator},
}
GAN_FAMILIES = ("dcgan", "sn_resnet")
"""Families of generators that a GAN's training and an inverter's take."""


def build(
    part: str,
    image_shape: tuple[int, int, int],
    *,
    family: str = "dcgan",
    width: int = DEFAULT_WIDTH,
    dtype: str = "float32",
) -> keras.Model:
    """Builds a network.

    Args:
        part: "generator", "discriminator", "inverter" or "ablation_inverter" of a GAN family; "ali_encoder",
            "ali_decoder", "ali_discriminator"; "age_encoder", "age_generator".
        image_shape: height, width and channels of the images.
        family: "dcgan", "sn_resnet", "ali" or "age".
        width: base width; the paper's networks have 64.
        dtype: Keras dtype policy of the layers.

    Raises:
        ValueError: for a family or part that there is not.
        ImageShapeError: for images that the family has no network for.
    """
    if part not in _BUILDERS.get(family, ()):
        known = "; ".join(f"{name}: {', '.join(parts)}" for name, parts in _BUILDERS.items())
        raise ValueError(f"There is no {part!r} of a family {family!r}; there are {known}.")
    return _BUILDERS[family][part](image_shape, width=width, dtype=dtype)
