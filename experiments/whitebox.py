"""The white-box evaluation that Tables 2 and 3 share: flags, attacked images, projections, predictions."""

import dataclasses
import functools
import os

import numpy as np
from absl import flags

from experiments import cells
from invgan_tf import attacks, data, defenses, presets

flags.DEFINE_list("attacks", ["clean", "fgsm", "cw", "rp", "bpda"], "Columns: clean, fgsm, cw, rp, bpda, bpda_authors.")
flags.DEFINE_list("defenses", ["none", "defensegan", "invgan"], "Rows: none, defensegan, invgan.")
flags.DEFINE_integer("num_images", 100, "Test images, from the first on; caps BPDA's too.", lower_bound=1)
flags.DEFINE_integer("steps", 1000, "T of InvGAN.", lower_bound=0)
flags.DEFINE_integer("defensegan_steps", 200, "L of DefenseGAN, steps of each restart.", lower_bound=0)
flags.DEFINE_integer("restarts", 10, "R of DefenseGAN.", lower_bound=1)
flags.DEFINE_integer("bpda_images", 25, "Test images for BPDA, which costs far more an image.", lower_bound=1)
flags.DEFINE_integer("bpda_steps", 10, "Steps of Eq. 6 an iteration of BPDA makes, going on warm.", lower_bound=1)
flags.DEFINE_integer("bpda_authors_images", 16, "Test images for bpda_authors.", lower_bound=1)
flags.DEFINE_integer(
    "bpda_authors_steps", 50, "T inside bpda_authors, cold in each iteration, one restart.", lower_bound=1
)
flags.DEFINE_string(
    "cells_dir",
    None,
    "Where attacked images, projections and predictions are kept. "
    "Default: OUTPUT_DIR/cells, or runs/cells without --output_dir.",
)

FLAGS = flags.FLAGS

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
_BLOCK = 50  # images computed and kept at a time
_BPDA_BLOCK = 25


def _known(names):
    return lambda given: bool(given) and set(given) <= set(names) and len(set(given)) == len(given)


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
    """Classifier A and the defences of one preset, attacked on the first test images of a dataset.

    Args:
        preset: folder or name of the preset.
        store: where dear results are kept.
        classifier: part of the preset to defend.
    """

    def __init__(self, preset: str | os.PathLike, store: cells.CellStore, classifier: str = "classifier_a"):
        self.store = store
        self.dataset = data.spec(FLAGS.dataset)
        self.classifier = presets.load(preset, classifier)
        defense_gan = defenses.DefenseGAN.from_preset(preset, steps=FLAGS.defensegan_steps, restarts=FLAGS.restarts)
        self.defenses = {
            "defensegan": defense_gan,
            "invgan": defenses.InvGAN.from_preset(preset, steps=FLAGS.steps),
        }
        # The attacker and the evaluator never draw the same random starts.
        self.seed, self.attack_seed = FLAGS.seed, FLAGS.seed + 1
        self.examples = data.load(FLAGS.dataset, "test", data_dir=FLAGS.data_dir, limit=FLAGS.num_images)

    def images(self, attack: str) -> int:
        """Returns how many images an attack's column has."""
        wanted = {"bpda": FLAGS.bpda_images, "bpda_authors": FLAGS.bpda_authors_images}
        return min(FLAGS.num_images, wanted.get(attack, FLAGS.num_images))

    def blocks(self, attack: str) -> list[np.ndarray]:
        """Returns an attack's image numbers, cut into blocks."""
        size = _BPDA_BLOCK if attack in _BPDA else _BLOCK
        numbers = np.arange(self.images(attack))
        return np.split(numbers, range(size, len(numbers), size))

    def cost(self, attack: str, defense: str) -> float:
        """Returns the work of a cell in image-steps an image, roughly: what the progress bar counts in."""
        projection = {
            "none": 1.0,
            "defensegan": float(FLAGS.restarts * FLAGS.defensegan_steps),
            "invgan": float(FLAGS.steps),
        }[defense]
        rounds = 400.0
        if attack == "bpda":
            return 4 * projection + rounds * FLAGS.bpda_steps
        if attack == "bpda_authors":
            return projection + rounds * FLAGS.bpda_authors_steps
        return projection + (500.0 if attack == "cw" and defense == "none" else 0.0)

    def outcome(self, attack: str, defense: str, block: np.ndarray) -> Outcome:
        """Attacks, projects and classifies one block, or takes from the store what is there."""
        clean, labels = self.examples.images[block], self.examples.labels[block]
        attacked, attack_seconds = self._attacked(attack, defense, block)
        seen, loss, seconds = attacked, None, 0.0
        if defense != "none":
            seen, loss, seconds = self._projected(defense, attacked, block)
        key = {"classifier": self._fingerprint("classifier"), "images": cells.fingerprint(seen)}
        prediction, _ = self.store.get(
            "prediction", key, lambda: {"logits": self.classifier.predict(seen, verbose=0), "labels": labels}
        )
        return Outcome(clean, attacked, seen, prediction["logits"], labels, loss, attack_seconds + seconds)

    def _attacked(self, attack, defense, block):
        clean, labels = self.examples.images[block], self.examples.labels[block]
        if attack == "clean":
            return clean, 0.0
        run, arguments, networks = self._attack(attack, defense)
        key = {
            "attack": attack,
            "arguments": arguments,
            "networks": networks,
            "images": cells.fingerprint(clean),
            "labels": labels.tolist(),
            "indices": block.tolist(),
        }
        stored, seconds = self.store.get("attack", key, lambda: {"images": run(clean, labels, block), "indices": block})
        return stored["images"], seconds

    def _attack(self, attack, defense):
        """Returns an attack as a function of (images, labels, indices), with its arguments and networks for the key."""
        networks = {"classifier": self._fingerprint("classifier")}
        arguments = {"value_range": list(self.dataset.value_range)}
        if attack in ("fgsm", "rp"):
            arguments["eps"] = self.dataset.attack_epsilon
        options = {"value_range": self.dataset.value_range}
        if attack == "fgsm":
            options["eps"] = arguments["eps"]
            return lambda x, y, i: attacks.fgsm(self.classifier, x, **options), arguments, networks
        if attack == "cw":
            return lambda x, y, i: attacks.carlini_wagner_l2(self.classifier, x, **options), arguments, networks
        if attack == "rp":  # from the true labels, which is stronger where G(I(x)) is misread
            options["eps"] = arguments["eps"]
            model = self._defended("invgan")
            networks["defense"] = self._identity("invgan")
            return lambda x, y, i: attacks.reparameterization(model, x, labels=y, **options), arguments, networks
        steps = FLAGS.bpda_steps if attack == "bpda" else FLAGS.bpda_authors_steps
        arguments |= {"inner_steps": steps, "seed": self.attack_seed}
        networks["defense"] = self._identity(defense)
        if attack == "bpda":

            def run(x, y, i):
                return attacks.bpda(
                    self._defended(defense), x, labels=y, inner_steps=steps, indices=i, seed=self.attack_seed, **options
                )
        else:

            def run(x, y, i):
                model = self._defended(defense, steps=steps, restarts=1)
                return attacks.bpda_authors(model, x, labels=y, indices=i, seed=self.attack_seed, **options)

        return run, arguments, networks

    def _projected(self, defense, attacked, block):
        networks = self.defenses[defense]
        key = {
            "defense": self._identity(defense),
            "seed": self.seed,
            "images": cells.fingerprint(attacked),
            "indices": block.tolist(),
        }

        def project():
            result = networks.project(attacked, seed=self.seed, indices=block)
            return {"latents": result.latents, "loss": result.loss, "indices": block}

        stored, seconds = self.store.get("projection", key, project)
        images = networks.generator.predict(stored["latents"], verbose=0)
        return images, stored["loss"], seconds

    def _identity(self, defense):
        networks = self.defenses[defense]
        return {
            "name": defense,
            "generator": self._fingerprint("generator"),
            "inverter": self._fingerprint("inverter") if defense == "invgan" else None,
            "optimizer": repr(networks.optimizer),
            "steps": networks.steps,
            "restarts": networks.restarts,
            "projector": "exact",
            "dtype": networks.generator.compute_dtype,
        }

    @functools.cache  # noqa: B019 - one WhiteBox a program
    def _defended(self, defense, **kwargs):
        return defenses.Defended(self.classifier, self.defenses[defense], **kwargs)

    @functools.cache  # noqa: B019 - one WhiteBox a program
    def _fingerprint(self, part):
        models = {
            "classifier": self.classifier,
            "generator": self.defenses["invgan"].generator,
            "inverter": self.defenses["invgan"].inverter,
        }
        return cells.fingerprint(models[part])


def open_store() -> cells.CellStore:
    """Opens the store that the flags name."""
    default = os.path.join(FLAGS.output_dir, "cells") if FLAGS.output_dir else os.path.join("runs", "cells")
    return cells.CellStore(FLAGS.cells_dir or default)


def settings() -> dict:
    """Returns what was asked for, for results.json."""
    names = "dataset attacks defenses num_images steps defensegan_steps restarts bpda_images bpda_steps"
    names += " bpda_authors_images bpda_authors_steps seed preset_dir deterministic"
    return {name: FLAGS[name].value for name in names.split()}


def preset() -> str:
    """Returns the preset the flags ask for: `--preset_dir`, or the package's own for the dataset."""
    return FLAGS.preset_dir or FLAGS.dataset
