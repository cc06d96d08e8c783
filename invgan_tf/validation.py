"""Checks of what a caller passes; each error names what came and what was expected."""

import numbers

import numpy as np


def check_images(images, image_shape: tuple[int, ...], value_range: tuple[float, float]) -> np.ndarray:
    """Returns images as a read-only float32 array `[n, *image_shape]`, or raises ValueError.

    Refused are a range that is none, another shape, no image at all, a dtype that is not floating, values that are not
    finite, and values outside `value_range` by more than rounding; what rounding left outside is clipped. Images that
    are right as they are are not copied: the answer is a view of them that cannot be written through.
    """
    check_range(value_range)
    images = np.asarray(images)
    if images.ndim != 1 + len(image_shape) or images.shape[1:] != tuple(image_shape):
        expected = ", ".join(map(str, image_shape))
        raise ValueError(f"Expected images of shape [n, {expected}], got {list(images.shape)}.")
    if not len(images):
        raise ValueError("Expected at least one image, got none.")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"Expected floating images in {list(value_range)}, got dtype {images.dtype}.")
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("Expected finite images, got NaN or infinite pixels.")
    if low < value_range[0] - 1e-6 or high > value_range[1] + 1e-6:
        raise ValueError(f"Expected pixels in {list(value_range)}, got values from {low:g} to {high:g}.")
    if low < value_range[0] or high > value_range[1]:
        images = np.clip(images, *value_range)
    checked = images.astype(np.float32, copy=False).view()
    checked.flags.writeable = False
    return checked


def check_indices(indices, count: int) -> np.ndarray:
    """Returns the images' numbers as an int64 array `[count]`, 0..count-1 for None, or raises ValueError."""
    if indices is None:
        return np.arange(count)
    indices = np.asarray(indices)
    if indices.shape != (count,) or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"Expected {count} integer indices, got shape {list(indices.shape)} of {indices.dtype}.")
    return indices.astype(np.int64)


def check_model_images(model, images, value_range: tuple[float, float]) -> np.ndarray:
    """Returns images as `check_images` does, of the shape the model takes if it tells, else `[n, h, w, c]`."""
    shape = getattr(model, "input_shape", None) or np.shape(images)
    if len(shape) != 4:
        raise ValueError(f"Expected images of shape [n, h, w, c], got {list(np.shape(images))}.")
    return check_images(images, shape[1:], value_range)


def check_labels(labels, count: int, num_classes: int) -> np.ndarray:
    """Returns labels as an int32 array `[count]` with values in 0..num_classes-1, or raises ValueError."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected {count} integer labels, got shape {list(labels.shape)} of {labels.dtype}.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"Expected labels in 0..{num_classes - 1}, got {labels.min()} to {labels.max()}.")
    return labels.astype(np.int32)


def check_model_labels(model, images: np.ndarray, labels) -> np.ndarray:
    """Returns labels as `check_labels` does: one for each image, of the classes that the model tells apart."""
    return check_labels(labels, len(images), model.compute_output_shape(images.shape)[-1])


def check_range(value_range, name: str = "value_range") -> tuple[float, float]:
    """Returns lowest and highest pixel, which may be infinite, or raises ValueError."""
    pair = tuple(value_range) if isinstance(value_range, (tuple, list, np.ndarray)) else ()
    if len(pair) != 2 or not all(isinstance(end, numbers.Real) for end in pair) or not pair[0] < pair[1]:
        raise ValueError(f"{name} must be the lowest and the highest pixel, got {value_range!r}.")
    return float(pair[0]), float(pair[1])


def check_count(name: str, value, minimum: int) -> int:
    """Returns an integer argument that is at least `minimum`, or raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}.")
    return int(value)


def check_positive(name: str, value, *, zero: bool = False) -> float:
    """Returns a finite number above 0, or from 0 on where `zero` is allowed, or raises ValueError."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be {'zero or ' * zero}a positive number, got {value!r}.")
    return float(value)
