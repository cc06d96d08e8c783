"""InvGAN: projection of images onto a generator, for defence and detection of adversarial attacks."""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "AttackDetector": "defenses",
    "Defended": "defenses",
    "DefenseGAN": "defenses",
    "InvGAN": "defenses",
    "load_classifier": "presets",
}
_ROOMS = ("attacks", "data", "defenses", "evaluation", "losses", "models", "presets", "projection", "training")

__all__ = ["AttackDetector", "Defended", "DefenseGAN", "InvGAN", "__version__", "load_classifier"]


def __getattr__(name: str):
    """Imports a public name when it is first asked for: `import invgan_tf` alone stays light."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
