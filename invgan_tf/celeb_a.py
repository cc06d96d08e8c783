"""CelebA: the crop the paper's networks see, and the folder its makers hand out.

TFDS's own download of CelebA often fails for its users (quota, checksum). A folder with the official
`img_align_celeba/` and `list_attr_celeba.txt` does as well; `list_eval_partition.txt`, where it lies beside them, says
which image is of which split, and the official ranges of numbers do where it does not.
"""

import pathlib

import numpy as np
import tensorflow as tf

from invgan_tf import data

IMAGES, ATTRIBUTES, PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
_SPLITS = {"train": 0, "validation": 1, "test": 2}
_ENDS = (162_770, 182_637, 202_599)  # number of each split's last image
_ALIGNED = (218, 178)
_CROP = 108
_LABEL = "Male"
_BATCH = 500


def crop(image: tf.Tensor) -> tf.Tensor:
    """Cuts 108x108 pixels out of the middle of an aligned image and resizes them to 64x64, bilinear, as uint8."""
    image = tf.image.resize_with_crop_or_pad(image, _CROP, _CROP)
    return tf.cast(tf.round(tf.image.resize(image, data.spec("celeb_a").image_shape[:2])), tf.uint8)


def is_official_folder(folder: pathlib.Path) -> bool:
    """Returns whether any of CelebA's official files lies in a folder."""
    return any((folder / name).exists() for name in (IMAGES, ATTRIBUTES, PARTITION))


def read(folder: pathlib.Path, split: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reads a split of the official folder.

    Args:
        folder: holds `img_align_celeba/` and `list_attr_celeba.txt`.
        split: "train", "validation" or "test".
        limit: read only the first images.

    Returns:
        uint8 images `[n, 64, 64, 3]` and int32 labels, 1 for `Male`, in the official order.

    Raises:
        DataUnavailableError: for a file that is missing or damaged; it is named.
    """
    labels = _labels(folder / ATTRIBUTES)
    names = _of_split(folder / PARTITION, labels, split)[:limit]
    paths = [folder / IMAGES / name for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise data.DataUnavailableError(
            f"celeb_a: {missing[0]} is missing ({len(missing)} of {len(paths)} images are)."
        )
    images = np.empty((len(paths), *data.spec("celeb_a").image_shape), np.uint8)
    decoded = tf.data.Dataset.from_tensor_slices([str(path) for path in paths] or [""]).take(len(paths))
    decoded = decoded.map(_decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(_BATCH)
    done = 0
    try:
        for batch in decoded.as_numpy_iterator():
            images[done : done + len(batch)] = batch
            done += len(batch)
    except tf.errors.OpError as error:  # which file it was, only decoding them one by one tells
        damaged = next((path for path in paths[done:] if not _decodes(path)), folder / IMAGES)
        raise data.DataUnavailableError(f"celeb_a: {damaged} is not a JPEG image of 178x218 pixels.") from error
    return images, np.array([labels[name] for name in names], np.int32)


def _decode(path):
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    tf.debugging.assert_equal(tf.shape(image)[:2], _ALIGNED)
    return crop(tf.ensure_shape(image, (*_ALIGNED, 3)))


def _decodes(path):
    try:
        _decode(str(path))
    except (tf.errors.OpError, ValueError):
        return False
    return True


def _labels(path):
    """Returns each image's label by its name, in the file's order: a count, a line of attributes, a line an image."""
    _, header, *lines = _lines(path, 3)
    attributes = header.split()
    if _LABEL not in attributes:
        raise data.DataUnavailableError(f"celeb_a: {path} names no attribute {_LABEL} in its second line.")
    place, found = attributes.index(_LABEL), {}
    for number, line in enumerate(lines, start=3):
        name, *values = line.split()
        if len(values) != len(attributes) or values[place] not in ("1", "-1"):
            raise data.DataUnavailableError(
                f"celeb_a: {path}, line {number}: expected an image and {len(attributes)} attributes of 1 or -1."
            )
        found[name] = int(values[place] == "1")
    return found


def _of_split(path, labels, split):
    if not path.is_file():
        bounds = (0, *_ENDS)[_SPLITS[split] :][:2]
        names = [name for name in labels if bounds[0] < _number(name) <= bounds[1]]
    else:
        names = []
        for number, line in enumerate(_lines(path, 1), start=1):
            fields = line.split()
            if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
                raise data.DataUnavailableError(f"celeb_a: {path}, line {number}: expected an image and 0, 1 or 2.")
            if int(fields[1]) == _SPLITS[split]:
                names.append(fields[0])
        unknown = [name for name in names if name not in labels]
        if unknown:
            raise data.DataUnavailableError(f"celeb_a: {path.with_name(ATTRIBUTES)} has no line for {unknown[0]}.")
    if not names:
        raise data.DataUnavailableError(f"celeb_a: {path.parent} has no image of the {split} split.")
    return names


def _number(name):
    stem = pathlib.PurePath(name).stem
    return int(stem) if stem.isdecimal() else 0


def _lines(path, least):
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise data.DataUnavailableError(f"celeb_a: {path} is missing.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise data.DataUnavailableError(f"celeb_a: {path} cannot be read ({error}).") from error
    if len(lines) < least:
        raise data.DataUnavailableError(f"celeb_a: {path} is damaged: {len(lines)} lines, at least {least} expected.")
    return lines
