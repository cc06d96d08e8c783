"""A figure that no single image has, with the interval that independent parts of the images give."""

import dataclasses

import numpy as np

from invgan_tf.evaluation import paired

PARTS = 10  # the splits of the inception score (Salimans et al., 2016); the jackknife's groups


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure over n images with its 95 % Student interval over parts of them.

    Attributes:
        value, ci95, n: the figure, its interval, the number of images.
        parts: of each part, `[k]`: their mean's deviation is the figure's.
    """

    value: float
    ci95: tuple[float, float]
    n: int
    parts: np.ndarray = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, value: float, parts: np.ndarray, n: int, lowest: float = -np.inf) -> "Estimate":
        """Builds the interval; `lowest` is what the figure cannot fall below. ValueError for fewer than two parts."""
        parts = np.asarray(parts, float)
        if parts.ndim != 1 or parts.size < 2 or not np.isfinite([*parts, value]).all():
            raise ValueError(f"Expected two or more finite parts, got {parts}.")
        half = paired.half_width(parts)
        return cls(float(value), (max(lowest, float(value - half)), float(value + half)), n, parts)

    def compare(self, other: "Estimate") -> paired.Comparison:
        """Compares with a figure over the same images: Student's paired test over their parts."""
        if (self.n, self.parts.size) != (other.n, other.parts.size):
            raise ValueError(f"Paired figures need the same images: got {self.n} and {other.n}.")
        return paired.student(self.value - other.value, self.parts - other.parts)
