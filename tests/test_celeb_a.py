"""CelebA's official folder, generated: crop, splits, labels, and errors that name the file."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from invgan_tf import celeb_a, data

ATTRIBUTES = ["Eyeglasses", "Male", "Young"]
SPLIT_OF = {1: 0, 2: 0, 3: 0, 4: 0, 5: 1, 6: 1, 7: 2, 8: 2, 9: 2}  # image number to partition
MALE = {1: 1, 2: -1, 3: -1, 4: 1, 5: 1, 6: -1, 7: -1, 8: 1, 9: -1}


def _name(number):
    return f"{number:06d}.jpg"


def _face(number, shape=(218, 178)):
    """An image whose middle is bright in proportion to its number, and whose margin is red."""
    image = np.zeros((*shape, 3), np.uint8)
    image[..., 0] = 200
    image[shape[0] // 2 - 54 : shape[0] // 2 + 54, shape[1] // 2 - 54 : shape[1] // 2 + 54] = 20 * number
    return image


@pytest.fixture
def official(tmp_path):
    (tmp_path / celeb_a.IMAGES).mkdir()
    for number in MALE:
        encoded = tf.io.encode_jpeg(_face(number), quality=98)
        tf.io.write_file(str(tmp_path / celeb_a.IMAGES / _name(number)), encoded)
    rows = [f"{_name(number)}  1 {male:2d} -1" for number, male in MALE.items()]
    (tmp_path / celeb_a.ATTRIBUTES).write_text("\n".join([str(len(MALE)), " ".join(ATTRIBUTES) + " ", *rows]) + "\n")
    lines = [f"{_name(number)} {partition}" for number, partition in SPLIT_OF.items()]
    (tmp_path / celeb_a.PARTITION).write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize(("split", "numbers"), [("train", [1, 2, 3, 4]), ("validation", [5, 6]), ("test", [7, 8, 9])])
def test_official_splits_and_labels(official, split, numbers, monkeypatch):
    examples = data.load("celeb_a", split, data_dir=official)
    assert examples.images.shape == (len(numbers), 64, 64, 3) and examples.images.dtype == np.float32
    np.testing.assert_array_equal(examples.labels, [int(MALE[number] == 1) for number in numbers])
    # nothing of the red margin is left; the middle has each image's own brightness
    brightness = np.array([20 * number for number in numbers]) / 127.5 - 1.0
    np.testing.assert_allclose(
        examples.images[:, 2:-2, 2:-2].mean(axis=(1, 2)), np.stack([brightness] * 3, 1), atol=0.02
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(official))
    np.testing.assert_array_equal(data.load("celeb_a", split, limit=2).images, examples.images[:2])


def test_streams_come_from_the_official_folder(official):
    images, labels = next(iter(data.stream("celeb_a", "train", batch_size=4, seed=0, data_dir=official)))
    assert images.shape == (4, 64, 64, 3) and sorted(labels.numpy()) == [0, 0, 1, 1]


def test_a_crop_is_the_one_of_tfds(official):
    """Both ways to CelebA give the same pixels of the same file."""
    path = official / celeb_a.IMAGES / _name(7)
    decoded = tf.io.decode_image(path.read_bytes(), channels=3).numpy()
    attributes = {name: np.array([True]) for name in ATTRIBUTES}

    def as_dataset(self, *args, **kwargs):
        return tf.data.Dataset.from_tensor_slices({"image": decoded[None], "attributes": attributes})

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        through_tfds = data.load("celeb_a", "test", data_dir=official.parent / "none")
    np.testing.assert_array_equal(through_tfds.images[0], data.load("celeb_a", "test", data_dir=official).images[0])


def test_without_a_partition_the_official_numbers_split(official):
    (official / celeb_a.PARTITION).unlink()
    assert len(data.load("celeb_a", "train", data_dir=official)) == 9
    with pytest.raises(data.DataUnavailableError, match="has no image of the test split"):
        data.load("celeb_a", "test", data_dir=official)
    attributes = official / celeb_a.ATTRIBUTES
    text = attributes.read_text()
    for number, split in ((162_770, "train"), (162_771, "validation"), (182_637, "validation"), (182_638, "test")):
        attributes.write_text(text.replace(_name(9), _name(number)))
        tf.io.write_file(str(official / celeb_a.IMAGES / _name(number)), tf.io.encode_jpeg(_face(9)))
        assert len(data.load("celeb_a", split, data_dir=official)) == (9 if split == "train" else 1)


def _expect(folder, *parts):
    with pytest.raises(data.DataUnavailableError) as caught:
        data.load("celeb_a", "test", data_dir=folder)
    message = str(caught.value)
    assert all(str(part) in message for part in parts), message
    assert len(message.splitlines()) == 1


def test_missing_files_are_named(official):
    (official / celeb_a.IMAGES / _name(8)).unlink()
    _expect(official, official / celeb_a.IMAGES / _name(8), "missing (1 of 3")
    (official / celeb_a.ATTRIBUTES).unlink()
    _expect(official, official / celeb_a.ATTRIBUTES, "is missing")


@pytest.mark.parametrize("content", ["empty", "truncated", "text", "other size"])
def test_damaged_images_are_named(official, content):
    path = official / celeb_a.IMAGES / _name(8)
    whole = path.read_bytes()
    spoilt = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "text": b"<html>quota exceeded</html>",
        "other size": tf.io.encode_jpeg(_face(8, (200, 178))).numpy(),
    }
    path.write_bytes(spoilt[content])
    _expect(official, path, "178x218")


@pytest.mark.parametrize(
    ("file", "spoil", "said"),
    [
        (celeb_a.ATTRIBUTES, lambda text: text.replace("Male", "Female"), "no attribute Male"),
        (celeb_a.ATTRIBUTES, lambda text: text.replace(" 1 -1 -1", " 1 -1", 1), "line 4"),
        (celeb_a.ATTRIBUTES, lambda text: text.replace(" 1 -1 -1", " 1  0 -1", 1), "line 4"),
        (celeb_a.ATTRIBUTES, lambda text: "9\n", "1 lines, at least 3 expected"),
        (celeb_a.PARTITION, lambda text: text.replace("000008.jpg 2", "000008.jpg 3"), "line 8"),
        (celeb_a.PARTITION, lambda text: text.replace("000008.jpg 2", "000010.jpg 2"), "no line for 000010.jpg"),
    ],
)
def test_damaged_lists_are_named(official, file, spoil, said):
    path = official / file
    path.write_text(spoil(path.read_text()))
    _expect(official, official / (celeb_a.ATTRIBUTES if "000010" in said else file), said)


def test_lists_that_are_not_text_are_named(official):
    (official / celeb_a.ATTRIBUTES).write_bytes(b"\xff\xfe\x00\x01")
    _expect(official, official / celeb_a.ATTRIBUTES, "cannot be read")
