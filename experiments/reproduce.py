"""Every table and figure that has a preset, in one report: `python -m experiments.reproduce --budget=ci --check`.

Each program runs as a user would run it; what it has finished is kept, so the same command goes on where it stopped.
"""

import base64
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import markdown
import tabulate
from absl import flags

from experiments import common_flags, regression, report
from invgan_tf import files, presets


class Programs(NamedTuple):
    """What a dataset has, the preset its programs take by themselves, and that preset's parts they need."""

    names: tuple[str, ...]
    preset: str
    parts: frozenset[str]


_WHITE_BOX = ("table2", "table3", "table4", "figure2", "figure4", "figure7")
_DEFENCE = frozenset({"generator", "inverter", "classifier_a"})
_RIVALS = frozenset(
    {"generator", "inverter", "ablation_inverter", "ali_encoder", "ali_decoder", "age_encoder", "age_generator"}
)
_DATASETS = {
    "mnist": Programs(_WHITE_BOX, "mnist", _DEFENCE),
    "fashion_mnist": Programs(_WHITE_BOX, "fashion_mnist", _DEFENCE),
    "cifar10": Programs(("table1", "table5", "figure3"), "cifar10_dcgan", _RIVALS),
}
_PROGRAMS = (*_DATASETS["cifar10"].names, *_WHITE_BOX)
_FEW = ["--num_images=50", "--bpda_images=10", "--projector=fast"]
_MANY = ["--num_images=500", "--bpda_images=50"]
BUDGETS = {
    # One block of images, the fast projector, two black-box rounds of six, short sweeps: four minutes a
    # dataset on two cores that are fast at bfloat16.
    "ci": {
        "table2": _FEW,
        "table3": _FEW,
        "table4": [
            "--num_images=50",
            "--bare_images=1000",
            "--substitute_rounds=2",
            "--agreement_images=10",
            "--projector=fast",
        ],
        "figure2": _FEW,
        "figure4": ["--num_images=50", "--invgan_steps=0,20,60", "--defensegan_marks=20,60", "--restarts_shown=1,4"],
        "figure7": _FEW,
        "table1": ["--num_images=200"],
        "table5": ["--num_images=200"],
        "figure3": [],
    },
    # The paper's protocol on the first 500 images (BPDA 50), 1,000 for Table 4 and Figure 4: hours of two cores.
    "cpu": {
        "table2": [*_MANY, "--attacks=clean,fgsm,cw,rp,bpda,bpda_authors"],
        "table3": _MANY,
        "table4": [],
        "figure2": _MANY,
        "figure4": [],
        "figure7": _MANY,
        "table1": [],
        "table5": [],
        "figure3": [],
    },
    "paper": {
        "table2": ["--flagfile=flags/{dataset}_paper.flags"],
        "table3": ["--flagfile=flags/{dataset}_paper.flags"],
        "table4": ["--num_images=9850"],
        "figure2": ["--flagfile=flags/{dataset}_paper.flags"],
        "figure4": ["--num_images=10000"],
        "figure7": ["--flagfile=flags/{dataset}_paper.flags"],
        "table1": ["--flagfile=flags/{dataset}_table1_paper.flags"],
        "table5": ["--flagfile=flags/{dataset}_table1_paper.flags"],
        "figure3": [],
    },
}

flags.DEFINE_enum("budget", "ci", list(BUDGETS), "How much to compute: a first look, hours, or all there is.")
flags.DEFINE_list("datasets", None, f"Datasets to reproduce. Default: of {', '.join(_DATASETS)} those with a preset.")
flags.DEFINE_list("programs", list(_PROGRAMS), "Programs to run, each on the datasets that have it.")
flags.DEFINE_bool("check", False, "Exit with 1 where a cell leaves its interval in experiments/expected.")
flags.DEFINE_bool("update_expected", False, "Write experiments/expected from this run instead of checking against it.")
flags.DEFINE_string("expected_dir", None, "Folder of the expected cells. Default: experiments/expected.")

FLAGS = flags.FLAGS

flags.register_validator(
    "programs",
    lambda given: bool(given) and set(given) <= set(_PROGRAMS),
    f"must list some of {', '.join(_PROGRAMS)}",
)
flags.register_validator(
    "datasets",
    lambda given: given is None or (bool(given) and set(given) <= set(_DATASETS)),
    f"must list some of {', '.join(_DATASETS)}",
)
flags.register_multi_flags_validator(
    ["check", "update_expected"],
    lambda given: not (given["check"] and given["update_expected"]),
    "--check and --update_expected exclude each other",
)


def main() -> None:
    """Runs the programs, writes report.md and report.html, and checks what was measured."""
    sections, failed, wanted = [], [], _wanted()
    folder = pathlib.Path(FLAGS.output_dir or f"runs/reproduce/{FLAGS.budget}")
    folder.mkdir(parents=True, exist_ok=True)
    if FLAGS.check:  # before hours of work
        for dataset, programs in wanted.items():
            regression.read(_expected(dataset), programs)
    for dataset, programs in wanted.items():
        results = {}
        for program in programs:
            place = folder / f"{program}_{dataset}"
            if _run(program, dataset, place, folder / "cells"):
                failed.append(f"{program} on {dataset} failed")
            if (place / "results.json").is_file():
                results[program] = report.read(place / "results.json")
        sections.append((dataset, results))
    told, wrong = _judge(sections, wanted)
    _write(folder, sections, told, failed + wrong)
    print(f"Written to {folder}: report.md, report.html.")
    for line in (*failed, *wrong):
        print(f"FAILED: {line}", file=sys.stderr)
    if failed or wrong:
        sys.exit(1)


def _wanted():
    """Returns the programs to run, by dataset: by default where a preset is whole enough for them."""
    given = FLAGS.datasets or [dataset for dataset in _DATASETS if _is_whole(dataset)]
    if not given:
        raise common_flags.FlagError(f"--preset_dir={FLAGS.preset_dir} is no whole preset of {', '.join(_DATASETS)}.")
    own = {dataset: [name for name in _DATASETS[dataset].names if name in FLAGS.programs] for dataset in given}
    wanted = {dataset: programs for dataset, programs in own.items() if programs}
    if not wanted:
        raise common_flags.FlagError(f"--programs={','.join(FLAGS.programs)}: none of them is of {', '.join(given)}.")
    return wanted


def _is_whole(dataset):
    _, preset, parts = _DATASETS[dataset]
    try:
        return parts <= set(presets.read_card(FLAGS.preset_dir or preset, dataset))
    except presets.PresetError:
        return False


def _expected(dataset):
    folder = pathlib.Path(FLAGS.expected_dir or pathlib.Path(__file__).parent / "expected")
    return folder / f"{FLAGS.budget}_{dataset}.json"


def _run(program, dataset, place, cells_dir):
    """Runs one program behind its own progress bar; returns its exit status."""
    command = [sys.executable, "-m", f"experiments.{program}", f"--dataset={dataset}", f"--output_dir={place}"]
    command += [flag.format(dataset=dataset) for flag in BUDGETS[FLAGS.budget][program]]
    command += [f"--cells_dir={cells_dir}", f"--seed={FLAGS.seed}", f"--deterministic={FLAGS.deterministic}"]
    command += [f"--preset_dir={FLAGS.preset_dir}"] if FLAGS.preset_dir else []
    print(f"\n$ {' '.join(['python', *command[1:]])}", flush=True)
    return subprocess.run(command, cwd=pathlib.Path(__file__).parents[1], check=False).returncode


def _judge(sections, wanted):
    """Compares with what is expected, or writes it; returns lines for the report and what is wrong."""
    told, wrong = [], []
    for dataset, results in sections:
        path = _expected(dataset)
        if FLAGS.update_expected:
            path.parent.mkdir(parents=True, exist_ok=True)
            regression.write(path, results)
        if FLAGS.check:
            checked = regression.check(regression.read(path, wanted[dataset]), results)
            wrong += [f"{dataset}: {line}" for line in checked.wrong]
            told.append(f"### Check, {dataset}\n\n{checked.text}\n")
    return told, wrong


def _write(folder, sections, told, wrong):
    parts = [f"# Reproduction, budget `{FLAGS.budget}`", *(f"**FAILED: {line}**" for line in wrong), *told]
    for dataset, results in sections:
        for program, found in results.items():
            place = folder / f"{program}_{dataset}"
            if (place / "table.md").is_file():
                parts.append((place / "table.md").read_text(encoding="utf-8"))
            parts += [f"![{path.stem}, {dataset}]({place.name}/{path.name})" for path in sorted(place.glob("*.png"))]
            kept = {name: value for name, value in found["settings"].items() if value is not None}
            facts = [[name, str(value)] for name, value in {**kept, **found["environment"]}.items()]
            facts.append(["seconds of this run", str(found["seconds"])])
            parts.append("<details><summary>Settings</summary>\n")
            parts.append(tabulate.tabulate(facts, tablefmt="html") + "\n</details>")
    text = "\n\n".join(parts) + "\n"
    files.write_text(folder / "report.md", text)
    files.write_text(folder / "report.html", _html(folder, text))


_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}img{max-width:100%}"
)


def _html(folder, text):
    """Returns the report as one page that needs no other file."""

    def embedded(match):
        picture = base64.b64encode((folder / match[2]).read_bytes()).decode("ascii")
        return f"![{match[1]}](data:image/png;base64,{picture})"

    body = markdown.markdown(re.sub(r"!\[(.*?)\]\((.*?\.png)\)", embedded, text), extensions=["tables"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>invgan_tf reproduction</title>'
        f"<style>{_STYLE}</style>{body}</html>\n"
    )


if __name__ == "__main__":
    common_flags.run(main)
