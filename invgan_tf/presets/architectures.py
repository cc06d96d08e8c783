"""Networks that are not the package's own: their Keras configuration as JSON, checked before it is built.

A configuration can name code: a Lambda carries Python, a custom class is whatever its module says. Only Keras's own
layers, and those of this package, are built.
"""

import json
import os
import pathlib
import zipfile

import keras

from invgan_tf import files

# Layers of Keras that run code or read files which their configuration names.
_UNSAFE = frozenset({"Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "__lambda__"})


class ArchitectureError(ValueError):
    """A network that cannot be read, or will not be built for what its configuration names."""


def _check(config, where) -> None:
    """Raises ArchitectureError where a configuration names anything but Keras's own parts and this package's."""
    pending = [config]
    while pending:
        part = pending.pop()
        pending.extend(part.values() if isinstance(part, dict) else part if isinstance(part, list) else ())
        if not isinstance(part, dict) or "class_name" not in part:
            continue
        name, module = part["class_name"], part.get("module")
        known = module is None or module in ("builtins", "keras") or str(module).startswith("keras.")
        ours = str(part.get("registered_name")).startswith("invgan_tf>")
        if name in _UNSAFE or not (known or ours):
            raise ArchitectureError(
                f"{where} holds {name!r}{f' of {module}' if module else ''}, which is code that will not be run: build "
                "the network of Keras's own layers, or call invgan_tf.train_inverter in your own program."
            )


def save(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes a model's configuration, without its weights, as JSON.

    Raises:
        ArchitectureError: for a model that `load` would refuse; nothing is written.
    """
    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ArchitectureError(
            f"{model.name} cannot be described ({str(error).strip().splitlines()[0]}): make it a functional or "
            "sequential model of Keras's own layers."
        ) from error
    config.pop("compile_config", None)
    _check(config, model.name)
    files.write_json(path, config)


def load(path: str | os.PathLike) -> keras.Model:
    """Builds the model that `save` described, with fresh weights.

    Raises:
        ArchitectureError: for a file that is unreadable or names anything but known layers.
    """
    try:
        config = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArchitectureError(f"{path} is not a readable architecture: {error}.") from error
    _check(config, path)
    return _built(lambda: keras.saving.deserialize_keras_object(config, safe_mode=True), path)


def load_keras_file(path: str | os.PathLike) -> keras.Model:
    """Loads a model that `model.save("name.keras")` wrote, its configuration checked first.

    Args:
        path: a `.keras` file of Keras 3.

    Returns:
        The model with its weights, not compiled.

    Raises:
        ArchitectureError: for a file that is not one, or names anything but known layers.
    """
    if pathlib.Path(path).suffix != ".keras":
        raise ArchitectureError(f"{path} is not a .keras file: save the model by model.save('name.keras').")
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ArchitectureError(f"{path} is not a readable .keras file: {error}.") from error
    _check(config, path)
    return _built(lambda: keras.saving.load_model(path, compile=False, safe_mode=True), path)


def _built(build, path) -> keras.Model:
    try:
        model = build()
    except Exception as error:  # Keras, h5py and NumPy raise their own for a damaged or foreign file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArchitectureError(f"{path} cannot be built: {reason}") from error
    if not isinstance(model, keras.Model):
        raise ArchitectureError(f"{path} holds a {type(model).__name__}, not a model.")
    return model
