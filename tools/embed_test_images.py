"""Writes the test images that ship inside the package: `python -m tools.embed_test_images --data_dir=...`."""

import pathlib

import numpy as np
from absl import app, flags

from invgan_tf import data

flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS datasets.", required=True)

FLAGS = flags.FLAGS


def main(_) -> None:
    """Writes one compressed npz for each dataset, uint8 images and labels in TFDS's order."""
    folder = pathlib.Path(data.__file__).parent / "embedded"
    for name in ("mnist", "fashion_mnist"):
        examples = data.load(name, "test", data_dir=FLAGS.data_dir)
        images = np.rint(examples.images * 255).astype(np.uint8)
        np.savez_compressed(folder / f"{name}_test.npz", images=images, labels=examples.labels.astype(np.uint8))


if __name__ == "__main__":
    app.run(main)
