"""What every test starts from: fixed seeds, no prepared datasets, and a few embedded images."""

import keras
import pytest

import experiments  # noqa: F401 - sets what TensorFlow reads when it is imported
from invgan_tf import data


@pytest.fixture(autouse=True)
def _fixed_seed_and_no_prepared_data(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def digits():
    """The first 200 embedded MNIST test images."""
    return data.load("mnist", "test", limit=200)
