"""Pictures that several programs draw: grids for TensorBoard, and rows of images with captions."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.figure
import numpy as np

from invgan_tf import data

RIGHT, WRONG = "tab:green", "tab:red"


def unit(images: np.ndarray, dataset: str) -> np.ndarray:
    """Brings images from the dataset's range to [0, 1]."""
    low, high = data.spec(dataset).value_range
    return (images - low) / (high - low)


def grid(rows: Sequence[np.ndarray], dataset: str) -> np.ndarray:
    """Lays rows of images, each `[n, h, w, c]` in the dataset's range, out as one picture `[H, W, c]` in [0, 1]."""
    stacked = unit(np.stack(rows), dataset)
    count, columns, height, width, channels = stacked.shape
    return stacked.transpose(0, 2, 1, 3, 4).reshape(count * height, columns * width, channels)


class Strip(NamedTuple):
    """A row of a picture.

    Attributes:
        name: written at its left.
        images: `[n, h, w, c]` in the dataset's range.
        captions: under each image, with a colour.
    """

    name: str
    images: np.ndarray
    captions: Sequence[tuple[str, str]]


def strips(title: str, rows: Sequence[Strip], dataset: str) -> matplotlib.figure.Figure:
    """Draws rows of images, each with its caption; a row of fewer images ends early."""
    columns = max(len(row.images) for row in rows)
    figure = matplotlib.figure.Figure(figsize=(1.6 + 0.95 * columns, 0.6 + 1.25 * len(rows)), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(panels, rows):
        for axes, image, (caption, colour) in zip(line, unit(row.images, dataset), row.captions):
            axes.imshow(image.squeeze(), cmap="gray", vmin=0.0, vmax=1.0)
            axes.set_xlabel(caption, color=colour, fontsize=8, labelpad=2)
            axes.set(xticks=[], yticks=[])
        for axes in line[len(row.images) :]:
            axes.axis("off")
        line[0].set_ylabel(row.name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def curve(axes, x: Sequence[float], cells: Sequence, label: str, style: str = "o-") -> None:
    """Draws cells' values against x, their intervals as a band."""
    (line,) = axes.plot(x, [cell.value for cell in cells], style, label=f"{label} (n = {cells[0].n})")
    low, high = np.transpose([cell.ci95 for cell in cells])
    axes.fill_between(x, low, high, alpha=0.2, color=line.get_color())
