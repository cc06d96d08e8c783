"""Robust accuracy against the size of the perturbation, from all images that fooled a defence."""

from collections.abc import Mapping

import matplotlib.figure
import numpy as np
import tensorflow as tf
from scipy import stats

from experiments import adaptive_evaluation, report, whitebox_flags
from experiments.adaptive_evaluation import CLEAN, Cell, Outcome

_AXES = {
    "inf": ("L-infinity norm of the perturbation (eps)", "linf_eps"),
    "2": ("L2 norm of the perturbation", "l2_eps"),
}


def lost(cell: Cell, outcome: Outcome, threshold: float | None = None) -> np.ndarray:
    """Returns which images a cell costs the defender, `[n]`.

    An image that is misread; with a detector, which flags scores above its threshold, an attacked image that is misread
    and passes, and a clean one that is misread or flagged.
    """
    if threshold is None:
        return ~outcome.correct
    flagged = outcome.score > threshold
    return ~outcome.correct | flagged if cell.attack == CLEAN else ~outcome.correct & ~flagged


def least(
    outcomes: Mapping[Cell, Outcome], norm: str, count: int, threshold: float | None = None
) -> tuple[np.ndarray, list[Cell | None]]:
    """Returns the size of the least perturbation that costs each of the first images, and which cell's it is.

    Args:
        outcomes: a defence's cells, the clean one among them; images of every ball count, whatever its norm.
        norm: "inf" or "2".
        count: images.
        threshold: of the detector, as for `lost`.

    Returns:
        Sizes `[count]`, 0 where the clean image is lost and infinite where nothing is, and the cells.
    """
    sizes, cells = np.full(count, np.inf), [None] * count
    for cell, outcome in outcomes.items():
        change = (outcome.attacked - outcome.clean)[:count].reshape(count, -1)
        size = np.abs(change).max(axis=1) if norm == "inf" else np.linalg.norm(change, axis=1)
        size = np.where(lost(cell, outcome, threshold)[:count], size, np.inf)
        for row in np.flatnonzero(size < sizes):
            sizes[row], cells[row] = size[row], cell
    return sizes, cells


def draw(table: report.Report, found: Mapping[Cell, Outcome]) -> None:
    """Draws a curve for each defence against either norm: PNG, TensorBoard's picture and its scalars."""
    figure = matplotlib.figure.Figure(figsize=(11, 4.2), layout="constrained")
    for axes, (norm, (name, flag)) in zip(figure.subplots(1, 2, sharey=True), _AXES.items()):
        radii = np.linspace(0.0, 1.05 * max(adaptive_evaluation.radii(flag)), 200)
        for defense in adaptive_evaluation.rows():
            own = {cell: outcome for cell, outcome in found.items() if cell.defense == defense}
            (clean,) = (outcome for cell, outcome in own.items() if cell.attack == CLEAN)
            count = min(adaptive_evaluation.FLAGS.inside_images, len(clean.labels))
            sizes, _ = least(own, norm, count)
            left = (sizes[None] > radii[:, None]).sum(axis=1)
            bounds = [stats.binomtest(int(k), count).proportion_ci(0.95, "wilson") for k in left]
            row = whitebox_flags.ROWS[defense]
            (line,) = axes.plot(radii, left / count, drawstyle="steps-post", label=f"{row} (n = {count})")
            axes.fill_between(
                radii, [b.low for b in bounds], [b.high for b in bounds], alpha=0.2, color=line.get_color(), step="post"
            )
            with table.writer.as_default():
                for place, share in enumerate(left / count):
                    tag = f"robust_accuracy_{norm}/{row}".replace(" ", "_")
                    tf.summary.scalar(tag, share, step=round(1000 * radii[place]), description="step: 1000 x radius")
        axes.set(xlabel=name, ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    figure.axes[0].set(ylabel="accuracy under the worst attack", title=table.layout.dataset)
    figure.axes[0].legend(fontsize="small")
    table.figure("robust_accuracy", figure)
