"""The white-box evaluation behind Tables 2 and 3 and the figures: the way of one block of images."""

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np

from experiments import cells, whitebox_flags
from invgan_tf import attacks, data, defenses
from invgan_tf.evaluation import accuracy

FLAGS = whitebox_flags.FLAGS

_BPDA = ("bpda", "bpda_authors")
SHARED = ("fgsm", "cw", "rp")  # made once, from the bare classifier or its inverter, for every row
_BLOCK = 50  # images computed and kept at a time
_BPDA_BLOCK = 10  # its lanes are many and its blocks long: small enough to share out over cores
_CW = {"binary_search_steps": 6, "max_iterations": 100, "learning_rate": 0.2, "initial_const": 10.0}
_BPDA_CW = _CW | {"binary_search_steps": 4}


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

    @classmethod
    def join(cls, blocks: Sequence["Outcome"]) -> "Outcome":
        """Joins the blocks of one cell."""
        parts = {field.name: [getattr(block, field.name) for block in blocks] for field in dataclasses.fields(cls)}
        seconds, loss = sum(parts.pop("seconds")), parts.pop("loss")
        arrays = {name: np.concatenate(values) for name, values in parts.items()}
        return cls(**arrays, loss=None if loss[0] is None else np.concatenate(loss), seconds=seconds)

    @property
    def correct(self) -> np.ndarray:
        """Whether each image was classified rightly, `[n]`."""
        return self.logits.argmax(axis=1) == self.labels

    def first(self, count: int) -> "Outcome":
        """Returns the first images alone."""
        parts = {name: value[:count] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return dataclasses.replace(self, **parts)


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
            return 2_000.0 if attack == "cw" else 1.0  # 600 steps through the classifier, which is the larger network
        if defense != "none":
            projection += self.defenses[defense].image_steps(FLAGS.projector)
        rounds = _BPDA_CW["binary_search_steps"] * _BPDA_CW["max_iterations"]
        if attack == "bpda":
            # Every round's find is projected cold, and so are two shorter ones of the last.
            return 6 * projection + rounds * (FLAGS.bpda_steps or projection)
        if attack == "bpda_authors":
            return projection + rounds * (FLAGS.bpda_authors_steps or projection)
        return projection

    def outcome(self, attack: str, defense: str, block: np.ndarray) -> Outcome:
        """Attacks, projects and classifies one block, or takes from the store what is there."""
        clean, labels = self.examples.images[block], self.examples.labels[block]
        attacked, attack_seconds = self._attacked(attack, defense, clean, labels, block)
        seen, loss, seconds = attacked, None, 0.0
        if defense != "none":
            seen, loss, seconds = self.projected(self.defended(defense), attacked, block)
        logits, _ = self.classified(seen)
        return Outcome(clean, attacked, seen, logits, labels, loss, attack_seconds + seconds)

    def classified(self, seen: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns the classifier's logits of what it sees, and the seconds they took; both from the store if there."""
        key = {"classifier": cells.fingerprint(self.classifier), "images": cells.fingerprint(seen)}
        prediction, seconds = self.store.get(
            "prediction", key, lambda: {"logits": accuracy.outputs(self.classifier, seen)}
        )
        return prediction["logits"], seconds

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
            "defense": self.defense_key(model),
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
            return attacks.bpda, self.defended(defense), arguments | _BPDA_CW | warm
        if attack == "bpda_authors":
            cut = (FLAGS.bpda_authors_steps, 1) if FLAGS.bpda_authors_steps else ()
            return attacks.bpda_authors, self.defended(defense, *cut), arguments | _BPDA_CW
        arguments["eps"] = self.dataset.attack_epsilon
        if attack == "fgsm":
            return attacks.fgsm, self.classifier, arguments
        return attacks.reparameterization, self.defended("invgan"), arguments

    def projected(
        self, model: defenses.Defended, images: np.ndarray, indices: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Returns a model's projections of the images of these numbers, their losses, and the seconds it took."""
        key = {
            "defense": self.defense_key(model),
            "seed": model.seed,
            "images": cells.fingerprint(images),
            "indices": indices.tolist(),
        }

        def project():
            result = model.project(images, indices=indices)
            return {"latents": result.latents, "loss": result.loss, "indices": indices}

        stored, seconds = self.store.get("projection", key, project)
        return accuracy.outputs(model.defense.generator, stored["latents"]), stored["loss"], seconds

    @functools.cache  # noqa: B019 - one WhiteBox a program
    def defended(self, defense: str, steps: int | None = None, restarts: int | None = None) -> defenses.Defended:
        """Returns the classifier behind a defence; given steps are the exact projector's, whatever the flags say."""
        return defenses.Defended(
            self.classifier,
            self.defenses[defense],
            steps=steps,
            restarts=restarts,
            projector=FLAGS.projector if steps is None else "exact",
            seed=self.seed,
        )

    @functools.cache  # noqa: B019 - one WhiteBox a program
    def defense_key(self, model):
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
def from_flags(split: str = "test") -> WhiteBox:
    """Builds the evaluation that the flags ask for, on the first images of a split."""
    examples = data.load(FLAGS.dataset, split, data_dir=FLAGS.data_dir, limit=FLAGS.num_images)
    return WhiteBox(
        whitebox_flags.open_store(),
        data.spec(FLAGS.dataset),
        whitebox_flags.load_classifier(),
        whitebox_flags.load_defenses(),
        examples,
    )
