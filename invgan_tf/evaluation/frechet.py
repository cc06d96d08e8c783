"""The Frechet distance of two sets of images in a network's feature space (Heusel et al., 2017).

Moments are streamed in float64, one group of images at a time, so that features need not be kept; leaving out one
group after the other gives the distance's interval.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg

from invgan_tf.evaluation import estimate


class Moments(NamedTuple):
    """Mean `[d]` and covariance `[d, d]` of n features."""

    n: int
    mean: np.ndarray
    covariance: np.ndarray


class StreamedMoments:
    """Gathers moments of features in float64; image number i belongs to group i modulo `groups`.

    Sums are taken about the first batch's mean: about 0 they would cancel where features lie far from it.

    Args:
        groups: what the images are dealt into.
    """

    def __init__(self, groups: int = estimate.PARTS):
        self.groups, self._origin = groups, None

    def add(self, features: np.ndarray, indices: np.ndarray) -> None:
        """Adds features `[n, d]` of the images of these numbers, `[n]`."""
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or len(features) != len(indices):
            raise ValueError(f"Expected features [{len(indices)}, d], got shape {list(features.shape)}.")
        if self._origin is None:
            self._origin = features.mean(axis=0)
            dimensions = features.shape[1]
            self._counts = np.zeros(self.groups, np.int64)
            self._sums = np.zeros((self.groups, dimensions))
            self._products = np.zeros((self.groups, dimensions, dimensions))
        for group in np.unique(indices % self.groups):
            shifted = features[indices % self.groups == group] - self._origin
            self._counts[group] += len(shifted)
            self._sums[group] += shifted.sum(axis=0)
            self._products[group] += shifted.T @ shifted

    @property
    def n(self) -> int:
        """Features added so far."""
        return 0 if self._origin is None else int(self._counts.sum())

    def moments(self, without: int | None = None) -> Moments:
        """Returns the moments of all groups but one; covariances divide by n - 1. ValueError for fewer than two."""
        left = slice(0, 0) if without is None else slice(without, without + 1)
        count = 0 if self._origin is None else int(self._counts.sum() - self._counts[left].sum())
        if count < 2:
            raise ValueError(f"A covariance needs two or more images, got {count}.")
        mean = (self._sums.sum(axis=0) - self._sums[left].sum(axis=0)) / count
        products = self._products.sum(axis=0) - self._products[left].sum(axis=0)
        return Moments(count, self._origin + mean, (products - count * np.outer(mean, mean)) / (count - 1))


def distance(first: Moments, second: Moments) -> float:
    """Returns |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    The last trace is the sum of the singular values of C1^(1/2) C2^(1/2), which stays real and exact where a matrix
    square root of the product of two nearly singular matrices does not.

    Raises:
        ValueError: for no more images than features: the covariance would be singular and the distance too small.
    """
    features = len(first.mean)
    for moments in (first, second):
        if moments.n <= features:
            raise ValueError(
                f"A Frechet distance of {features} features needs more than {features} images, got {moments.n}."
            )
    return _distance(first, second)


def _distance(first, second):
    roots = [_root(moments.covariance) for moments in (first, second)]
    common = linalg.svdvals(roots[0] @ roots[1]).sum()
    apart = np.sum(np.square(first.mean - second.mean))
    return float(max(0.0, apart + np.trace(first.covariance) + np.trace(second.covariance) - 2.0 * common))


def _root(covariance):
    values, vectors = linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def frechet_distance(real: StreamedMoments, drawn: StreamedMoments) -> estimate.Estimate:
    """Returns the distance of two sets with its interval: a jackknife that leaves out each group in both at once.

    Args:
        real, drawn: moments of as many groups; where an image and its reconstruction have the same number, figures of
            several reconstructions of the same images compare as paired.

    Raises:
        ValueError: for no more images than features, or fewer than two images a group.
    """
    value, groups = distance(real.moments(), drawn.moments()), real.groups
    if min(real.n, drawn.n) < 2 * groups:
        raise ValueError(f"{groups} groups need {2 * groups} images or more, got {min(real.n, drawn.n)}.")
    left_out = np.array([_distance(real.moments(group), drawn.moments(group)) for group in range(groups)])
    return estimate.Estimate.of(value, groups * value - (groups - 1) * left_out, drawn.n, lowest=0.0)
