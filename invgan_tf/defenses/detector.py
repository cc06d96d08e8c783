"""Attack detection by projection (paper, section 3.3): how far an image moves tells whether it was attacked."""

import numpy as np

from invgan_tf.defenses import defended
from invgan_tf.evaluation import detection


class AttackDetector:
    """Scores images by Eq. 7 and flags those whose score few clean images reach.

    Args:
        model: a classifier behind a defence; the classifier has `features`, as `load_classifier` gives it.

    Attributes:
        threshold: scores above it are flagged; None before `calibrate`.

    Raises:
        ValueError: for anything but a `Defended`, or a classifier without features.

    Example:
        >>> classifier, digits = invgan_tf.load_classifier("mnist", "A"), data.load("mnist", "test", limit=20).images
        >>> defended = invgan_tf.Defended(classifier, invgan_tf.InvGAN.from_preset("mnist"), steps=5)
        >>> detector = invgan_tf.AttackDetector(defended)
        >>> detector.calibrate(digits[:15], false_positive_rate=0.1) >= 0.0
        True
        >>> detector.flag(digits[15:]).shape
        (5,)
    """

    def __init__(self, model: defended.Defended):
        if not isinstance(model, defended.Defended):
            raise ValueError(f"AttackDetector needs a Defended classifier, got {type(model).__name__}.")
        if not hasattr(model.classifier, "features"):
            raise ValueError(f"{type(model.classifier).__name__} has no features(images): Eq. 7 compares those.")
        self.model, self.threshold = model, None

    def score(self, images, *, indices=None) -> np.ndarray:
        """Projects images and returns Eq. 7's score of each, `[n]`, at least 0; high for an attack.

        Args:
            images: `[n, h, w, c]`, floating, in the defence's range.
            indices: the images' numbers, as for `Defense.project`.

        Raises:
            ValueError: for images of another shape, dtype or range.
        """
        projected = self.model.project(images, indices).images
        return detection.feature_score(self.model.classifier, np.asarray(images, np.float32), projected)

    def calibrate(self, clean_images, false_positive_rate: float = 0.05, *, indices=None) -> float:
        """Sets and returns the threshold that no more than this share of clean images exceeds.

        Args:
            clean_images: as for `score`; not the images the rate is then measured on.
            false_positive_rate: from 0 to below 1.
            indices: as for `score`.

        Raises:
            ValueError: for a rate outside that, or bad images.
        """
        self.threshold = threshold(self.score(clean_images, indices=indices), false_positive_rate)
        return self.threshold

    def flag(self, images, *, indices=None) -> np.ndarray:
        """Returns whether each image looks attacked, `[n]` bool; RuntimeError before `calibrate`."""
        if self.threshold is None:
            raise RuntimeError("AttackDetector has no threshold yet: call calibrate(clean_images) first.")
        return self.score(images, indices=indices) > self.threshold


def threshold(clean_scores: np.ndarray, false_positive_rate: float) -> float:
    """Returns the least of the clean scores that no more than this share of them exceeds."""
    if not 0.0 <= false_positive_rate < 1.0:
        raise ValueError(f"false_positive_rate must lie in [0, 1), got {false_positive_rate!r}.")
    exceeding = int(false_positive_rate * len(clean_scores) + 1e-9)
    return float(np.sort(clean_scores)[len(clean_scores) - 1 - exceeding])
