"""What a comparison on the same images says of a claim."""

from typing import NamedTuple

import numpy as np
from scipy import stats

_SIGNIFICANT = 0.05


class Comparison(NamedTuple):
    """A first figure less a second on the same images.

    Attributes:
        difference: first less second.
        ci95: its 95 % interval.
        p: two-sided, of their being equal.
    """

    difference: float
    ci95: tuple[float, float]
    p: float

    def reversed(self) -> "Comparison":
        """Returns the second figure less the first: what tells who leads where less is better."""
        return Comparison(-self.difference, (-self.ci95[1], -self.ci95[0]), self.p)

    def verdict(self, margin: float = 0.0) -> str:
        """Answers whether the first is the greater one, or less by no more than `margin`.

        Returns:
            "refuted" where it is significantly less (p < 0.05); "confirmed" where it is significantly greater, or
            its interval excludes a lead of the second by `margin`; else "undecided".
        """
        if self.p < _SIGNIFICANT:
            return "confirmed" if self.difference > 0 else "refuted"
        return "confirmed" if margin and self.ci95[0] > -margin else "undecided"


def half_width(values: np.ndarray) -> float:
    """Returns half of the 95 % Student interval of the mean of values `[n]`, two or more."""
    return float(stats.t.ppf(0.975, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))


def student(difference: float, changes: np.ndarray) -> Comparison:
    """Compares by Student's paired test.

    Args:
        difference: of the two figures.
        changes: differences of their parts `[n]`; their mean's deviation is the figures'.
    """
    half = half_width(changes)
    if half == 0.0:
        return Comparison(difference, (difference, difference), float(difference == 0.0))
    freedom = changes.size - 1
    p = 2.0 * stats.t.sf(abs(difference) / half * stats.t.ppf(0.975, freedom), freedom)
    return Comparison(difference, (difference - half, difference + half), float(p))
