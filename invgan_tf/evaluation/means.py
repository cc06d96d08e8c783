"""A mean over images with its interval, and the paired comparison of two on the same images."""

import dataclasses

import numpy as np

from invgan_tf.evaluation import paired


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean of n values with its 95 % Student interval.

    Attributes:
        value, ci95, n: the mean, its interval, the number of values.
        values: of each image, `[n]`.
    """

    value: float
    ci95: tuple[float, float]
    n: int
    values: np.ndarray = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, values: np.ndarray) -> "Mean":
        """Averages a vector `[n]`; ValueError for fewer than two values, or values that are not finite."""
        values = np.asarray(values, float)
        if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
            raise ValueError(f"Expected a vector of two or more finite values, got shape {values.shape}.")
        value, half = float(values.mean()), paired.half_width(values)
        return cls(value, (value - half, value + half), values.size, values)

    def compare(self, other: "Mean") -> paired.Comparison:
        """Compares with a mean over the same images: Student's paired test."""
        if self.n != other.n:
            raise ValueError(f"Paired means need the same images: got {self.n} and {other.n}.")
        change = self.values - other.values
        return paired.student(float(change.mean()), change)
