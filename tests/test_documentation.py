"""The documentation does what it says: every block of code is run, the long ones at a small size."""

import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

import invgan_tf
from experiments import whitebox
from invgan_tf import data

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)
_TABLE = ["--num_images=4", "--steps=2", "--defensegan_steps=2", "--restarts=2", "--attacks=clean,fgsm", "--workers=1"]

# What makes a program short; one that is not named here is not run: its flags are read.
SMALL = {
    "experiments.table2": _TABLE,
    "experiments.invert": ["--training_steps=3", "--fresh_latents=20", "--batch_size=4"],
    "experiments.export": ["--steps=2", "--calibration_images=20"],
    "experiments.adaptive": [
        *_TABLE[1:4],
        "--num_images=3",
        "--inside_images=1",
        "--detector_images=4",
        "--linf_eps=0.3",
        "--l2_eps=4",
        "--few_eps=0.3",
        "--attack_steps=2",
        "--attack_restarts=1",
        "--inside_restarts=1",
        "--inside_steps=1",
        "--query_steps=1",
        "--queries=2",
        "--workers=1",
    ],
    "benchmarks.serving": ["--served_steps=0,1", "--served_batches=1", "--requests=2"],
}
SEPARATE = {"tools.rescore"}  # sets up TensorFlow in its own way; short after a short program
SHORTER = {"width, epochs = 16, 4": "width, epochs = 2, 1"}  # in blocks of Python
_ROOMS = ("experiments", "benchmarks", "tools")
_MOST_STEPS, _MOST_IMAGES = 3, 60


def _blocks(page):
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def _commands(text):
    """Yields the commands of a block of shell, as words."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word != "&&":
                words.append(word)
            elif words:
                yield words
                words = []


def _program(words):
    """Returns the module and flags of `python -m MODULE ...`, or None."""
    return (words[2], words[3:]) if words[:2] == ["python", "-m"] and len(words) > 2 else None


def _run(module, arguments):
    """Runs a program in this process; one that SMALL does not name only reads its flags."""
    if module in SEPARATE:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    program = importlib.import_module(module)
    whitebox.from_flags.cache_clear()  # another page's cells lie in another folder
    with flagsaver.flagsaver():
        flags.FLAGS(["program", *arguments, *SMALL.get(module, [])])
        if module in SMALL:
            program.main()


def _check_installation(words):
    """Extras and files that a pip command names are there."""
    declared = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        for extra in extras.split(","):
            assert f'"{extra}": [' in declared
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).is_file()


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Few steps and few images, in a folder of its own."""
    init, load = invgan_tf.InvGAN.__init__, data.load

    def short(self, *args, steps=1000, **kwargs):
        init(self, *args, steps=min(steps, _MOST_STEPS), **kwargs)

    def few(name, split, *, data_dir=None, limit=None):
        return load(name, split, data_dir=data_dir, limit=min(limit or _MOST_IMAGES, _MOST_IMAGES))

    monkeypatch.setattr(invgan_tf.InvGAN, "__init__", short)
    monkeypatch.setattr(data, "load", few)
    monkeypatch.chdir(tmp_path)


def _of_page(page):
    heavy = page.parent.name == "tutorials" or page.name == "adaptive.md"
    return pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.slow] if heavy else [])


@pytest.mark.parametrize("page", [_of_page(page) for page in PAGES if _blocks(page)])
def test_every_block_of_code_runs(page, small):
    names: dict = {}
    if page.name == "toolboxes.md":
        pytest.importorskip("foolbox")
        pytest.importorskip("art")
    for language, text in _blocks(page):
        if language == "python":
            for long, short in SHORTER.items():
                text = text.replace(long, short)
            exec(compile(text, str(page), "exec"), names)
        elif language == "bash":
            for words in _commands(text):
                if "install" in words:
                    _check_installation(words)
                elif _program(words) and _program(words)[0].split(".")[0] in _ROOMS:
                    _run(*_program(words))
        else:
            raise AssertionError(f"{page.name} has a block in {language}, which no test runs")


def test_shortened_text_is_there():
    python = "".join(text for page in PAGES for language, text in _blocks(page) if language == "python")
    assert all(long in python for long in SHORTER)


def _told_commands():
    for page in [*PAGES, ROOT / "WORKSPACE.md", ROOT / "RESULTS.md", ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        inline = re.findall(r"`(python -m (?:experiments|benchmarks|tools)\.[^`]*)`", text)
        shell = [block for language, block in _blocks(page) if language == "bash"]
        for command in [*(" ".join(command.split()) for command in inline), *shell]:
            for words in _commands(command):
                if _program(words) and _program(words)[0].split(".")[0] in _ROOMS:
                    yield page.name, *_program(words)


def test_programs_and_flags_that_are_told_of_are_there():
    sources = "".join(path.read_text() for room in _ROOMS for path in (ROOT / room).glob("*.py"))
    defined = {*re.findall(r"DEFINE_\w+\(\s*\"(\w+)\"", sources), "flagfile"}
    told = list(_told_commands())
    assert len(told) > 20
    for page, module, arguments in told:
        path = ROOT / (module.replace(".", "/") + ".py")
        assert path.is_file() and "def main(" in path.read_text(), f"{page} tells of {module}, which is no program"
        for argument in arguments:
            name, _, value = argument.partition("=")
            if not name.startswith("--"):
                continue
            known = name[2:] in defined or name[2:].removeprefix("no") in defined
            assert known, f"{page} tells of {module} {argument}: there is no such flag"
            assert name != "--flagfile" or "*" in value or (ROOT / value).is_file(), f"{page} tells of {value}"


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    before, after = map(float, re.search(r"^(0\.\d+) ([01]\.\d+)$", text, re.M).groups())
    assert after > before
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_notebook_is_the_quick_start():
    notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    blocks = [text.strip() for kind, text in _blocks(ROOT / "docs" / "quickstart.md") if kind == "python"]
    assert code[: len(blocks)] == blocks
    assert not any(cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.slow
def test_documentation_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # of MkDocs' future, not of these pages
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    reference = (tmp_path / "site" / "reference" / "defenses.html").read_text(encoding="utf-8")
    assert "Projects images onto the generator" in reference
