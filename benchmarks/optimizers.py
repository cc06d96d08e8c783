"""What each way to descend reaches, and at which cost: `python -m benchmarks.optimizers --dataset=mnist`.

Every rule starts from I(x) on the same validation images, clean and under FGSM. This is how the fast projector was
chosen; `benchmarks.quality` judges what was chosen.
"""

import dataclasses
import pathlib
import time

import numpy as np
import tabulate
import tensorflow as tf
from absl import flags
from scipy import stats

from benchmarks import gauss_newton
from experiments import common_flags, report
from invgan_tf import attacks, data, defenses, fast_projection, files, folding, presets, projection

flags.DEFINE_integer("num_images", 100, "Validation images, from the first on; as many again under FGSM.", 2)
flags.DEFINE_list("steps", ["100", "140"], "Where the losses are told.")

FLAGS = flags.FLAGS

_EVERY = 10  # evaluations between two looks at whether an image may stop
_TOLERANCES = (0.01, 0.02, 0.04)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """A rule whose steps shrink to nothing over so many, along half a cosine."""

    rule: projection.Optimizer
    steps: int

    def slots(self, latents):
        return self.rule.slots(latents)

    def update(self, gradient, slots, step):
        offset, slots = self.rule.update(gradient, slots, step)
        return offset * 0.5 * (1.0 + tf.cos(np.pi * tf.cast(step, tf.float32) / self.steps)), slots


@dataclasses.dataclass(frozen=True)
class Nesterov:
    """Nesterov's momentum, its look ahead folded into the iterate."""

    learning_rate: float
    momentum: float

    def slots(self, latents):
        return (tf.zeros_like(latents),)

    def update(self, gradient, slots, step):
        velocity = self.momentum * slots[0] - self.learning_rate * gradient
        return self.momentum * velocity - self.learning_rate * gradient, (velocity,)


def main() -> None:
    """Prints the mean loss on clean and attacked images of every rule after so many steps, and writes JSON."""
    steps = sorted(map(int, FLAGS.steps))
    chosen, dataset = FLAGS.preset_dir or FLAGS.dataset, data.spec(FLAGS.dataset)
    examples = data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir, limit=FLAGS.num_images)
    classifier = presets.load_classifier(chosen, "A")
    attacked = attacks.fgsm(classifier, examples.images, eps=dataset.attack_epsilon, value_range=dataset.value_range)
    images = np.concatenate([examples.images, attacked])
    defense = defenses.InvGAN.from_preset(chosen)
    rows = []
    for name, projector, ends in _ways(defense.generator, steps):
        defense.projectors["tried"] = projector
        row = {"way": name}
        defense.project(images, projector="tried", steps=2)  # traces
        for end in ends:
            began = time.perf_counter()
            losses = defense.project(images, projector="tried", steps=end).loss.reshape(2, -1)
            row["ms an image-step"] = round((time.perf_counter() - began) / end / len(images) * 1e3, 3)
            row[f"{end} steps"] = " / ".join(map(_mean, losses))
        rows.append(row)
        print(row, flush=True)
    headers = {name: name for name in ["way", "ms an image-step", *(f"{end} steps" for end in [*steps, 1000])]}
    print(tabulate.tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))
    stopping = _stopping(defense, images, max(steps))
    print(tabulate.tabulate(stopping, headers="keys", tablefmt="github", disable_numparse=True))
    print(f"\n{FLAGS.dataset}: mean squared error of {len(examples)} validation images, clean / FGSM, from I(x).")
    folder = pathlib.Path(FLAGS.output_dir or f"runs/benchmarks/optimizers/{FLAGS.dataset}")
    folder.mkdir(parents=True, exist_ok=True)
    settings = {name: FLAGS[name].value for name in ("dataset", "num_images", "steps", "seed")}
    content = {"benchmark": "optimizers", "rows": rows, "stopping": stopping, "settings": settings}
    files.write_json(folder / "optimizers.json", content | {"environment": report.environment()})


def _mean(losses):
    """Returns a mean with its 95 % interval (Student's) over images."""
    low, high = stats.t.interval(0.95, len(losses) - 1, losses.mean(), stats.sem(losses))
    return f"{losses.mean():.5f} [{low:.5f}, {high:.5f}]"


def _ways(generator, steps):
    """Returns (name, projector, where to tell its loss)."""
    last = steps[-1]
    rules = {
        "Adam 0.01 (the protocol)": projection.Adam(0.01),
        f"Adam 0.03, cosine over {last}": Cosine(projection.Adam(0.03), last),
        f"Adam 0.05, cosine over {last}": Cosine(projection.Adam(0.05), last),
        f"Adam 0.1, beta2 0.99, cosine over {last}": Cosine(projection.Adam(0.1, beta_2=0.99), last),
        "Nesterov 10, momentum 0.9": Nesterov(10.0, 0.9),
        "Nesterov 10, momentum 0.95": Nesterov(10.0, 0.95),
    }
    ways = [
        (name, projection.ExactProjector(generator, rule), [last] if isinstance(rule, Cosine) else steps)
        for name, rule in rules.items()
    ]
    ways[0] = (*ways[0][:2], [*steps, 1000])
    for memory in (5, 10, 20, 40):
        stages = [fast_projection.Stage(last)]
        ways.append(
            (f"L-BFGS, memory {memory}", fast_projection.FastProjector(generator, stages, memory=memory), steps)
        )
    for products in (5, 10, 20):
        name = f"Gauss-Newton, {products} products"
        ways.append((name, gauss_newton.GaussNewton(generator, products), steps))
    coarse = fast_projection.FastProjector(generator, [fast_projection.Stage(last)], dtype="bfloat16")
    mixed = fast_projection.FastProjector(generator, defenses.InvGAN.fast_stages, dtype="bfloat16")
    ways.append(("L-BFGS, memory 40, bfloat16", coarse, steps))
    ways.append(("L-BFGS, memory 40, bfloat16, the last 20 in float32", mixed, [mixed.steps]))
    return ways


def _stopping(defense, images, last):
    """Lets images stop once ten evaluations gain little, and compares with a number of steps for all."""
    targets = tf.constant(images)

    @tf.function
    def advance(search):
        draw = folding.fold(defense.generator)
        for _ in tf.range(_EVERY):
            search = fast_projection.evaluate(draw, targets, search)
        return search

    starts = defense.inverter(images, training=False)
    search, history = fast_projection.begin(starts, defense.projectors["fast"].memory), []
    for _ in range(0, last, _EVERY):
        search = advance(search)
        history.append(search.loss.numpy()[:, 0])
    history = np.array(history)
    rows = []
    for tolerance in _TOLERANCES:
        slow = history[1:] > (1.0 - tolerance) * history[:-1]
        stop = np.where(slow.any(axis=0), slow.argmax(axis=0) + 1, len(history) - 1)
        loss = history[stop, np.arange(len(images))].mean()
        same = np.interp(-loss, -history.mean(axis=1), np.arange(len(history)) + 1.0) * _EVERY
        rows.append(
            {
                "stops where 10 evaluations gain less than": f"{tolerance:.0%}",
                "mean steps": f"{(stop.mean() + 1) * _EVERY:.0f}",
                "loss of all images": f"{loss:.5f}",
                "steps for all that reach it": f"{same:.0f}",
            }
        )
    return rows


if __name__ == "__main__":
    common_flags.run(main)
