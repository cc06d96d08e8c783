"""An untrained preset, and programs run in this process: seconds less than a process of their own."""

import json

import keras
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import common_flags, inference, table4, whitebox
from invgan_tf import files, models, presets

SMALL = {
    "dataset": "mnist",
    "num_images": 6,
    "steps": 3,
    "defensegan_steps": 2,
    "restarts": 2,
    "bpda_images": 2,
    "bpda_steps": 1,
    "workers": 1,
    "projection_dtype": "float32",
}


@pytest.fixture(scope="session")
def write_preset():
    """Returns a function that writes an untrained preset into a folder."""

    def write(folder, seed):
        keras.utils.set_random_seed(seed)
        networks = {
            "generator": models.build_generator(),
            "inverter": models.build_inverter(),
            **{f"classifier_{name.lower()}": models.build_classifier(name) for name in "AEF"},
        }
        folder.mkdir()
        card = {}
        for name, network in networks.items():
            path = folder / f"{name}.safetensors"
            presets.save_weights(network, path)
            card[name] = {"dataset": "mnist", "sha256": presets.checksum(path)}
        files.write_json(folder / "card.json", card)
        return folder

    return write


@pytest.fixture(scope="session")
def preset(write_preset, tmp_path_factory):
    """An untrained preset's folder."""
    return write_preset(tmp_path_factory.mktemp("presets") / "first", 1)


@pytest.fixture(scope="session")
def run_program(preset):
    """Returns a function that runs a program in this process on few images and gives its results.json."""

    def run(program, folder, **values):
        flags.FLAGS(["program"])
        caches = whitebox.from_flags, table4._attack, inference.from_flags
        for cache in caches:
            cache.cache_clear()
        given = SMALL | {"preset_dir": str(preset), "output_dir": str(folder)} | values
        with flagsaver.flagsaver(**{name: value for name, value in given.items() if name in flags.FLAGS}):
            program.main()
        for cache in caches:
            cache.cache_clear()
        return json.loads((folder / "results.json").read_text())

    return run


@pytest.fixture
def refused(run_program, tmp_path):
    """Returns a function that runs a program with bad flags and gives the one-line error."""

    def run(program, **values):
        with pytest.raises((common_flags.FlagError, flags.IllegalFlagValueError)) as caught:
            run_program(program, tmp_path, **values)
        assert not list(tmp_path.iterdir())
        return str(caught.value)

    return run
