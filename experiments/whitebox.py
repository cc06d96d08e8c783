"""The white-box evaluation that Tables 2 and 3 share: flags, and the way of one block of images."""

import dataclasses
import functools
import os
import pathlib

import keras
import numpy as np
from absl import flags

from experiments import cells, common_flags
from invgan_tf import attacks, data, defenses, presets
from invgan_tf.evaluation import accuracy

flags.DEFINE_list("attacks", ["clean", "fgsm", "cw", "rp", "bpda"], "Columns: clean, fgsm, cw, rp, bpda, bpda_authors.")
flags.DEFINE_list("defenses", ["none", "defensegan", "invgan"], "Rows: none, defensegan, invgan.")
flags.DEFINE_integer(
    "num_images", 100, "Test images, from the first on; caps BPDA's too.", lower_bound=1, upper_bound=10_000
)
flags.DEFINE_integer("steps", 1000, "T of InvGAN.", lower_bound=0)
flags.DEFINE_integer("defensegan_steps", 200, "L of DefenseGAN, steps of each restart.", lower_bound=0)
flags.DEFINE_integer("restarts", 10, "R of DefenseGAN.", lower_bound=1)
flags.DEFINE_integer("bpda_images", 25, "Test images for BPDA, which costs far more an image.", lower_bound=1)
flags.DEFINE_integer(
    "bpda_steps",
    10,
    "Steps of Eq. 6 an iteration of BPDA makes, going on warm; 0: cold, all of the defence's.",
    lower_bound=0,
)
flags.DEFINE_integer("bpda_authors_images", 16, "Test images for bpda_authors.", lower_bound=1)
flags.DEFINE_integer(
    "bpda_authors_steps",
    50,
    "Steps that bpda_authors projects in each iteration, cold, one restart; 0: all of the defence's.",
    lower_bound=0,
)
flags.DEFINE_string(
    "classifier_dir", None, "Folder with another classifier_a and its card.json. Default: the preset's own."
)
flags.DEFINE_enum(
    "projector",
    "exact",
    ["exact", "fast"],
    "How the defences project: exact is the paper's protocol to its last step, fast looks for as low a loss by L-BFGS.",
)
flags.DEFINE_enum(
    "projection_dtype",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Precision of the descent's matrix products. auto: bfloat16 on processors that multiply it natively, else float32.",
)
flags.DEFINE_string(
    "cells_dir",
    None,
    "Where attacked images, projections and predictions are kept. "
    "Default: OUTPUT_DIR/cells, or runs/cells without --output_dir.",
)

FLAGS = common_flags.FLAGS  # --seed, --dataset and the folders are defined there

COLUMNS = {
    "clean": "Clean",
    "fgsm": "FGSM",
    "cw": "CW",
    "rp": "RP",
    "bpda": "BPDA",
    "bpda_authors": "BPDA (authors)",
}
ROWS = {"none": "No Defense", "defensegan": "DefenseGAN", "invgan": "InvGAN"}
_BPDA = ("bpda", "bpda_authors")
SHARED = ("fgsm", "cw", "rp")  # made once, from the bare classifier or its inverter, for every row
_BLOCK = 50  # images computed and kept at a time
_BPDA_BLOCK = 10  # its lanes are many and its blocks long: small enough to share out over cores
_CW = {"binary_search_steps": 6, "max_iterations": 100, "learning_rate": 0.2, "initial_const": 10.0}
_BPDA_CW = _CW | {"binary_search_steps": 4}


def _known(names):
    return lambda given: bool(given) and set(given) <= set(names) and len(set(given)) == len(given)


flags.register_multi_flags_validator(
    ["projector", "steps", "defensegan_steps"],
    lambda given: given["projector"] == "exact" or (given["steps"], given["defensegan_steps"]) == (1000, 200),
    "--steps and --defensegan_steps are the exact projector's: leave them out with --projector=fast",
)
flags.register_validator("attacks", _known(COLUMNS), f"must list some of {', '.join(COLUMNS)}, each once")
flags.register_validator("defenses", _known(ROWS), f"must list some of {', '.join(ROWS)}, each once")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A block of images as one cell sees it; arrays over the block's images."""

    clean: np.ndarray
    attacked: np.ndarray
    seen: np.ndarray  # what the classifier sees: the projection, or the attacked image itself
    logits: np.ndarray
    labels: np.ndarray
    loss: np.ndarray | None  # of the projection
    seconds: float


class WhiteBox:
    """A classifier and its defences, attacked on the images of one split.

    Args:
        store: where dear results are kept.
        dataset: row of the dataset table.
        classifier: what is defended.
        protections: defences by name; RP needs "invgan".
        examples: the images.
    """

    def __init__(
        self,
        store: cells.CellStore,
        dataset: data.DatasetSpec,
        classifier: keras.Model,
        protections: dict[str, defenses.Defense],
        examples: data.Examples,
    ):
        self.store, self.dataset, self.classifier = store, dataset, classifier
        self.defenses, self.examples = protections, examples
        # The attacker and the evaluator never draw the same random starts.
        self.seed, self.attack_seed = FLAGS.seed, FLAGS.seed + 1

    def images(self, attack: str) -> int:
        """Returns how many images an attack's column has."""
        wanted = {"bpda": FLAGS.bpda_images, "bpda_authors": FLAGS.bpda_authors_images}
        return min(len(self.examples), wanted.get(attack, len(self.examples)))

    def blocks(self, attack: str) -> list[tuple[int, ...]]:
        """Returns an attack's image numbers, cut into blocks."""
        size, count = _BPDA_BLOCK if attack in _BPDA else _BLOCK, self.images(attack)
        return [tuple(range(first, min(first + size, count))) for first in range(0, count, size)]

    def cost(self, attack: str, defense: str | None) -> float:
        """Returns the work of a cell in image-steps an image, roughly: what the progress bar counts in."""
        projection = 1.0
        if defense is None:
            return 500.0 if attack == "cw" else 1.0
        if defense != "none":
            projection += self.defenses[defense].image_steps(FLAGS.projector)
        rounds = _BPDA_CW["binary_search_steps"] * _BPDA_CW["max_iterations"]
        if attack == "bpda":
            return 4 * projection + rounds * (FLAGS.bpda_steps or projection)
        if attack == "bpda_authors":
            return projection + rounds * (FLAGS.bpda_authors_steps or projection)
        return projection

    def outcome(self, attack: str, defense: str, block: np.ndarray) -> Outcome:
        """Attacks, projects and classifies one block, or takes from the store what is there."""
        clean, labels = self.examples.images[block], self.examples.labels[block]
        attacked, attack_seconds = self._attacked(attack, defense, clean, labels, block)
        seen, loss, seconds = attacked, None, 0.0
        if defense != "none":
            seen, loss, seconds = self._projected(defense, attacked, block)
        key = {"classifier": cells.fingerprint(self.classifier), "images": cells.fingerprint(seen)}
        prediction, _ = self.store.get(
            "prediction", key, lambda: {"logits": accuracy.outputs(self.classifier, seen), "labels": labels}
        )
        return Outcome(clean, attacked, seen, prediction["logits"], labels, loss, attack_seconds + seconds)

    def prepare(self, attack: str, block: np.ndarray) -> None:
        """Makes the attacked images that several rows share."""
        self._attacked(attack, "none", self.examples.images[block], self.examples.labels[block], block)

    def _attacked(self, attack, defense, clean, labels, block):
        if attack == "clean":
            return clean, 0.0
        function, model, arguments = self._attack(attack, defense)
        if attack not in ("fgsm", "cw"):  # RP and BPDA move away from the truth, which is no weaker
            arguments["labels"] = labels
        if attack in _BPDA:
            arguments |= {"indices": block, "seed": self.attack_seed}
        key = {
            "attack": attack,
            "classifier": cells.fingerprint(self.classifier),
            "defense": self._defense_key(model),
            "arguments": {name: np.asarray(value).tolist() for name, value in arguments.items()},
            "images": cells.fingerprint(clean),
        }
        stored, seconds = self.store.get("attack", key, lambda: {"images": function(model, clean, **arguments)})
        return stored["images"], seconds

    def _attack(self, attack, defense):
        """Returns an attack's function, the model it attacks, and its arguments."""
        arguments = {"value_range": self.dataset.value_range}
        if attack == "cw":
            return attacks.carlini_wagner_l2, self.classifier, arguments | _CW
        if attack == "bpda":
            warm = {"inner_steps": FLAGS.bpda_steps or None}
            return attacks.bpda, self._defended(defense), arguments | _BPDA_CW | warm
        if attack == "bpda_authors":
            cut = (FLAGS.bpda_authors_steps, 1) if FLAGS.bpda_authors_steps else ()
            return attacks.bpda_authors, self._defended(defense, *cut), arguments | _BPDA_CW
        arguments["eps"] = self.dataset.attack_epsilon
        if attack == "fgsm":
            return attacks.fgsm, self.classifier, arguments
        return attacks.reparameterization, self._defended("invgan"), arguments

    def _projected(self, defense, attacked, block):
        model = self._defended(defense)
        key = {
            "defense": self._defense_key(model),
            "seed": self.seed,
            "images": cells.fingerprint(attacked),
            "indices": block.tolist(),
        }

        def project():
            result = model.project(attacked, indices=block)
            return {"latents": result.latents, "loss": result.loss, "indices": block}

        stored, seconds = self.store.get("projection", key, project)
        images = accuracy.outputs(model.defense.generator, stored["latents"])
        return images, stored["loss"], seconds

    @functools.cache  # noqa: B019 - one WhiteBox a program
    def _defended(self, defense, steps=None, restarts=None):
        projector = FLAGS.projector if steps is None else "exact"
        return defenses.Defended(
            self.classifier,
            self.defenses[defense],
            steps=steps,
            restarts=restarts,
            projector=projector,
            seed=self.seed,
        )

    @functools.cache  # noqa: B019 - one WhiteBox a program
    def _defense_key(self, model):
        """Returns all that makes a defence: its networks' weights and how it descends; None for a bare classifier."""
        if model is self.classifier:
            return None
        defense = model.defense
        return {
            "defense": type(defense).__name__,
            "networks": {part: cells.fingerprint(getattr(defense, part)) for part in defense.parts},
            "optimizer": repr(defense.optimizer),
            "steps": model.steps,
            "restarts": model.restarts,
            "projector": repr(defense.projectors[model.projector]),
            "dtype": [defense.dtype, *sorted({layer.dtype_policy.name for layer in defense.generator.layers})],
        }


@functools.lru_cache(maxsize=1)
def from_flags() -> WhiteBox:
    """Builds the evaluation that the flags ask for, on the first test images."""
    chosen = FLAGS.preset_dir or FLAGS.dataset
    presets.read_card(chosen, FLAGS.dataset)
    protections = {
        "defensegan": defenses.DefenseGAN.from_preset(
            chosen, steps=FLAGS.defensegan_steps, restarts=FLAGS.restarts, dtype=projection_dtype()
        ),
        "invgan": defenses.InvGAN.from_preset(chosen, steps=FLAGS.steps, dtype=projection_dtype()),
    }
    examples = data.load(FLAGS.dataset, "test", data_dir=FLAGS.data_dir, limit=FLAGS.num_images)
    return WhiteBox(open_store(), data.spec(FLAGS.dataset), load_classifier(), protections, examples)


def load_classifier() -> keras.Model:
    """Returns the classifier A that the flags name."""
    folder = FLAGS.classifier_dir or FLAGS.preset_dir or FLAGS.dataset
    presets.read_card(folder, FLAGS.dataset)
    return presets.load(folder, "classifier_a")


def open_store() -> cells.CellStore:
    """Opens the store that the flags name."""
    default = os.path.join(FLAGS.output_dir, "cells") if FLAGS.output_dir else os.path.join("runs", "cells")
    return cells.CellStore(FLAGS.cells_dir or default, {"deterministic": FLAGS.deterministic})


def settings() -> dict:
    """Returns what was asked for, for results.json."""
    names = "dataset attacks defenses num_images steps defensegan_steps restarts bpda_images bpda_steps"
    names += " bpda_authors_images bpda_authors_steps projector projection_dtype seed preset_dir classifier_dir"
    names += " deterministic"
    return {name: FLAGS[name].value for name in names.split()} | {"projection_dtype": projection_dtype()}


def projection_dtype() -> str:
    """Returns the precision of the projection's networks: the flag's, or the one this processor is fast in."""
    if FLAGS.projection_dtype != "auto":
        return FLAGS.projection_dtype
    described = pathlib.Path("/proc/cpuinfo")
    features = set(described.read_text(encoding="utf-8").split()) if described.is_file() else set()
    return "bfloat16" if features & {"avx512_bf16", "amx_bf16"} else "float32"
