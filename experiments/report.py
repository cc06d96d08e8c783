"""What a run tells: table on the terminal, results.json, Markdown, TensorBoard."""

import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import keras
import numpy as np
import tabulate
import tensorflow as tf
from scipy import stats
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.pr_curve import summary as pr_curve

from invgan_tf import files
from invgan_tf.evaluation import paired

if TYPE_CHECKING:
    import matplotlib.figure


class Measured(Protocol):
    """A figure over n images that knows how to be compared on the same images: a `Proportion`, an `AUC`."""

    value: float
    ci95: tuple[float, float]
    n: int

    def compare(self, other: Self) -> paired.Comparison: ...


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
        queries: images that an attack has asked an oracle about.
        std: standard deviation over images of what the value is the mean of.
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
    queries: int | None = None
    std: float | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """That one row is better than another, or at least as good: answered in each of its columns.

    Attributes:
        text: the claim in words.
        first, second: the rows.
        margin: by how much the first may be worse and the claim still holds; 0 for a claim to be better.
        columns: of which it speaks; None for all.
    """

    text: str
    first: str
    second: str
    margin: float = 0.0
    columns: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a table is before anything is measured.

    Attributes:
        experiment: name of the program, "table2".
        dataset: name of the dataset.
        title: heading of the printed table.
        rows, columns: its cells in order; a pair of `absent` has none.
        legend: what a cell's value and interval are.
        test: the paired test behind the answers to the claims.
        claims: what is answered below the table.
        sized: columns whose perturbation has no bound: its size is printed.
        absent: (row, column) pairs the table does not have.
        falling: columns in which the lower figure is the better one.
        note: what a reader must know besides.
    """

    experiment: str
    dataset: str
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    legend: str = "accuracy [95 % Wilson interval over images]"
    test: str = "McNemar's test, interval of Bonett and Price"
    claims: Sequence[Claim] = ()
    sized: Sequence[str] = ()
    absent: Sequence[tuple[str, str]] = ()
    falling: Sequence[str] = ()
    note: str = ""

    @property
    def places(self) -> list[tuple[str, str]]:
        """Returns (row, column) of every cell."""
        return [(row, column) for row in self.rows for column in self.columns if (row, column) not in self.absent]


class Report:
    """Collects a table's cells and writes what is known of it after every one of them.

    Args:
        layout: the table.
        settings: everything that was asked for.
        output_dir: where results.json, table.md and the TensorBoard events go; `files.InUseError` if another run
            that is still going writes there.
    """

    def __init__(self, layout: Layout, settings: Mapping, output_dir: str | os.PathLike):
        self.layout, self.settings = layout, dict(settings)
        self.folder = pathlib.Path(output_dir)
        files.lock(self.folder)
        self.cells: dict[tuple[str, str], Cell] = {}
        self._measured: dict[tuple[str, str], Measured] = {}
        self.findings: list[dict] = []
        self.environment = environment()
        self.began = time.perf_counter()
        self.writer = tf.summary.create_file_writer(str(self.folder))
        # HParams compares runs: named after their folders, for it would merge those of equal settings.
        trial = "/".join(self.folder.resolve().parts[-2:])
        with self.writer.as_default(step=0):
            hparams.hparams({name: _plain(name, value) for name, value in self.settings.items()}, trial_id=trial)

    @property
    def complete(self) -> bool:
        """Whether every cell of the table is there."""
        return all(place in self.cells for place in self.layout.places)

    def add(
        self, row: str, column: str, measured: Measured, *, seconds: float, paper: float | None = None, **details
    ) -> None:
        """Adds a cell and writes everything anew.

        Args:
            row, column: where it stands.
            measured: its value with its interval.
            seconds: what it cost.
            paper: the published figure.
            **details: further fields of `Cell`.
        """
        place = row, column
        self.cells[place] = Cell(
            row, column, measured.value, measured.ci95, measured.n, paper, round(seconds, 2), **details
        )
        self._measured[place] = measured
        with self.writer.as_default(step=0):
            tf.summary.scalar(f"{self.layout.experiment}/{row}/{column}".replace(" ", "_"), measured.value)
        self.write()

    def measured(self, row: str, column: str) -> Measured:
        """Returns a cell as it was added, to compare with."""
        return self._measured[row, column]

    def find(self, text: str, facts: Mapping) -> None:
        """Adds a finding that no single cell holds: a sentence under the table, its figures in results.json."""
        self.findings.append({"text": text, **facts})
        self.write()

    def show(self, name: str, picture: np.ndarray) -> None:
        """Writes a picture `[h, w, c]` in [0, 1] to TensorBoard."""
        with self.writer.as_default(step=0):
            tf.summary.image(name.replace(" ", "_"), picture[None])
        self.writer.flush()

    def show_scores(self, name: str, clean: np.ndarray, attacked: np.ndarray) -> None:
        """Writes histograms of both scores and their precision-recall curve to TensorBoard."""
        name, both = name.replace(" ", "_"), np.concatenate([clean, attacked])
        truth, ranks = np.repeat([False, True], [len(clean), len(attacked)]), stats.rankdata(both) / len(both)
        with self.writer.as_default(step=0):
            tf.summary.histogram(f"score/{name}/clean", clean)
            tf.summary.histogram(f"score/{name}/attacked", attacked)
            # The plugin wants scores from 0 to 1: ranks, which leave the curve as it is.
            curve = pr_curve.pb(f"detection/{name}", truth, ranks)
            tf.summary.experimental.write_raw_pb(curve.SerializeToString())
        self.writer.flush()

    def figure(self, name: str, figure: "matplotlib.figure.Figure") -> None:
        """Writes a matplotlib figure to NAME.png and to TensorBoard."""
        with files.replacing(self.folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=150)
        figure.clear()
        self.show(name, np.asarray(tf.io.decode_png(tf.io.read_file(str(self.folder / f"{name}.png"))), float) / 255.0)

    def write(self) -> None:
        """Writes results.json and table.md, each whole at any moment, and the table to TensorBoard."""
        with self.writer.as_default(step=len(self.cells) + len(self.findings)):  # it shows the newest step first
            tf.summary.text(self.layout.title, self.markdown())
        self.writer.flush()
        files.write_sealed(
            self.folder / "results.json",
            {
                "experiment": self.layout.experiment,
                "dataset": self.layout.dataset,
                "complete": self.complete,
                "seconds": round(time.perf_counter() - self.began, 1),
                "trained_pairs": 1,
                "cells": [dataclasses.asdict(self.cells[place]) for place in self.layout.places if place in self.cells],
                "comparisons": self.comparisons(),
                "findings": self.findings,
                "settings": self.settings,
                "environment": self.environment,
            },
        )
        files.write_text(self.folder / "table.md", self.markdown())

    def comparisons(self) -> list[dict]:
        """Returns the answer to each claim in each column that has both rows, on the same images."""
        found = []
        for claim in self.layout.claims:
            for column in self.layout.columns:
                if claim.columns is not None and column not in claim.columns:
                    continue
                first, second = (self._measured.get((row, column)) for row in (claim.first, claim.second))
                if first is not None and second is not None:
                    answer = first.compare(second)
                    lead = answer.reversed() if column in self.layout.falling else answer
                    found.append(
                        {
                            "claim": claim.text,
                            "rows": [claim.first, claim.second],
                            "column": column,
                            **answer._asdict(),
                            "margin": claim.margin,
                            "verdict": lead.verdict(claim.margin),
                        }
                    )
        return found

    def markdown(self) -> str:
        """Returns the table: measured value, 95 % interval and n, the published figure beside it, then the claims."""
        layout = self.layout
        body = [[row, *(self._text(row, column) for column in layout.columns)] for row in layout.rows]
        table = tabulate.tabulate(body, headers=["", *layout.columns], tablefmt="github", disable_numparse=True)
        legend = f"Measured {layout.legend}, n images (paper: published figure)."
        text = f"## {layout.title}\n\n{table}\n\n{legend} {layout.note}".rstrip()
        found = "".join(f"\n{finding['text']}\n" for finding in self.findings)
        return f"{text}\n{self._answers()}{found}"

    def _answers(self):
        answers: dict[str, dict[str, str]] = {}
        for given in self.comparisons():
            low, high = given["ci95"]
            text = f"{given['verdict']}: {given['difference']:+.3f} [{low:+.3f}, {high:+.3f}], p = {given['p']:.2g}"
            answers.setdefault(given["claim"], {})[given["column"]] = text
        if not answers:
            return ""
        columns = [column for column in self.layout.columns if any(column in row for row in answers.values())]
        body = [[claim, *(row.get(column, "-") for column in columns)] for claim, row in answers.items()]
        table = tabulate.tabulate(body, headers=["claim", *columns], tablefmt="github", disable_numparse=True)
        margins = sorted({claim.margin for claim in self.layout.claims if claim.margin})
        allowed = f" 'At least as' allows {' or '.join(map(str, margins))} less." if margins else ""
        return f"\n{table}\n\nDifference [95 % interval] on the same images; {self.layout.test}.{allowed}\n"

    def _text(self, row, column):
        if (row, column) not in self.layout.places:
            return "-"
        cell = self.cells.get((row, column))
        if cell is None:
            return "..."
        low, high = cell.ci95
        spread = "" if cell.std is None else f" ± {cell.std:.3f}"
        text = f"{cell.value:.3f}{spread} [{low:.3f}, {high:.3f}] n={cell.n}"
        if cell.paper is not None:
            text += f" (paper: {cell.paper:.{2 if cell.paper == round(cell.paper, 2) else 4}f})"
        if column in self.layout.sized and cell.l2_median is not None:
            text += f" L2 {cell.l2_median:.2f}, Linf {cell.linf_median:.2f}"
        if cell.queries is not None:
            text += f", {cell.queries:,} queries"
        return text


def _plain(name, value):
    """Returns a setting as HParams can hold and show it: it would round a seed."""
    if name == "seed":
        return str(value)
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


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
    """Returns a results.json; `files.DamagedError` if it is not as it was written."""
    return files.read_sealed(path)
