"""Accuracy and reconstruction loss against seconds: `python -m benchmarks.quality --dataset=mnist --defense=invgan`.

The paper's Figure 4 with time on the axis. Every case projects the same validation images, clean and under FGSM;
cases take turns block by block, so that the machine's moods are shared. Finished blocks are kept: the same command
goes on where it stopped.
"""

import functools
import pathlib
import re
from typing import NamedTuple

import matplotlib
import numpy as np
import tabulate
import tqdm
from absl import flags

from experiments import cells, common_flags, report
from invgan_tf import attacks, data, defenses, files, presets
from invgan_tf.evaluation import accuracy

flags.DEFINE_enum("defense", "invgan", ["invgan", "defensegan"], "Defence that projects.")
flags.DEFINE_list(
    "cases",
    ["exact", "exact@20", "exact@50", "exact@200", "fast@40", "fast@80", "fast", "exact/bfloat16", "fast/bfloat16"],
    "What to compare with the first: PROJECTOR[@STEPS][/DTYPE], as fast@60/bfloat16.",
)
flags.DEFINE_integer("num_images", 100, "Validation images, from the first on; as many again under FGSM.", 1)

FLAGS = flags.FLAGS

_BLOCK = 100
_CASE = re.compile(r"(exact|fast)(?:@(\d+))?(?:/(float32|bfloat16))?")
_DEFENSES = {"invgan": defenses.InvGAN, "defensegan": defenses.DefenseGAN}

flags.register_validator(
    "cases", lambda cases: bool(cases) and all(map(_CASE.fullmatch, cases)), "must list PROJECTOR[@STEPS][/DTYPE]"
)


class Measured(NamedTuple):
    """A case's figures, one a clean and one an attacked image: losses and whether it was classified rightly."""

    loss: np.ndarray
    correct: np.ndarray
    seconds: np.ndarray  # an image, one figure a block


def main() -> None:
    """Projects, compares with the first case, prints a table, writes JSON and a picture."""
    folder = pathlib.Path(FLAGS.output_dir or f"runs/benchmarks/quality/{FLAGS.dataset}_{FLAGS.defense}")
    store = cells.CellStore(folder / "cells")
    chosen, dataset = FLAGS.preset_dir or FLAGS.dataset, data.spec(FLAGS.dataset)
    presets.read_card(chosen, FLAGS.dataset)
    examples = data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir, limit=FLAGS.num_images)
    classifier = presets.load_classifier(chosen, "A")
    attacked = attacks.fgsm(classifier, examples.images, eps=dataset.attack_epsilon, value_range=dataset.value_range)
    images = np.stack([examples.images, attacked])
    built = {dtype: _DEFENSES[FLAGS.defense].from_preset(chosen, dtype=dtype) for dtype in ("float32", "bfloat16")}
    key = {"classifier": cells.fingerprint(classifier)}
    parts: dict[str, list] = {case: [] for case in FLAGS.cases}
    blocks = [np.arange(first, min(first + _BLOCK, len(examples))) for first in range(0, len(examples), _BLOCK)]
    for case in FLAGS.cases:  # traces and warms up
        _project(built, case, images[:, : min(_BLOCK, len(examples))], np.arange(min(_BLOCK, len(examples))), 2)
    for block in tqdm.tqdm(blocks, desc=f"{FLAGS.dataset} {FLAGS.defense}", unit="block"):
        for case in FLAGS.cases:
            defense = built[_parse(case)[2]]
            made_by = key | {
                "networks": {part: cells.fingerprint(getattr(defense, part)) for part in defense.parts},
                "projector": repr(defense.projectors[_parse(case)[0]]),
                "case": case,
                "images": cells.fingerprint(images[:, block]),
                "indices": block.tolist(),
                "seed": FLAGS.seed,
            }
            compute = functools.partial(_project, built, case, images[:, block], block)
            parts[case].append(store.get("projection", made_by, compute))
    measured = {case: _measure(parts[case], classifier, examples.labels) for case in FLAGS.cases}
    rows = [_compare(case, measured) for case in FLAGS.cases]
    print(tabulate.tabulate([row["shown"] for row in rows], headers="keys", tablefmt="github", disable_numparse=True))
    print(
        f"\n{FLAGS.dataset}, {FLAGS.defense}: the first {len(examples)} validation images, clean / FGSM; "
        "differences to the first case with the 95 % interval over images, p of McNemar's test on all "
        f"{2 * len(examples)}; times are medians over blocks of {_BLOCK} images of each kind."
    )
    settings = {name: FLAGS[name].value for name in ("dataset", "defense", "cases", "num_images", "seed")}
    content = {"benchmark": "quality", "rows": rows, "settings": settings, "environment": report.environment()}
    files.write_json(folder / "quality.json", content)
    _plot(folder, rows)


def _parse(case):
    projector, steps, dtype = _CASE.fullmatch(case).groups()
    return projector, int(steps) if steps else None, dtype or "float32"


def _project(built, case, images, block, steps=None):
    projector, wanted, dtype = _parse(case)
    result = built[dtype].project(
        images.reshape(-1, *images.shape[2:]),
        projector=projector,
        steps=steps or wanted,
        seed=FLAGS.seed,
        indices=np.tile(block, 2),
    )
    return {"images": result.images.reshape(images.shape), "loss": result.loss.reshape(2, -1)}


def _measure(parts, classifier, labels):
    images = np.concatenate([arrays["images"] for arrays, _ in parts], axis=1)
    predicted = np.stack([accuracy.predict(classifier, kind) for kind in images])
    loss = np.concatenate([arrays["loss"] for arrays, _ in parts], axis=1)
    seconds = np.array([seconds / arrays["loss"].size for arrays, seconds in parts])
    return Measured(loss, predicted == labels, seconds)


def _compare(case, measured):
    own, first = measured[case], measured[FLAGS.cases[0]]
    share = [accuracy.Proportion.of(flags) for flags in own.correct]
    differences = [accuracy.paired_difference(*pair) for pair in zip(own.correct, first.correct)]
    differences.append(accuracy.paired_difference(own.correct.ravel(), first.correct.ravel()))
    ratios = own.loss.mean(axis=1) / first.loss.mean(axis=1)
    p = accuracy.mcnemar(own.correct.ravel(), first.correct.ravel())
    speedup = float(np.median(first.seconds / own.seconds))
    shown = {
        "case": case,
        "ms an image": f"{np.median(own.seconds) * 1e3:.1f}",
        "times faster": f"{speedup:.1f}",
        "loss": " / ".join(f"{loss:.5f}" for loss in own.loss.mean(axis=1)),
        "ratio": " / ".join(f"{ratio:.3f}" for ratio in ratios),
        "accuracy": " / ".join(f"{given.value:.3f}" for given in share),
        "difference clean, FGSM, both": ", ".join(
            f"{d:+.3f} [{low:+.3f}, {high:+.3f}]" for d, (low, high) in differences
        ),
        "p": f"{p:.2g}",
    }
    return {
        "case": case,
        "shown": shown,
        "seconds_an_image": float(np.median(own.seconds)),
        "times_faster": speedup,
        "loss": own.loss.mean(axis=1).tolist(),
        "loss_ratio": ratios.tolist(),
        "accuracy": [given.value for given in share],
        "ci95": [given.ci95 for given in share],
        "n": own.loss.shape[1],
        "differences": differences,
        "mcnemar_p": p,
    }


def _plot(folder, rows):
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    lines: dict[tuple[str, str], list] = {}
    for row in sorted(rows, key=lambda row: row["seconds_an_image"]):
        projector, _, dtype = _parse(row["case"])
        lines.setdefault((projector, dtype), []).append(row)
    for (projector, dtype), chosen in sorted(lines.items()):
        seconds = [row["seconds_an_image"] for row in chosen]
        for kind, name in enumerate(("clean", "FGSM")):
            style = {"exact": "o-", "fast": "s--"}[projector]
            label = f"{name}, {projector}, {dtype}"
            panels[0].plot(seconds, [row["accuracy"][kind] for row in chosen], style, label=label)
            panels[0].fill_between(seconds, *np.transpose([row["ci95"][kind] for row in chosen]), alpha=0.15)
            panels[1].plot(seconds, [row["loss"][kind] for row in chosen], style, label=label)
    for axes, what in zip(panels, ("accuracy", "squared error")):
        axes.set(xlabel="seconds an image", ylabel=what, xscale="log", title=f"{FLAGS.dataset}, {FLAGS.defense}")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.grid(alpha=0.3)
    panels[1].set_yscale("log")
    panels[1].legend(fontsize="x-small")
    figure.savefig(folder / "quality.png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    common_flags.run(main)
