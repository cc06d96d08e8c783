"""Package metadata of invgan_tf."""

import pathlib
import re

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(r'__version__ = "(.+)"', (_ROOT / "invgan_tf" / "__init__.py").read_text(encoding="utf-8")).group(
    1
)

setup(
    name="invgan_tf",
    version=_VERSION,
    description="Invert and Defend (InvGAN) in TensorFlow 2 and Keras: GAN inversion without data, "
    "and projection as an adversarial defence.",
    long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    packages=find_packages(include=["invgan_tf", "invgan_tf.*"]),
    package_data={"invgan_tf": ["embedded/*.npz", "presets/*/card.json", "presets/*/*.safetensors"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "keras>=3.15,<3.16",
        "cleverhans==4.0.0",
        "tensorflow-datasets>=4.9.10,<5",
        "importlib_resources",  # imported, but not declared, by tensorflow-datasets 4.9.10
        "tensorboard>=2.20",
        "numpy>=2.0",
        "scipy>=1.13",
        "scikit-learn>=1.5",
        "protobuf>=5",
        "safetensors>=0.5",
        "absl-py>=2.1",
        "tabulate>=0.9",
        "tqdm>=4.66",
        "matplotlib>=3.9",
        "markdown>=3.6",
    ],
    extras_require={
        "art": ["adversarial-robustness-toolbox==1.20.1"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.8",
            "ruff>=0.12",
            "adversarial-robustness-toolbox==1.20.1",
            "foolbox==3.3.4",
            "hypothesis>=6.150",
            "statsmodels>=0.14",
            "selenium>=4.30",
        ],
        "bench": ["torch>=2.9"],
        "foolbox": ["foolbox==3.3.4", "eagerpy==0.30.0"],
        "docs": ["mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1.0,<2", "nbclient>=0.10", "ipykernel>=7"],
    },
)
