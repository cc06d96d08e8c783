"""The inception score of a set of images by a classifier's probabilities (Salimans et al., 2016)."""

import numpy as np

from invgan_tf.evaluation import estimate


class StreamedScore:
    """Gathers class probabilities in float64, in splits of consecutive images.

    Args:
        count: images in all.
        splits: what they are cut into.

    Raises:
        ValueError: for fewer images than splits.
    """

    def __init__(self, count: int, splits: int = estimate.PARTS):
        if count < splits:
            raise ValueError(f"An inception score of {splits} splits needs {splits} images or more, got {count}.")
        self.count, self.splits = count, splits
        self._sums = None

    def add(self, probabilities: np.ndarray, indices: np.ndarray) -> None:
        """Adds probabilities `[n, classes]` of the images of these numbers, `[n]`, each from 0 to `count` - 1."""
        probabilities = np.asarray(probabilities, np.float64)
        if self._sums is None:
            self._sums = np.zeros((self.splits, probabilities.shape[1]))
            self._negentropies, self._counts = np.zeros(self.splits), np.zeros(self.splits, np.int64)
        split = indices * self.splits // self.count
        np.add.at(self._sums, split, probabilities)
        np.add.at(self._negentropies, split, _negentropy(probabilities))
        np.add.at(self._counts, split, 1)

    def score(self) -> estimate.Estimate:
        """Returns the mean over splits of exp(mean KL(p(y | x) || p(y))), with its interval over splits."""
        if self._sums is None or self._counts.sum() != self.count:
            raise ValueError(f"An inception score of {self.count} images needs all of them.")
        marginals = self._sums / self._counts[:, None]
        scores = np.exp(self._negentropies / self._counts - _negentropy(marginals))
        return estimate.Estimate.of(scores.mean(), scores, self.count)


def _negentropy(probabilities):
    """Returns sum p log p over the last axis, 0 log 0 being 0."""
    positive = np.where(probabilities > 0.0, probabilities, 1.0)
    return np.sum(probabilities * np.log(positive), axis=-1)
