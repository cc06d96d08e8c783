"""Arguments that must pass unchanged, and those that must be refused with what came and what was expected."""

import numpy as np
import pytest

from invgan_tf import validation

SHAPE, UNIT = (2, 3, 1), (0.0, 1.0)


def _images(value=0.5, dtype=np.float32, shape=(4, *SHAPE)):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_images_become_float32(dtype):
    images = _images(0.25, dtype)
    checked = validation.check_images(images, SHAPE, UNIT)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, images)


def test_range_ends_and_rounding_are_accepted():
    validation.check_images(_images(1.0 + 5e-7, np.float64), SHAPE, UNIT)
    validation.check_images(_images(-1.0), SHAPE, (-1.0, 1.0))


@pytest.mark.parametrize(("value", "dtype"), [(0.5, np.float32), (1.0 + 5e-7, np.float64), (0.5, np.float16)])
def test_checked_images_cannot_be_written_through(value, dtype):
    images = _images(value, dtype)
    checked = validation.check_images(images, SHAPE, UNIT)
    with pytest.raises(ValueError, match="read-only"):
        checked[:] = 0.0
    assert np.all(images == np.asarray(value, dtype)) and images.flags.writeable
    assert checked.max() <= 1.0


def test_right_images_are_not_copied():
    images = _images(0.5)
    assert np.shares_memory(validation.check_images(images, SHAPE, UNIT), images)


@pytest.mark.parametrize(
    "images, message",
    [
        (_images(shape=(4, 3, 2, 1)), r"shape \[n, 2, 3, 1\], got \[4, 3, 2, 1\]"),
        (_images(shape=SHAPE), r"shape \[n, 2, 3, 1\], got \[2, 3, 1\]"),
        (_images(shape=(0, *SHAPE)), "at least one image"),
        (_images(1, np.uint8), "uint8"),
        (_images(np.nan), "finite"),
        (_images(np.inf), "finite"),
        (_images(1.1), r"\[0.0, 1.0\], got values from 1.1 to 1.1"),
        (_images(-0.1), r"\[0.0, 1.0\], got values from -0.1"),
        (_images(1.0 + 3e-6, np.float64), "got values"),
    ],
)
def test_bad_images_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        validation.check_images(images, SHAPE, UNIT)


def test_one_bad_pixel_is_enough():
    images = _images()
    images[3, 1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        validation.check_images(images, SHAPE, UNIT)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32])
def test_integer_labels_become_int32(dtype):
    checked = validation.check_labels(np.array([0, 9, 3], dtype), 3, 10)
    assert checked.dtype == np.int32
    np.testing.assert_array_equal(checked, [0, 9, 3])


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1], r"3 integer labels, got shape \[2\]"),
        ([[0], [1], [2]], r"got shape \[3, 1\]"),
        ([0.0, 1.0, 2.0], "float64"),
        ([True, False, True], "bool"),
        ([0, 1, 10], r"0\.\.9, got 0 to 10"),
        ([-1, 1, 2], r"0\.\.9, got -1 to 2"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        validation.check_labels(labels, 3, 10)


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_counts_pass(value):
    checked = validation.check_count("steps", value, 1)
    assert checked == value
    assert type(checked) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_bad_counts_are_refused_by_name(value):
    with pytest.raises(ValueError, match=rf"steps must be an integer of at least 1, got {value!r}"):
        validation.check_count("steps", value, 1)
