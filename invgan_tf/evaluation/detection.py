"""How well a projection tells attacked images from clean ones (paper, section 3.3 and Table 3)."""

import dataclasses

import keras
import numpy as np
from scipy import special, stats

from invgan_tf.evaluation import accuracy, paired

_Z95 = float(stats.norm.ppf(0.975))


def feature_score(classifier: keras.Model, images: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """Eq. 7: how far the projection moves an image in the classifier's feature space.

    Args:
        classifier: its `.features(images)` is Phi.
        images, projected: `[n, h, w, c]` in the classifier's range.

    Returns:
        The squared distance of Phi(x) and Phi(projection of x), mean over features, `[n]`; high for an attack.
    """
    if not hasattr(classifier, "features"):
        raise ValueError(f"{type(classifier).__name__} has no features(images): Eq. 7 compares those.")
    _check_pair(images, projected)

    def phi(x):
        return accuracy.outputs(classifier.features, x).reshape(len(x), -1)

    return np.mean(np.square(phi(images) - phi(projected)), axis=1)


def image_score(images: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """The ablation of Eq. 7: the squared distance of x and its projection, mean over pixels, `[n]`."""
    _check_pair(images, projected)
    return np.mean(np.square(images - projected), axis=(1, 2, 3))


def _check_pair(images, projected):
    if np.ndim(images) != 4 or np.shape(images) != np.shape(projected):
        raise ValueError(
            "Images and their projections must be [n, h, w, c] alike, "
            f"got {list(np.shape(images))} and {list(np.shape(projected))}."
        )


@dataclasses.dataclass(frozen=True)
class AUC:
    """Area under the ROC curve of attacked against clean images, with its 95 % interval.

    An attacked image and the clean one it was made from count as one unit: the interval is DeLong's (1988) with each
    image's two structural components added, on the logit scale; where all images are told apart, Wilson's of n in n.

    Attributes:
        value, ci95, n: the area, its interval, the number of images.
        components: of each image, `[n]`: their mean's deviation is the area's.
    """

    value: float
    ci95: tuple[float, float]
    n: int
    components: np.ndarray = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, clean: np.ndarray, attacked: np.ndarray) -> "AUC":
        """Counts scores of the same n images, clean and attacked, `[n]` each.

        Raises:
            ValueError: for scores of different or no images, or scores that are not finite.
        """
        clean, attacked = np.asarray(clean, float), np.asarray(attacked, float)
        if clean.shape != attacked.shape or clean.ndim != 1 or clean.size < 2:
            raise ValueError(
                "An AUC needs clean and attacked scores of the same two or more images: "
                f"got shapes {clean.shape} and {attacked.shape}."
            )
        if not (np.isfinite(clean).all() and np.isfinite(attacked).all()):
            raise ValueError("An AUC needs finite scores.")
        n = clean.size
        ranks = stats.rankdata(np.concatenate([clean, attacked]))
        below = (ranks[n:] - stats.rankdata(attacked)) / n  # share of clean scores below each attacked one
        above = 1.0 - (ranks[:n] - stats.rankdata(clean)) / n  # share of attacked scores above each clean one
        components = below + above
        value = float(below.mean())
        return cls(value, _interval(value, np.sqrt(components.var(ddof=1) / n), n), n, components)

    def compare(self, other: "AUC") -> paired.Comparison:
        """Compares with an area over the same images: DeLong's paired test, images as units."""
        if self.n != other.n:
            raise ValueError(f"Paired areas need the same images: got {self.n} and {other.n}.")
        difference = self.value - other.value
        error = np.sqrt((self.components - other.components).var(ddof=1) / self.n)
        if error == 0.0:
            return paired.Comparison(difference, (difference, difference), 1.0 if difference == 0.0 else 0.0)
        p = 2.0 * stats.norm.sf(abs(difference) / error)
        return paired.Comparison(difference, (difference - _Z95 * error, difference + _Z95 * error), float(p))


def _interval(value, error, n):
    if value in (0.0, 1.0):
        known = stats.binomtest(round(value * n), n).proportion_ci(0.95, method="wilson")
        return float(known.low), float(known.high)
    half = _Z95 * error / (value * (1.0 - value))
    return tuple(float(special.expit(special.logit(value) + side)) for side in (-half, half))
