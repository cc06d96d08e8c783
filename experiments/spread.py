"""The spread of a table's cells over several runs, `python -m experiments.spread --runs=DIR,DIR,...`."""

import pathlib

import numpy as np
import tabulate
from absl import flags

from experiments import common_flags, report
from invgan_tf import files

flags.DEFINE_list("runs", None, "Output folders of finished runs of one program.")

FLAGS = flags.FLAGS


def main() -> None:
    """Prints each cell's values over the runs with their mean, least and greatest, and writes spread.md."""
    if not FLAGS.runs or len(FLAGS.runs) < 2:
        raise common_flags.FlagError("--runs needs at least two output folders, comma-separated.")
    values: dict[tuple[str, str], list[float]] = {}
    sizes = set()
    kinds = set()
    for run in FLAGS.runs:
        results = report.read(pathlib.Path(run) / "results.json")
        kinds.add((results["experiment"], results["dataset"]))
        if len(kinds) > 1 or not results["complete"]:
            raise common_flags.FlagError(f"{run} is unfinished, or of another program or dataset than the runs before.")
        for cell in results["cells"]:
            values.setdefault((cell["row"], cell["column"]), []).append(cell["value"])
            sizes.add(cell["n"])
    body = [
        [*place, *(f"{value:.3f}" for value in given), f"{np.mean(given):.3f}", f"{min(given):.3f} to {max(given):.3f}"]
        for place, given in values.items()
        if len(given) == len(FLAGS.runs)
    ]
    headers = ["row", "column", *(f"run {number + 1}" for number in range(len(FLAGS.runs))), "mean", "spread"]
    text = tabulate.tabulate(body, headers=headers, tablefmt="github", disable_numparse=True)
    text += f"\n\nn = {', '.join(map(str, sorted(sizes)))}; runs: {', '.join(FLAGS.runs)}\n"
    folder = pathlib.Path(common_flags.output_dir("spread"))
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "spread.md", text)
    print(text)


if __name__ == "__main__":
    common_flags.run(main)
