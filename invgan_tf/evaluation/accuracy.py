"""Accuracy with its interval, and the paired comparison of two rows on the same images."""

import dataclasses

import keras
import numpy as np
from scipy import stats

from invgan_tf.evaluation import paired


@dataclasses.dataclass(frozen=True)
class Proportion:
    """A share of n images with its 95 % Wilson interval.

    Attributes:
        value, ci95, n: the share, its interval, the number of images.
        flags: of each image, `[n]`.
    """

    value: float
    ci95: tuple[float, float]
    n: int
    flags: np.ndarray = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, correct: np.ndarray) -> "Proportion":
        """Counts a boolean vector `[n]`; ValueError if it is empty."""
        correct = _flags(correct)
        interval = stats.binomtest(int(correct.sum()), correct.size).proportion_ci(0.95, method="wilson")
        return cls(float(correct.mean()), (float(interval.low), float(interval.high)), correct.size, correct)

    def compare(self, other: "Proportion") -> paired.Comparison:
        """Compares with a share of the same images: Bonett and Price's interval, McNemar's p."""
        difference, ci95 = paired_difference(self.flags, other.flags)
        return paired.Comparison(difference, ci95, mcnemar(self.flags, other.flags))


def _flags(given):
    given = np.asarray(given)
    if given.ndim != 1 or not given.size or given.dtype != bool:
        raise ValueError(f"Expected a vector of at least one flag, booleans, got shape {given.shape} of {given.dtype}.")
    return given


def outputs(model: keras.Model, inputs: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Returns a model's outputs in inference mode, computed in batches; no new trace for a new size."""
    batches = range(0, len(inputs), batch_size)
    return np.concatenate(
        [keras.ops.convert_to_numpy(model(inputs[i : i + batch_size], training=False)) for i in batches]
    )


def predict(classifier: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns the predicted labels `[n]`, int32, of images `[n, h, w, c]` in the classifier's range."""
    return np.argmax(outputs(classifier, images), axis=1).astype(np.int32)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided McNemar test that two rows are equally accurate on the same images.

    Args:
        first, second: boolean vectors `[n]`, whether each row was right on each image.

    Returns:
        The p-value: a binomial test of the images on which just one of the two was right.
    """
    first, second = _flags(first), _flags(second)
    if first.shape != second.shape:
        raise ValueError(f"McNemar's test pairs images: got {first.shape} and {second.shape} flags.")
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def paired_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Returns the first row's accuracy less the second's on the same images, with its 95 % interval.

    The interval is Bonett and Price's (2012) adjusted Wald interval: one image is added to each kind of disagreement.

    Args:
        first, second: boolean vectors `[n]`, whether each row was right on each image.
    """
    first, second = _flags(first), _flags(second)
    if first.shape != second.shape or not first.size:
        raise ValueError(f"A paired difference needs the same images: got {first.shape} and {second.shape} flags.")
    gained, lost = (float(np.sum(only) + 1) / (first.size + 2) for only in (first & ~second, second & ~first))
    half = stats.norm.ppf(0.975) * np.sqrt((gained + lost - (gained - lost) ** 2) / (first.size + 2))
    return float(first.mean() - second.mean()), (float(gained - lost - half), float(gained - lost + half))
