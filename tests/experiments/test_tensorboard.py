"""TensorBoard as a user sees it: two runs in a real browser."""

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
from matplotlib import colors, image
from selenium import webdriver
from selenium.common import exceptions

from experiments import report
from invgan_tf.evaluation import accuracy

_MISSING = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
_QUIET = (  # root in a container, and no word to the outside
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1000"
)
_TEXT = """
const found = [];
(function walk(node) {
  if (node.shadowRoot) walk(node.shadowRoot);
  // Names of dashboards and messages that do not apply are in the page too, hidden.
  const shown = node.parentElement?.checkVisibility({visibilityProperty: true}) ?? true;
  if (node.nodeType === Node.TEXT_NODE && shown) found.push(node.textContent);
  if (!['SCRIPT', 'STYLE'].includes(node.nodeName)) node.childNodes.forEach(walk);
})(document.body);
return found.join(' ');
"""
_BOXES = """
const [selector] = arguments, found = [];
(function walk(root) {
  for (const node of root.querySelectorAll(selector)) {
    const box = node.getBoundingClientRect();
    found.push([box.left, box.top, box.right, box.bottom]);
  }
  root.querySelectorAll('*').forEach(node => node.shadowRoot && walk(node.shadowRoot));
})(document);
return found;
"""
_PICTURE = np.random.default_rng(1).integers(0, 256, (28, 56, 1)) / 255.0

pytestmark = pytest.mark.skipif(
    bool(_MISSING) and "CI" not in os.environ,
    reason=f"{' and '.join(_MISSING)} missing: apt-get install chromium chromium-driver (CI does)",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of a small table that differ in one setting."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    for name, dtype in (("first", "float32"), ("second", "bfloat16")):
        layout = report.Layout("table2", "mnist", "Table 2, mnist", ["InvGAN", "DefenseGAN"], ["Clean", "CW"])
        table = report.Report(layout, {"seed": 3, "projection_dtype": dtype}, folder / name)
        for row in layout.rows:
            measured = accuracy.Proportion.of(rng.random(37) < 0.9)
            table.add(row, "Clean", measured, seconds=1.0)
        table.show("InvGAN/Clean", _PICTURE)
        table.show_scores("InvGAN/CW", rng.normal(size=50), rng.normal(1.0, size=50))
    return folder


@pytest.fixture(scope="module")
def address(runs):
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={runs}", "--host=127.0.0.1", "--port=0"]
    with open(runs / "server.log", "wb") as log:
        server = subprocess.Popen([*command, "--load_fast=false"], stderr=log, stdout=log)
    try:
        yield _wait(lambda: _listening(server, runs / "server.log"), "TensorBoard to say where it listens")
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert not _MISSING, f"{' and '.join(_MISSING)} missing where CI should have installed them"
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in _QUIET.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def _listening(server: subprocess.Popen, log: pathlib.Path) -> str | None:
    words = log.read_text(errors="replace").split()
    assert server.poll() is None, f"TensorBoard ended: {' '.join(words)[-1000:]}"
    return next(
        (word for word in words if word.startswith("http://127.0.0.1:") and word[17:].strip("/").isdigit()), None
    )


def _wait(condition, what, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"Waited {seconds} s for {what}.")


def _open(browser, address, tab):
    browser.get("about:blank")  # another fragment alone would not load the page anew
    browser.get(f"{address}#{tab}")


def _see(browser, *wanted):
    """Waits until the rendered page holds all of these."""
    seen = [""]

    def there():
        try:
            seen[0] = browser.execute_script(_TEXT)
        except exceptions.WebDriverException:  # the page is being replaced
            return False
        return all(text in seen[0] for text in wanted)

    try:
        _wait(there, wanted, 60)
    except AssertionError:
        raise AssertionError(f"Not on the page: {[text for text in wanted if text not in seen[0]]}") from None
    assert "No dashboards are active" not in seen[0]


def _drawn(browser, part, runs_shown):
    """Returns a screenshot once these parts hold more than a frame: shades, and the colour of each run."""
    try:
        boxes, shot = browser.execute_script(_BOXES, part), browser.get_screenshot_as_png()
    except exceptions.WebDriverException:  # the page is being replaced
        return None
    page = image.imread(io.BytesIO(shot))[..., :3]
    edges = np.maximum(np.rint(boxes), 0).astype(int).reshape(-1, 4)
    pixels = np.concatenate(
        [np.empty((0, 3)), *(page[y:bottom, x:right].reshape(-1, 3) for x, y, right, bottom in edges)]
    )
    hue, saturation, _ = colors.rgb_to_hsv(pixels).T
    hues = np.bincount((hue[saturation > 0.5] * 12).astype(int), minlength=12)
    drawn = len(np.unique(pixels, axis=0)) > 20 and np.sum(hues >= 10) >= runs_shown
    return shot if drawn else None


# A chart's name is on the page seconds before its line: only the picture of that part of the page tells.
@pytest.mark.parametrize(
    ("tab", "wanted", "part", "runs_shown"),
    [
        ("timeseries", ["first", "second", "InvGAN", "score/InvGAN/CW", "table2"], "image-card img", 0),
        ("scalars", ["first", "second", "table2/InvGAN/Clean", "table2/DefenseGAN/Clean"], "vz-line-chart2", 2),
        ("images", ["first", "second", "InvGAN/Clean"], "img", 0),
        ("text", ["first", "second", "Table 2, mnist", "n=37", "95 % Wilson interval"], "table", 0),
        ("histograms", ["first", "second", "score/InvGAN/CW/attacked"], "vz-histogram-timeseries", 2),
        ("pr_curves", ["first", "second", "detection/InvGAN/CW"], "vz-line-chart2", 2),
        (
            "hparams",
            ["/first", "/second", "projection_dtype", "float32", "bfloat16", "table2/InvGAN/Clean"],
            "tf-hparams-table-view",
            0,
        ),
    ],
)
def test_a_tab_shows_what_the_runs_wrote(browser, address, tmp_path, tab, wanted, part, runs_shown):
    _open(browser, address, tab)
    _see(browser, *wanted)
    shot = _wait(lambda: _drawn(browser, part, runs_shown), f"{part} to be drawn", 60)
    (tmp_path / f"{tab}.png").write_bytes(shot)  # for a person to look at


def test_a_picture_arrives_in_its_pixels(address):
    def fetch(what, **query):
        with urllib.request.urlopen(f"{address}data/plugin/images/{what}?{urllib.parse.urlencode(query)}") as answer:
            return answer.read()

    (sample,) = json.loads(fetch("images", run="first", tag="InvGAN/Clean", sample=0))
    shown = image.imread(io.BytesIO(fetch("individualImage", **dict(urllib.parse.parse_qsl(sample["query"])))))
    np.testing.assert_allclose(shown.reshape(28, 56, -1)[..., :1], _PICTURE, atol=1 / 255)
