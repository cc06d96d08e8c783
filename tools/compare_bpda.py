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

flags.DEFINE_integer("num_images", 8, "Validation images, from the first on.", lower_bound=1)
flags.DEFINE_integer("steps", 200, "T of InvGAN, and R x L of DefenseGAN with R = 4.", lower_bound=4)
flags.DEFINE_list("defenses", ["InvGAN", "DefenseGAN"], "Defences to attack.")
flags.DEFINE_list("inner_steps", ["0", "5", "10", "20"], "Steps an iteration; 0: cold.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Precision of the projection's networks.")

FLAGS = flags.FLAGS

_RESTARTS = 4
_EVALUATIONS = 3


def main() -> None:
    """Prints accuracy under seeds the attack never saw, and the size of what it changed."""
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
        defense = protections[name]
        for inner_steps in map(int, FLAGS.inner_steps):
            model = defenses.Defended(classifier, defense)
            began = time.perf_counter()
            attacked = attacks.bpda(
                model, examples.images, labels=examples.labels, inner_steps=inner_steps or None, seed=FLAGS.seed
            )
            seconds = time.perf_counter() - began
            size = np.linalg.norm((attacked - examples.images).reshape(len(attacked), -1), axis=1)
            seeds = range(FLAGS.seed, FLAGS.seed + (_EVALUATIONS if name == "DefenseGAN" else 1))
            predicted = [
                defenses.Defended(classifier, defense, seed=seed).predict(attacked).argmax(axis=1) for seed in seeds
            ]
            accuracy = np.mean([labels == examples.labels for labels in predicted])
            rows.append(
                [
                    name,
                    f"{inner_steps} warm" if inner_steps else "cold",
                    f"{accuracy:.2f}",
                    f"{np.median(size[size > 0]) if size.any() else 0:.2f}",
                    int(np.sum(size == 0)),
                    f"{seconds:.0f}",
                ]
            )
            print(rows[-1], flush=True)
    headers = ["defence", "steps an iteration", "accuracy", "median L2", "failures", "seconds"]
    print(tabulate.tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))
    print(
        f"\nn = {FLAGS.num_images} validation images; InvGAN T = {FLAGS.steps}, DefenseGAN R = {_RESTARTS}, L = "
        f"{FLAGS.steps // _RESTARTS}; {FLAGS.dtype}; seed {FLAGS.seed}."
    )


if __name__ == "__main__":
    common_flags.run(main)
