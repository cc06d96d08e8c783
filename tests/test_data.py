"""The dataset table, embedded images, streams, and reading through TFDS; nothing is downloaded."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from invgan_tf import data


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    def download(self, **kwargs):
        raise OSError("no route to host\nand a second line")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download)


@pytest.mark.parametrize(
    "name, shape, low, classes, epsilon, attack_epsilon",
    [
        ("mnist", (28, 28, 1), 0.0, 10, 0.3, 0.3),
        ("fashion_mnist", (28, 28, 1), 0.0, 10, 0.3, 0.3),
        ("cifar10", (32, 32, 3), -1.0, 10, 8 / 255, 16 / 255),
        ("celeb_a", (64, 64, 3), -1.0, 2, 8 / 255, 16 / 255),
    ],
)
def test_table(name, shape, low, classes, epsilon, attack_epsilon):
    row = data.spec(name)
    assert (row.name, row.image_shape, row.value_range, row.num_classes) == (name, shape, (low, 1.0), classes)
    assert row.epsilon == pytest.approx(epsilon)
    assert row.attack_epsilon == pytest.approx(attack_epsilon)


@pytest.mark.parametrize(
    "name, train, validation, sizes",
    [
        ("mnist", "train[:50000]", "train[50000:]", (50_000, 10_000, 10_000)),
        ("fashion_mnist", "train[:50000]", "train[50000:]", (50_000, 10_000, 10_000)),
        ("cifar10", "train[:45000]", "train[45000:]", (45_000, 5_000, 10_000)),
        ("celeb_a", "train", "validation", (162_770, 19_867, 19_962)),
    ],
)
def test_splits(name, train, validation, sizes):
    row = data.spec(name)
    assert row.splits == {"train": train, "validation": validation, "test": "test"}
    assert row.sizes == dict(zip(("train", "validation", "test"), sizes))


@pytest.mark.parametrize(
    "name, per_class",
    [
        ("mnist", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        ("fashion_mnist", [1000] * 10),
    ],
)
def test_embedded_test_images(name, per_class):
    examples = data.load(name, "test")
    assert len(examples) == 10_000
    assert examples.images.shape == (10_000, 28, 28, 1)
    assert (examples.images.dtype, examples.labels.dtype) == (np.float32, np.int32)
    assert (examples.images.min(), examples.images.max()) == (0.0, 1.0)
    assert np.bincount(examples.labels).tolist() == per_class
    assert 0.1 < examples.images.mean() < 0.3


def test_embedded_test_images_of_cifar10():
    examples = data.load("cifar10", "test", limit=1000)
    assert examples.images.shape == (1000, 32, 32, 3) and examples.images.dtype == np.float32
    assert examples.images.min() == -1.0 and examples.images.max() == 1.0
    assert np.bincount(examples.labels).tolist() == [98, 105, 88, 101, 98, 92, 109, 107, 109, 93]
    np.testing.assert_array_equal(data.load("cifar10", "test", limit=3).images, examples.images[:3])
    # neighbouring pixels of photographs are alike, and no two images are
    assert np.abs(np.diff(examples.images, axis=2)).mean() < 0.15
    assert len(np.unique(examples.images.reshape(1000, -1)[:, ::97], axis=0)) == 1000


@pytest.mark.parametrize("limit", [1001, None])
def test_more_than_the_embedded_images_of_cifar10_need_the_dataset(limit, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.DataUnavailableError, match=r"cifar10 is not prepared.*1,000 test images come with"):
        data.load("cifar10", "test", limit=limit)


def test_limit_takes_the_first_images():
    few, more = (data.load("mnist", "test", limit=limit) for limit in (3, 7))
    np.testing.assert_array_equal(few.images, more.images[:3])
    np.testing.assert_array_equal(few.labels, more.labels[:3])
    assert len(few) == 3


@pytest.mark.parametrize(
    "name, split, limit, message",
    [
        ("nope", "test", None, "Unknown dataset 'nope'.*mnist, fashion_mnist, cifar10, celeb_a"),
        ("mnist", "dev", None, "Unknown split 'dev' of mnist.*train, validation, test"),
        ("mnist", "test", 0, "limit must be an integer of at least 1, got 0"),
        ("mnist", "test", 10_001, "10000 images here, 10001 were asked for"),
    ],
)
def test_bad_requests_are_refused(name, split, limit, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, split, limit=limit)


@pytest.mark.parametrize("name, low", [("mnist", 0.0), ("cifar10", -1.0)])
def test_pixels_map_onto_the_range(name, low):
    pixels = np.arange(256, dtype=np.uint8)
    mapped = data.to_range(pixels, data.spec(name)).numpy()
    assert mapped.dtype == np.float32
    assert (mapped[0], mapped[-1]) == (low, 1.0)
    np.testing.assert_allclose(mapped, np.arange(256) / 255.0 * (1.0 - low) + low, rtol=0, atol=2e-7)
    np.testing.assert_array_equal(np.rint((mapped - low) / (1.0 - low) * 255), pixels)


@pytest.fixture
def ten_images(monkeypatch):
    """A split of ten images, image k all pixels k and label k."""
    labels = np.arange(10, dtype=np.int32)
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (10, 28, 28, 1)).copy()
    monkeypatch.setattr(data, "_read", lambda name, split, data_dir, limit: (images, labels))


def _labels(count, **arguments):
    stream = data.stream("mnist", "train", **{"batch_size": 4, "seed": 7, **arguments})
    return np.stack([labels for _, labels in stream.take(count).as_numpy_iterator()])


def test_every_epoch_of_the_stream_is_another_permutation(ten_images):
    epochs = _labels(10).reshape(4, 10)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(10), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_stream_depends_on_seed_alone(ten_images):
    np.testing.assert_array_equal(_labels(5), _labels(5))
    tf.random.set_seed(1)
    np.testing.assert_array_equal(_labels(5), _labels(5))
    assert not np.array_equal(_labels(5), _labels(5, seed=8))


@pytest.mark.parametrize("start", [1, 3, 1000])
def test_stream_from_start_equals_skipping(ten_images, start):
    np.testing.assert_array_equal(_labels(4, start=start), _labels(start + 4)[start:])


def test_batch_size_cuts_the_same_order(ten_images):
    np.testing.assert_array_equal(_labels(6, batch_size=5).ravel(), _labels(3, batch_size=10).ravel())


def test_stream_keeps_images_with_their_labels(ten_images):
    stream = data.stream("cifar10", "train", batch_size=6, seed=0)
    for images, labels in stream.take(4).as_numpy_iterator():
        assert (images.shape, images.dtype, labels.dtype) == ((6, 28, 28, 1), np.float32, np.int32)
        np.testing.assert_array_equal(np.rint((images[:, 0, 0, 0] + 1) * 127.5), labels)


def test_empty_batches_are_refused():
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1, got 0"):
        data.stream("mnist", "test", batch_size=0, seed=0)


def _assert_helpful(message, folder):
    for part in ("mnist", str(folder), "--data_dir", "TFDS_DATA_DIR", "no route to host"):
        assert part in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("read", [data.load, lambda *args, **kw: data.stream(*args, batch_size=2, seed=0, **kw)])
def test_missing_data_says_what_to_do(read, tmp_path):
    with pytest.raises(data.DataUnavailableError) as caught:
        read("mnist", "train", data_dir=tmp_path)
    _assert_helpful(str(caught.value), tmp_path)


def test_missing_data_in_the_environments_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.DataUnavailableError) as caught:
        data.load("fashion_mnist", "validation")
    _assert_helpful(str(caught.value), tmp_path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a prepared MNIST of twelve training and four test images; image k is all pixels k."""
    folder = tmp_path_factory.mktemp("tfds")

    class Mnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.builder_cls("mnist").VERSION

        def _info(self):
            image = tfds.features.Image(shape=(28, 28, 1))
            label = tfds.features.ClassLabel(num_classes=10)
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"image": image, "label": label}))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(range(12)), "test": self._generate_examples(range(12, 16))}

        def _generate_examples(self, numbers):
            for number in numbers:
                yield number, {"image": np.full((28, 28, 1), number, np.uint8), "label": number % 10}

    Mnist(data_dir=str(folder)).download_and_prepare()
    return folder


@pytest.fixture
def small_split_table(monkeypatch):
    splits = {"train": "train[:8]", "validation": "train[8:]", "test": "test"}
    monkeypatch.setitem(data.DATASETS, "mnist", dataclasses.replace(data.DATASETS["mnist"], splits=splits))


@pytest.mark.parametrize("through_environment", [False, True])
def test_prepared_splits_are_read_in_tfds_order(prepared, small_split_table, monkeypatch, through_environment):
    if through_environment:
        monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    folder = None if through_environment else prepared
    train, validation = (data.load("mnist", split, data_dir=folder) for split in ("train", "validation"))
    read = tfds.load("mnist", split="train", data_dir=str(prepared), download=False, shuffle_files=False)
    expected = [int(example["image"][0, 0, 0]) for example in read]

    numbers = np.rint(255 * np.concatenate([train.images, validation.images])[:, 5, 5, 0]).astype(int)
    assert (len(train), len(validation)) == (8, 4)
    assert numbers.tolist() == expected
    np.testing.assert_array_equal(np.concatenate([train.labels, validation.labels]), numbers % 10)


def test_data_dir_comes_before_the_embedded_images(prepared):
    examples = data.load("mnist", "test", data_dir=prepared)
    assert sorted(np.rint(255 * examples.images[:, 0, 0, 0])) == [12, 13, 14, 15]


def test_limit_on_prepared_data(prepared, small_split_table):
    few, whole = (data.load("mnist", "train", data_dir=prepared, limit=limit) for limit in (3, None))
    np.testing.assert_array_equal(few.images, whole.images[:3])
    with pytest.raises(ValueError, match="8 images here, 9 were asked for"):
        data.load("mnist", "train", data_dir=prepared, limit=9)


def _resize(image, size):
    """Bilinear interpolation between pixel centres, one axis at a time."""
    for axis in (0, 1):
        length = image.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(position).astype(int)
        share = np.expand_dims(position - low, [1, 2] if axis == 0 else [0, 2])
        image = np.take(image, low, axis) * (1 - share) + np.take(image, np.minimum(low + 1, length - 1), axis) * share
    return image


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_celeb_a_is_cropped_resized_and_labelled_male(split, tmp_path):
    faces = np.random.default_rng(0).integers(0, 256, (3, 218, 178, 3)).astype(np.uint8)
    male = np.array([True, False, True])
    asked = []

    def as_dataset(self, *args, split, **kwargs):
        asked.append(split)
        attributes = {"Male": male, "Young": ~male}
        return tf.data.Dataset.from_tensor_slices({"image": faces, "attributes": attributes})

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        examples = data.load("celeb_a", split, data_dir=tmp_path)
    crops = faces[:, 55:163, 35:143].astype(np.float64)
    expected = np.stack([_resize(crop, 64) for crop in crops]) / 127.5 - 1.0
    assert asked == [split]
    assert examples.images.shape == (3, 64, 64, 3)
    assert examples.images.dtype == np.float32
    np.testing.assert_allclose(examples.images, expected, atol=0.51 / 127.5)
    np.testing.assert_array_equal(examples.labels, [1, 0, 1])


def test_celeb_a_in_its_own_layout(tmp_path):
    with tfds.testing.mock_data(num_examples=3):
        examples = data.load("celeb_a", "test", data_dir=tmp_path, limit=2)
    assert examples.images.shape == (2, 64, 64, 3)
    assert examples.images.min() >= -1.0
    assert examples.images.max() <= 1.0
    assert set(examples.labels) <= {0, 1}
