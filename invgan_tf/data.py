"""The four datasets of the paper: one table, whole splits as arrays, and endless training streams.

Training splits are read through TensorFlow Datasets from `data_dir` or `TFDS_DATA_DIR`. The MNIST and
Fashion-MNIST test images and the first 1,000 of CIFAR-10 are part of the package, so that an evaluation needs no
download. The order is TFDS's, which is a hash order and not the official one; only CelebA's official folder
(`celeb_a`) is read in its own.
"""

import dataclasses
import importlib.resources
import os
import pathlib

import numpy as np
import tensorflow as tf

from invgan_tf import validation


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What the experiments need to know of a dataset.

    Attributes:
        name: its TFDS name.
        image_shape: (height, width, channels) as the networks see an image.
        value_range: lowest and highest pixel in the networks' range.
        num_classes: number of labels.
        epsilon: L-infinity bound of the attacks on [0, 1] pixels (paper, section 4.2).
        splits: our split name to TFDS's; validation is the end of TFDS's train split.
        sizes: images in each split.
        label_key: the TFDS feature that holds the label.
        family: the networks of its GAN and inverter in Tables 2 and 3.
        classifiers: architectures of the classifier that is defended, the paper's own first.
    """

    name: str
    image_shape: tuple[int, int, int]
    value_range: tuple[float, float]
    num_classes: int
    epsilon: float
    splits: dict[str, str]
    sizes: dict[str, int]
    label_key: str | tuple[str, str] = "label"
    family: str = "dcgan"
    classifiers: tuple[str, ...] = ("A",)

    @property
    def attack_epsilon(self) -> float:
        """`epsilon` in the networks' range: doubled where pixels run from -1 to 1."""
        return self.epsilon * (self.value_range[1] - self.value_range[0])


def _spec(name, image_shape, value_range, epsilon, train, validation, **networks):
    """A dataset of ten classes, 10,000 test images, and a validation split cut off TFDS's train split."""
    splits = {"train": f"train[:{train}]", "validation": f"train[{train}:]", "test": "test"}
    sizes = {"train": train, "validation": validation, "test": 10_000}
    return DatasetSpec(name, image_shape, value_range, 10, epsilon, splits, sizes, **networks)


_CELEB_A = DatasetSpec(
    "celeb_a",
    (64, 64, 3),
    (-1.0, 1.0),
    2,
    8 / 255,
    {split: split for split in ("train", "validation", "test")},
    {"train": 162_770, "validation": 19_867, "test": 19_962},
    ("attributes", "Male"),
    "sn_resnet",
    ("Y",),
)
_CIFAR10_NETWORKS = {"family": "sn_resnet", "classifiers": ("wide", "small")}

DATASETS = {
    row.name: row
    for row in (
        _spec("mnist", (28, 28, 1), (0.0, 1.0), 0.3, 50_000, 10_000),
        _spec("fashion_mnist", (28, 28, 1), (0.0, 1.0), 0.3, 50_000, 10_000),
        _spec("cifar10", (32, 32, 3), (-1.0, 1.0), 8 / 255, 45_000, 5_000, **_CIFAR10_NETWORKS),
        _CELEB_A,
    )
}


class DataUnavailableError(RuntimeError):
    """A split is neither prepared on disk, nor embedded, nor downloadable; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images `[n, h, w, c]`, float32 in the dataset's range, and labels `[n]`, int32; numpy arrays."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def spec(name: str) -> DatasetSpec:
    """Returns the row of the dataset table; ValueError for an unknown name."""
    if name not in DATASETS:
        raise ValueError(f"Unknown dataset {name!r}; choose one of {', '.join(DATASETS)}.")
    return DATASETS[name]


def load(name: str, split: str, *, data_dir: str | os.PathLike | None = None, limit: int | None = None) -> Examples:
    """Loads the first images of a split.

    Args:
        name: "mnist", "fashion_mnist", "cifar10" or "celeb_a".
        split: "train", "validation" or "test".
        data_dir: folder of prepared TFDS datasets; default `TFDS_DATA_DIR`, then TFDS's own. Without
            it, the test splits of MNIST and Fashion-MNIST and up to 1,000 test images of CIFAR-10 come from the
            package. For "celeb_a" also the official folder, with `img_align_celeba/` and `list_attr_celeba.txt`.
        limit: load only the first `limit` images of the split; all if None.

    Returns:
        `Examples` in TFDS's order: `.images` `[n, h, w, c]` in the dataset's range, `.labels` `[n]` (section 4).

    Raises:
        ValueError: for an unknown dataset or split, or a limit that the split cannot fill.
        DataUnavailableError: if the split is not to be had.
    """
    images, labels = _read(name, split, data_dir, limit)
    return Examples(to_range(images, spec(name)).numpy(), labels)


def stream(
    name: str,
    split: str,
    *,
    batch_size: int,
    seed: int,
    data_dir: str | os.PathLike | None = None,
    start: int = 0,
) -> tf.data.Dataset:
    """Returns an endless stream of shuffled batches (images, labels).

    Batch number s is a pure function of (seed, s): every epoch is a permutation of the split, keyed
    by seed and epoch. A resumed run passes the step it goes on from as `start` and sees what an
    uninterrupted one would have seen.

    Args:
        name, split, data_dir: as for `load`.
        batch_size: images a batch.
        seed: key of the order.
        start: number of the first batch.

    Returns:
        A dataset of float32 images `[n, h, w, c]` in the dataset's range and int32 labels `[n]` (section 4), n being
        `batch_size`.

    Raises:
        ValueError, DataUnavailableError: as `load`.
    """
    for number, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("start", start, 0)):
        validation.check_count(number, value, least)
    dataset = spec(name)
    images, labels = _read(name, split, data_dir, None)
    images, labels, size = tf.constant(images), tf.constant(labels), len(labels)

    def shuffled(position):
        key = tf.stack([tf.cast(seed, tf.int64), position // size])
        return tf.random.experimental.index_shuffle(position % size, key, tf.cast(size - 1, tf.int64))

    def gather(indices):
        return to_range(tf.gather(images, indices), dataset), tf.gather(labels, indices)

    positions = tf.data.Dataset.range(start * batch_size, np.iinfo(np.int64).max)
    return positions.map(shuffled).batch(batch_size, drop_remainder=True).map(gather).prefetch(2)


def to_range(images, dataset: DatasetSpec) -> tf.Tensor:
    """Maps uint8 pixels 0..255 to float32 in the dataset's range."""
    low, high = dataset.value_range
    return tf.cast(images, tf.float32) * ((high - low) / 255.0) + low


def _read(name, split, data_dir, limit) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 images `[n, h, w, c]` and int32 labels of a split, in TFDS's order."""
    dataset = spec(name)
    if split not in dataset.splits:
        raise ValueError(f"Unknown split {split!r} of {name}; choose one of {', '.join(dataset.splits)}.")
    if limit is not None:
        limit = validation.check_count("limit", limit, 1)
    images, labels = (None if data_dir else _read_embedded(name, split, limit)) or _read_folder(
        dataset, split, data_dir, limit
    )
    if limit is not None and len(labels) < limit:
        raise ValueError(f"{name}'s {split} split has {len(labels)} images here, {limit} were asked for.")
    return images, labels


def _read_embedded(name, split, limit):
    """Returns the images and labels that the package holds; None if it has none, or fewer than asked for."""
    path = importlib.resources.files("invgan_tf") / "embedded" / f"{name}_{split}.npz"
    if not path.is_file():
        return None
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        labels = arrays["labels"][:limit].astype(np.int32)
        if "jpeg" not in arrays:
            return arrays["images"][:limit], labels
        if limit is None or limit > len(labels):  # the whole split is not here
            return None
        ends = np.cumsum(arrays["sizes"])
        encoded = [part.tobytes() for part in np.split(arrays["jpeg"], ends[:-1])[:limit]]
    return np.stack([tf.io.decode_image(image, channels=3).numpy() for image in encoded]), labels


def _read_folder(dataset, split, data_dir, limit):
    """Reads a split from disk: CelebA's official folder if that is one, else a folder of TFDS."""
    folder = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "").expanduser()
    if dataset.name == "celeb_a":
        from invgan_tf import celeb_a  # which takes its errors from here

        if folder != pathlib.Path() and celeb_a.is_official_folder(folder):
            return celeb_a.read(folder, split, limit)
        return _read_tfds(dataset, split, data_dir, limit, celeb_a.crop)
    return _read_tfds(dataset, split, data_dir, limit)


def _read_tfds(dataset, split, data_dir, limit, prepare=tf.identity):
    builder = _prepared_builder(dataset.name, data_dir)

    def pair(example):
        label = example
        for key in np.atleast_1d(dataset.label_key):
            label = label[key]
        return prepare(example["image"]), tf.cast(label, tf.int32)

    examples = builder.as_dataset(split=dataset.splits[split], shuffle_files=False)
    examples = examples.map(pair, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if limit is not None:
        examples = examples.take(limit)
    try:
        batches = list(examples.batch(1000).as_numpy_iterator())
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise DataUnavailableError(
            f"{dataset.name} in {builder.data_dir} is damaged ({error.message}); prepare it anew."
        ) from error
    return tuple(np.concatenate(arrays) for arrays in zip(*batches))


_HINTS = {
    "cifar10": " Up to 1,000 test images come with the package.",
    "celeb_a": " The official folder does too, with img_align_celeba/ and list_attr_celeba.txt in it.",
}


def _prepared_builder(name, data_dir):
    import tensorflow_datasets as tfds  # seconds to import, and an evaluation does without it

    folder = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR).expanduser()
    try:
        builder = tfds.builder(name, data_dir=str(folder))
        if not builder.is_prepared():
            from tensorflow_datasets.core.download import downloader

            downloader.MAX_RETRIES = 3  # its ten tries, each twice as late as the one before, take minutes
            builder.download_and_prepare()
        return builder
    except Exception as error:  # TFDS raises its own, the network's and the file system's errors alike
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataUnavailableError(
            f"{name} is not prepared in {folder} and could not be downloaded ({reason}); point "
            "--data_dir or TFDS_DATA_DIR to a folder with a prepared TFDS copy, or run once with network "
            f"access: python -c \"import tensorflow_datasets as tfds; tfds.load('{name}')\".{_HINTS.get(name, '')}"
        ) from error
