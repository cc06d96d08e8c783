"""The black-box attack of Table 4 on one oracle after the other; what is dear is kept."""

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np

from experiments import cells, whitebox
from invgan_tf import attacks, defenses, models
from invgan_tf.attacks import substitute

SEEDS = 150  # test images, from the first on, that the adversary begins with
_BARE_BLOCK, _BLOCK = 500, 50  # images computed and kept at a time
_OTHER_SEED = 2  # added to the evaluator's; the attacker's is the one between


class BlackBox:
    """The attack on classifier F behind each defence; what is dear comes from the store.

    Args:
        evaluation: oracle, defences, store, and the images of the split from the first on.
        settings: of the substitute's training.
    """

    def __init__(self, evaluation: whitebox.WhiteBox, settings: substitute.Settings):
        self.evaluation, self.settings = evaluation, settings
        dataset = evaluation.dataset
        keras.utils.set_random_seed(evaluation.attack_seed)  # the same untrained substitute in every row and process
        self.substitute = models.build_classifier("E", dataset.image_shape, num_classes=dataset.num_classes)
        self._first = substitute.Round.start(self.substitute, evaluation.examples.images[:SEEDS])

    @functools.lru_cache(maxsize=4)  # noqa: B019 - one BlackBox a program
    def round(self, defense: str, number: int) -> tuple[substitute.Round, float]:
        """Returns a round of the attack on a defence, and the seconds that training took.

        It is keyed by what it is made from, the oracle's answers among it.
        """
        if not number:
            return self._first, 0.0
        before, _ = self.round(defense, number - 1)
        answers = self._answers(defense, before)
        images, labels = before.labelled(answers)
        self.substitute.set_weights(before.weights)
        key = {
            "substitute": cells.fingerprint(self.substitute),
            "images": cells.fingerprint(images),
            "labels": cells.fingerprint(labels),
            "settings": dataclasses.asdict(self.settings),
            "round": number,
            "seed": self.evaluation.attack_seed,
        }

        def play():
            played = substitute.advance(
                self.substitute, before, answers, settings=self.settings, seed=self.evaluation.attack_seed
            )
            return {"new": played.new} | {f"weight{place}": array for place, array in enumerate(played.weights)}

        stored, seconds = self.evaluation.store.get("substitute", key, play)
        weights = [stored[f"weight{place}"] for place in range(len(before.weights))]
        return substitute.Round(number, weights, images, labels, stored["new"]), seconds

    def ask(self, defense: str, number: int, block: tuple[int, ...]) -> tuple[np.ndarray, float]:
        """Returns the oracle's labels of some new points of a round, and the seconds that took."""
        played, _ = self.round(defense, number)
        # Numbered on from the test split's end: no query draws the random starts of an evaluated image.
        indices = self.evaluation.dataset.sizes["test"] + len(played.images) + np.array(block)
        logits, _, _, seconds = self._classify(self._model(defense), played.new[list(block)], indices)
        return logits.argmax(axis=1).astype(np.int32), seconds

    def attacked(self, defense: str, block: tuple[int, ...]) -> tuple[np.ndarray, float]:
        """Returns test images as FGSM on a defence's substitute attacks them, and the seconds that took.

        It moves away from the substitute's own label, as cleverhans does.
        """
        played, _ = self.round(defense, self.settings.rounds)
        self.substitute.set_weights(played.weights)
        clean, dataset = self.evaluation.examples.images[list(block)], self.evaluation.dataset
        arguments = {"eps": dataset.attack_epsilon, "value_range": dataset.value_range}
        key = {
            "attack": "black box",
            "substitute": cells.fingerprint(self.substitute),
            "arguments": arguments,
            "images": cells.fingerprint(clean),
        }
        stored, seconds = self.evaluation.store.get(
            "attack", key, lambda: {"images": attacks.fgsm(self.substitute, clean, **arguments)}
        )
        return stored["images"], seconds

    def outcome(self, defense: str, block: tuple[int, ...]) -> whitebox.Outcome:
        """Attacks some test images through a defence's substitute and shows them to its oracle."""
        attacked, attack_seconds = self.attacked(defense, block)
        logits, seen, loss, seconds = self._classify(self._model(defense), attacked, np.array(block))
        examples = self.evaluation.examples
        clean, labels = examples.images[list(block)], examples.labels[list(block)]
        return whitebox.Outcome(clean, attacked, seen, logits, labels, loss, attack_seconds + seconds)

    def agreement(self, block: tuple[int, ...]) -> np.ndarray:
        """Returns where DefenseGAN's exact projector gives the fast one's label, and its own under another seed.

        The images are those that attack the bare oracle: they ask more of a projector than clean ones. The second
        column says how far a label is the restarts' luck.

        Returns:
            bool `[n, 2]`.
        """
        images, _ = self.attacked("none", block)
        protection, indices = self.evaluation.defenses["defensegan"], np.array(block)
        exact, again = (
            defenses.Defended(self.evaluation.classifier, protection, seed=seed)
            for seed in (self.evaluation.seed, self.evaluation.seed + _OTHER_SEED)
        )
        models = exact, self._model("defensegan"), again
        labels, *others = (self._classify(model, images, indices)[0].argmax(axis=1) for model in models)
        return np.stack([labels == other for other in others], axis=1)

    def cost(self, defense: str, projector: str | None = None) -> int:
        """Returns what the oracle's answer to an image costs, in image-steps."""
        model = self._model(defense)
        return 1 if model is None else 1 + model.defense.image_steps(projector or model.projector)

    def _model(self, defense):
        """Returns the defended oracle; InvGAN's is exact: T = 200 is hardly more than the fast one's evaluations."""
        if defense == "none":
            return None
        steps = self.evaluation.defenses[defense].steps if defense == "invgan" else None
        return self.evaluation.defended(defense, steps)

    def _answers(self, defense, played):
        """Returns the labels of a round's new points: the truth about the seeds, then the oracle's."""
        if not played.number:
            return self.evaluation.examples.labels[:SEEDS]
        blocks = cut(range(len(played.new)), defense)
        return np.concatenate([self.ask(defense, played.number, block)[0] for block in blocks])

    def _classify(self, model, images, indices):
        """Returns the oracle's logits, what its classifier saw, the projection's loss and its seconds."""
        seen, loss, seconds = images, None, 0.0
        if model is not None:
            seen, loss, seconds = self.evaluation.projected(model, images, indices)
        logits, spent = self.evaluation.classified(seen)
        return logits, seen, loss, seconds + spent


def cut(numbers: Sequence[int], defense: str) -> list[tuple[int, ...]]:
    """Cuts images' numbers into the blocks that an oracle answers and the store keeps."""
    size = _BARE_BLOCK if defense == "none" else _BLOCK
    return [tuple(numbers[first : first + size]) for first in range(0, len(numbers), size)]
