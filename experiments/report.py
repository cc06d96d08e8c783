"""What a run tells: table on the terminal, results.json, Markdown, TensorBoard."""

import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tabulate
import tensorflow as tf

from invgan_tf import files
from invgan_tf.evaluation import accuracy


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measured cell of a table, as results.json holds it.

    Attributes:
        row, column: names as the paper spells them.
        value: the measured figure.
        ci95: its 95 % interval over images.
        n: images behind it.
        paper: the published figure, None where the paper has none.
        seconds: what attacking and projecting its images cost when they were computed; rows that share an
            attack each count it.
        l2_median, linf_median: size of the perturbation, median over the images the attack changed.
        attack_failures: images the attack gave back unchanged.
        projection_loss: squared error of the projection (Eq. 6), mean over pixels and images.
    """

    row: str
    column: str
    value: float
    ci95: tuple[float, float]
    n: int
    paper: float | None
    seconds: float
    l2_median: float | None = None
    linf_median: float | None = None
    attack_failures: int | None = None
    projection_loss: float | None = None


class Report:
    """Collects a table's cells and writes what is known of it after every one of them.

    Args:
        experiment: name of the program, "table2".
        dataset: name of the dataset.
        title: heading of the printed table.
        rows, columns: the table's cells in order; a pair of `absent` has none.
        settings: everything that was asked for.
        output_dir: where results.json, table.md and the TensorBoard events go.
        absent: (row, column) pairs the table does not have.
        note: what a reader must know of the table besides its cells.
        compared: two rows whose accuracies are compared, image by image.
    """

    def __init__(
        self,
        experiment: str,
        dataset: str,
        title: str,
        rows: Sequence[str],
        columns: Sequence[str],
        settings: Mapping,
        output_dir: str | os.PathLike,
        absent: Sequence[tuple[str, str]] = (),
        note: str = "",
        compared: tuple[str, str] = ("InvGAN", "DefenseGAN"),
    ):
        self.experiment, self.dataset, self.title = experiment, dataset, title
        self.rows, self.columns, self.settings = list(rows), list(columns), dict(settings)
        self.expected = [(row, column) for row in rows for column in columns if (row, column) not in absent]
        self.folder = pathlib.Path(output_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.note, self.compared = note, compared
        self.correct: dict[tuple[str, str], np.ndarray] = {}
        self.cells: dict[tuple[str, str], Cell] = {}
        self.environment = environment()
        self.began = time.perf_counter()
        self.writer = tf.summary.create_file_writer(str(self.folder))

    @property
    def complete(self) -> bool:
        """Whether every cell of the table is there."""
        return all(place in self.cells for place in self.expected)

    def add(self, cell: Cell, correct: np.ndarray | None = None, pictures: np.ndarray | None = None) -> None:
        """Adds a cell and writes everything anew.

        Args:
            cell: the measured cell.
            correct: whether each image was classified rightly, `[n]`, for comparisons of rows.
            pictures: `[rows, columns, h, w, c]` in [0, 1], shown in TensorBoard under the cell's name.
        """
        self.cells[cell.row, cell.column] = cell
        if correct is not None:
            self.correct[cell.row, cell.column] = correct
        name = f"{cell.row}/{cell.column}".replace(" ", "_")
        with self.writer.as_default(step=0):
            tf.summary.scalar(f"{self.experiment}/{name}", cell.value)
            tf.summary.text(self.title, self.markdown())
            if pictures is not None:
                rows, columns, height, width, channels = pictures.shape
                grid = np.transpose(pictures, (0, 2, 1, 3, 4)).reshape(1, rows * height, columns * width, channels)
                tf.summary.image(name, grid)
        self.writer.flush()
        self.write()

    def write(self) -> None:
        """Writes results.json and table.md; each is whole at any moment."""
        files.write_json(
            self.folder / "results.json",
            {
                "experiment": self.experiment,
                "dataset": self.dataset,
                "complete": self.complete,
                "seconds": round(time.perf_counter() - self.began, 1),
                "trained_pairs": 1,
                "cells": [
                    {name: value for name, value in dataclasses.asdict(self.cells[place]).items()}
                    for place in self.expected
                    if place in self.cells
                ],
                "comparisons": self.comparisons(),
                "settings": self.settings,
                "environment": self.environment,
            },
        )
        files.write_text(self.folder / "table.md", self.markdown())

    def comparisons(self) -> list[dict]:
        """Returns, for each column, how the two compared rows differ and McNemar's p-value."""
        found = []
        for column in self.columns:
            first, second = (self.correct.get((row, column)) for row in self.compared)
            if first is not None and second is not None:
                difference, p = float(first.mean() - second.mean()), accuracy.mcnemar(first, second)
                found.append({"rows": self.compared, "column": column, "difference": difference, "p": p})
        return found

    def markdown(self) -> str:
        """Returns the table: measured value, 95 % interval and n, and the published figure beside it."""
        body = [[row, *(self._text(row, column) for column in self.columns)] for row in self.rows]
        table = tabulate.tabulate(body, headers=["", *self.columns], tablefmt="github", disable_numparse=True)
        legend = "Measured accuracy [95 % Wilson interval over images], n images (paper: published figure)."
        pairs = [f"{given['column']} {given['difference']:+.3f} (p = {given['p']:.2g})" for given in self.comparisons()]
        compared = f"\n\n{' less '.join(self.compared)} on the same images, McNemar's test: {', '.join(pairs)}."
        return f"## {self.title}\n\n{table}\n\n{legend} {self.note}".rstrip() + (compared if pairs else "") + "\n"

    def _text(self, row, column):
        if (row, column) not in self.expected:
            return "-"
        cell = self.cells.get((row, column))
        if cell is None:
            return "..."
        low, high = cell.ci95
        text = f"{cell.value:.3f} [{low:.3f}, {high:.3f}] n={cell.n}"
        if cell.paper is not None:
            text += f" (paper: {cell.paper:.2f})"
        if cell.l2_median is not None and column not in ("FGSM", "RP"):
            text += f" L2 {cell.l2_median:.2f}, Linf {cell.linf_median:.2f}"
        return text


def perturbation(clean: np.ndarray, attacked: np.ndarray) -> dict[str, float | int | None]:
    """Returns the size of an attack's changes: medians over changed images, and how many it left as they were."""
    difference = (attacked - clean).reshape(len(clean), -1)
    changed = difference[np.any(difference != 0, axis=1)]
    return {
        "l2_median": float(np.median(np.linalg.norm(changed, axis=1))) if len(changed) else None,
        "linf_median": float(np.median(np.abs(changed).max(axis=1))) if len(changed) else None,
        "attack_failures": len(clean) - len(changed),
    }


def environment() -> dict[str, str | int]:
    """Returns what a number depends on besides its flags: versions, processor, commit."""
    describe = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(
            describe, capture_output=True, text=True, check=False, cwd=pathlib.Path(__file__).parent
        )
        described = commit.stdout.strip()
    except OSError:  # no git on this machine
        described = ""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "device": "GPU" if tf.config.list_physical_devices("GPU") else "CPU",
        "cores": len(os.sched_getaffinity(0)),
        "commit": described or "unknown",
    }


def read(path: str | os.PathLike) -> dict:
    """Returns a results.json."""
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
