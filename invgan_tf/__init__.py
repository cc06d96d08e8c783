"""InvGAN: projection of images onto a generator, for defence and detection of adversarial attacks.

"Invert and Defend" (Lin, Balaji, Samangouei, Chellappa) in TensorFlow 2 and Keras. Images are arrays `[n, h, w, c]`
of float32 in the generator's range, latents `[n, latent_dim]` from N(0, I), labels `[n]` of integers; a wrong shape,
dtype or range is a ValueError that names what came and what was expected.

    defense = InvGAN.from_preset("mnist")              # or InvGAN(generator, train_inverter(generator))
    purified = defense.project(images).images          # Eq. 6
    defended = Defended(load_classifier("mnist", "A"), defense)
    detector = AttackDetector(defended)                # Eq. 7
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "AttackDetector": "defenses",
    "Defended": "defenses",
    "Defense": "defenses",
    "DefenseGAN": "defenses",
    "InvGAN": "defenses",
    "Projection": "projection",
    "list_presets": "presets",
    "load_classifier": "presets",
    "save_preset": "presets.saving",
    "train_inverter": "inversion",
}
_ROOMS = (
    "attacks",
    "data",
    "defenses",
    "evaluation",
    "integrations",
    "inversion",
    "losses",
    "models",
    "presets",
    "projection",
    "serving",
    "training",
)

__all__ = [
    "AttackDetector",
    "Defended",
    "Defense",
    "DefenseGAN",
    "InvGAN",
    "Projection",
    "__version__",
    "attacks",
    "data",
    "list_presets",
    "load_classifier",
    "save_preset",
    "train_inverter",
]


def __getattr__(name: str):
    """Imports a public name when it is first asked for: `import invgan_tf` alone stays light."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    """Returns the public names too that are not imported yet, for help() and completion."""
    return sorted({*globals(), *__all__})
