"""What a reproduction should find: cells of an earlier run, and how far a new one may be from them."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tabulate
from scipy import special, stats

from experiments import common_flags
from invgan_tf import files

_ALPHA = 0.001  # of a false alarm over all cells: each gets its part
_UNBOUNDED = ("MSE", "classifier-IS", "classifier-FID", "IS", "FID")  # the columns of Tables 1 and 5
_KEPT = ("row", "column", "value", "ci95", "n")


class Checked(NamedTuple):
    """What a comparison found: a text for the report, and what is wrong, a line each."""

    text: str
    wrong: list[str]


def write(path: str | os.PathLike, results: Mapping[str, Mapping]) -> None:
    """Keeps the cells of complete results, by program."""
    incomplete = [program for program, found in results.items() if not found["complete"]]
    if incomplete:
        raise common_flags.FlagError(f"{', '.join(incomplete)} did not finish: {path} was not written.")
    kept = {
        program: [{name: cell[name] for name in _KEPT} for cell in found["cells"]] for program, found in results.items()
    }
    files.write_json(path, kept)


def read(path: str | os.PathLike, programs: Sequence[str]) -> dict[str, list[dict]]:
    """Returns the kept cells of these programs; FlagError where there are none."""
    try:
        kept = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise common_flags.FlagError(f"{path} is missing: write it with --update_expected.") from error
    except ValueError as error:
        raise common_flags.FlagError(f"{path} is damaged: {error}.") from error
    missing = [program for program in programs if program not in kept]
    if missing:
        raise common_flags.FlagError(
            f"{path} expects nothing of {', '.join(missing)}: write it with --update_expected."
        )
    return {program: kept[program] for program in programs}


def check(kept: Mapping[str, Sequence[Mapping]], results: Mapping[str, Mapping]) -> Checked:
    """Compares results, by program, with what `read` gave.

    A cell is wrong where it is missing, rests on another number of images, or lies outside the kept cell's 99.9 %
    interval over images, corrected for the number of cells (Bonferroni): Wilson's for accuracies, the logit's for
    areas under curves, the normal one for errors, scores and distances.
    """
    count = sum(map(len, kept.values()))
    wrong, drops, rows = [], [], []
    for program, cells in kept.items():
        found = {(cell["row"], cell["column"]): cell for cell in results.get(program, {}).get("cells", [])}
        for cell in cells:
            name = f"{program}, {cell['row']}, {cell['column']}"
            low, high = interval(cell, _ALPHA / count)
            if low > 0.0 and cell["column"] not in _UNBOUNDED:  # below nothing there is no drop
                drops.append((cell["value"] - low, name))
            now = found.get((cell["row"], cell["column"]))
            problem = _problem(now, cell, low, high)
            if problem:
                wrong.append(f"{name} {problem}")
            value = "missing" if now is None else f"{now['value']:.3f}"
            rows.append([name, f"{cell['value']:.3f}", f"[{low:.3f}, {high:.3f}]", value, problem or "ok"])
    table = tabulate.tabulate(
        rows, ["cell", "expected", "allowed", "found", ""], tablefmt="github", disable_numparse=True
    )
    least, where = min(drops, default=(1.0, "none can drop"))
    text = (
        f"{count} cells, {len(wrong)} wrong; false alarm over all of them: at most {_ALPHA:.1%}.\n\n{table}\n\nThe "
        f"smallest drop this would catch is one of {least:.3f} ({where})."
    )
    return Checked(text, wrong)


def interval(cell: Mapping, alpha: float) -> tuple[float, float]:
    """Returns a kept cell's interval at another level: an accuracy is a share of whole images, the others are not."""
    value, n = cell["value"], cell["n"]
    wider = stats.norm.isf(alpha / 2) / stats.norm.isf(0.025)
    if cell["column"] in _UNBOUNDED:
        half = (cell["ci95"][1] - value) * wider  # the lower end may have been cut off at 0
        return max(0.0, value - half), value + half
    right = round(value * n)
    if abs(right - value * n) < 1e-6 and (right in (0, n) or _is_wilson(cell, right)):
        found = stats.binomtest(right, n).proportion_ci(1.0 - alpha, method="wilson")
        return float(found.low), float(found.high)
    low, high = special.logit(cell["ci95"])
    half = (high - low) / 2 * wider
    middle = special.logit(value)
    return float(special.expit(middle - half)), float(special.expit(middle + half))


def _is_wilson(cell, right):
    known = stats.binomtest(right, cell["n"]).proportion_ci(0.95, method="wilson")
    return abs(known.low - cell["ci95"][0]) < 1e-9


def _problem(now, cell, low, high):
    if now is None:
        return "is missing"
    if now["n"] != cell["n"]:
        return f"rests on n = {now['n']}, expected {cell['n']}"
    if not low <= now["value"] <= high:
        return f"is {now['value']:.3f}, outside [{low:.3f}, {high:.3f}] around {cell['value']:.3f}"
    return None
