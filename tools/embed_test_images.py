"""Writes the test images that ship inside the package: `python -m tools.embed_test_images --data_dir=...`."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags

from invgan_tf import data

flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS datasets.", required=True)

FLAGS = flags.FLAGS

_CIFAR10_IMAGES = 1000


def main(_) -> None:
    """Writes one npz for each dataset, uint8 images and labels in TFDS's order."""
    folder = pathlib.Path(data.__file__).parent / "embedded"
    for name in ("mnist", "fashion_mnist"):
        examples = data.load(name, "test", data_dir=FLAGS.data_dir)
        images = np.rint(examples.images * 255).astype(np.uint8)
        np.savez_compressed(folder / f"{name}_test.npz", images=images, labels=examples.labels.astype(np.uint8))
    builder = tfds.builder("cifar10", data_dir=FLAGS.data_dir)
    undecoded = builder.as_dataset(split="test", decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False)
    first = list(undecoded.take(_CIFAR10_IMAGES).as_numpy_iterator())  # as they lie there: JPEG is its own compression
    np.savez(
        folder / "cifar10_test.npz",
        jpeg=np.frombuffer(b"".join(example["image"] for example in first), np.uint8),
        sizes=np.array([len(example["image"]) for example in first], np.int32),
        labels=np.array([example["label"] for example in first], np.uint8),
    )


if __name__ == "__main__":
    app.run(main)
