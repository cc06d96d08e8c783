"""Warm BPDA against cold, on the same validation images: `python -m tools.compare_bpda`.

Cold projects anew in every iteration, which is the attack itself; warm goes on from the last iteration, which
is what a machine can afford. A short defence keeps the cold one affordable here.
"""

import time

import numpy as np
import tabulate
from absl import flags

from experiments import common_flags
from invgan_tf import attacks, data, defenses, presets

flags.DEFINE_integer("num_images", 16, "Validation images, from the first on.", lower_bound=1)
flags.DEFINE_integer("rounds", 2, "Binary-search steps.", lower_bound=1)
flags.DEFINE_integer("iterations", 50, "Iterations a round.", lower_bound=1)
flags.DEFINE_integer("steps", 200, "T of InvGAN, and R x L of DefenseGAN with R = 4.", lower_bound=4)
flags.DEFINE_list("defenses", ["InvGAN", "DefenseGAN"], "Defences to attack.")
flags.DEFINE_list(
    "inner_steps", ["0", "8"], "Steps an iteration; 0: cold. The first is what the others are paired with."
)
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Precision of the projection.")

FLAGS = flags.FLAGS

_RESTARTS = 4
_EVALUATIONS = 3
_TIMED = 5  # iterations whose time tells a cold search's


def main() -> None:
    """Prints accuracy under seeds the attack never saw, the size of what it changed, and both paired image by image."""
    examples = data.load(FLAGS.dataset, "validation", data_dir=FLAGS.data_dir, limit=FLAGS.num_images)
    chosen = FLAGS.preset_dir or FLAGS.dataset
    classifier = presets.load_classifier(chosen, "A")
    protections = {
        "InvGAN": defenses.InvGAN.from_preset(chosen, steps=FLAGS.steps, dtype=FLAGS.dtype),
        "DefenseGAN": defenses.DefenseGAN.from_preset(
            chosen, steps=FLAGS.steps // _RESTARTS, restarts=_RESTARTS, dtype=FLAGS.dtype
        ),
    }
    rows = []
    for name in FLAGS.defenses:
        model, first = defenses.Defended(classifier, protections[name]), None
        cold_seconds = _cold_seconds(model, examples)
        for inner_steps in map(int, FLAGS.inner_steps):
            if inner_steps:  # compiles; cold's first iterations have
                _attack(model, examples, inner_steps, FLAGS.rounds, FLAGS.iterations)
            began = time.perf_counter()
            attacked = _attack(model, examples, inner_steps or None, FLAGS.rounds, FLAGS.iterations)
            seconds = time.perf_counter() - began
            size = np.linalg.norm((attacked - examples.images).reshape(len(attacked), -1), axis=1)
            seeds = range(FLAGS.seed, FLAGS.seed + (_EVALUATIONS if name == "DefenseGAN" else 1))
            fooled = np.array(
                [
                    defenses.Defended(classifier, model.defense, seed=seed).predict(attacked).argmax(axis=1)
                    != examples.labels
                    for seed in seeds
                ]
            )
            first = first or (fooled, size)
            both = fooled.all(axis=0) & first[0].all(axis=0)
            rows.append(
                {
                    "defence": name,
                    "steps an iteration": f"{inner_steps} warm" if inner_steps else "cold",
                    "fooled": f"{fooled.mean():.3f}",
                    "only it, only the first": f"{np.sum(fooled & ~first[0])}, {np.sum(~fooled & first[0])}",
                    "median L2": f"{np.median(size[size > 0]) if size.any() else 0:.2f}",
                    "L2 to the first's": f"{np.median(size[both] / first[1][both]):.2f} (n = {both.sum()})",
                    "failures": int(np.sum(size == 0)),
                    "seconds": f"{seconds:.0f}",
                    "cold (extrapolated) / seconds": f"{cold_seconds / seconds:.1f}",
                }
            )
            print(rows[-1], flush=True)
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    print(
        f"\nn = {FLAGS.num_images} validation images; {FLAGS.rounds} x {FLAGS.iterations} iterations; InvGAN T = "
        f"{FLAGS.steps}, DefenseGAN R = {_RESTARTS}, L = {FLAGS.steps // _RESTARTS}, under {_EVALUATIONS} seeds; "
        f"{FLAGS.dtype}; seed {FLAGS.seed}. L2's ratio: the median where both fool. Cold seconds from {_TIMED} "
        "iterations."
    )


def _attack(model, examples, inner_steps, rounds, iterations):
    return attacks.bpda(
        model,
        examples.images,
        labels=examples.labels,
        inner_steps=inner_steps,
        binary_search_steps=rounds,
        max_iterations=iterations,
        seed=FLAGS.seed,
    )


def _cold_seconds(model, examples):
    """Returns what the cold search would take, told from the time that some iterations add to one."""
    seconds = []
    for iterations in (1, 1 + _TIMED, 1, 1 + _TIMED):  # the first two compile
        began = time.perf_counter()
        _attack(model, examples, None, 1, iterations)
        seconds.append(time.perf_counter() - began)
    return (seconds[3] - seconds[2]) / _TIMED * FLAGS.rounds * FLAGS.iterations


if __name__ == "__main__":
    common_flags.run(main)
