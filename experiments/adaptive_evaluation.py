"""The evaluation behind `experiments.adaptive`: which attack meets which defence in which ball, block by block."""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from experiments import cells, whitebox, whitebox_flags
from invgan_tf import attacks, data
from invgan_tf.attacks import attacker
from invgan_tf.attacks.reparameterization import reparameterized
from invgan_tf.defenses import detector
from invgan_tf.evaluation import accuracy, detection

flags.DEFINE_enum("split", "test", ["test", "validation"], "Images to attack. Validation images choose settings.")
flags.DEFINE_list("only", [], "Attacks to mount, by their names in images/. Default: all.")
flags.DEFINE_list("linf_eps", ["0.05", "0.1", "0.2", "0.3"], "Radii of the L-infinity balls, in pixels from 0 to 1.")
flags.DEFINE_list("l2_eps", ["2", "4"], "Radii of the L2 balls of PGD.")
flags.DEFINE_list("few_eps", ["0.1", "0.3"], "Of --linf_eps, those of the joint attack and of Square.")
flags.DEFINE_integer("inside_images", 50, "Images for attacks that run the projection inside.", lower_bound=1)
flags.DEFINE_integer("detector_images", 300, "The split's last images: they set the detector's threshold.", 2)
flags.DEFINE_integer(
    "attack_steps", 100, "Steps of PGD and APGD; thrice of it in latent space, half in PGD through BPDA.", lower_bound=1
)
flags.DEFINE_integer("attack_restarts", 10, "Restarts of PGD where no projection is inside.", lower_bound=1)
flags.DEFINE_integer("inside_restarts", 2, "Rounds of PGD through BPDA; the joint attack makes one more.", 1)
flags.DEFINE_integer("inside_steps", 10, "Steps of Eq. 6 that one step of an attack makes.", lower_bound=1)
flags.DEFINE_integer("query_steps", 5, "Steps of Eq. 6 that one query of Square costs.", lower_bound=0)
flags.DEFINE_list("queries", ["1000", "5000"], "Queries of Square.")

FLAGS = whitebox_flags.FLAGS


def _positive(given):
    try:
        numbers = [float(text) for text in given]
    except ValueError:
        return False
    return (
        bool(numbers) and all(0.0 < number < float("inf") for number in numbers) and len(set(numbers)) == len(numbers)
    )


for _name in ("linf_eps", "l2_eps", "few_eps", "queries"):
    flags.register_validator(_name, _positive, "must list positive numbers, each once")
flags.register_validator("queries", lambda given: all(text.isdecimal() for text in given), "must list whole numbers")

_FAR = 10.0  # by how much an image meant for another model shall fool the one it is made on
_FRESH = 2  # added to the evaluator's seed, where an answer is asked for a second time
_CW_ROUNDS = 4  # of Carlini and Wagner's binary search
_BLOCK, _INSIDE_BLOCK = 50, 10
_BY_ART, _ART = ("apgd", "square"), "adversarial-robustness-toolbox"
CLEAN = "clean"
SHARED = {"fgsm": "none", "bare": "none", "pgd": "invgan"}  # made once, on this, for every row


class Ball(NamedTuple):
    """Where an attack may go: norm "inf" or "2", and radius; radius 0 is the image itself."""

    norm: str
    eps: float

    @property
    def name(self) -> str:
        """Returns the column's name."""
        if not self.eps:
            return "Clean"
        return f"{'Linf' if self.norm == 'inf' else 'L2'} {self.eps:g}"


class Cell(NamedTuple):
    """An attack on a defence ("none", "defensegan", "invgan") in a ball."""

    attack: str
    defense: str
    ball: Ball


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A block of images as one cell sees it; arrays over the block's images."""

    clean: np.ndarray
    attacked: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    score: np.ndarray  # Eq. 7's, zeros without a defence
    seconds: float

    @classmethod
    def join(cls, blocks: Sequence["Outcome"]) -> "Outcome":
        """Joins the blocks of one cell."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "seconds"]
        arrays = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}
        return cls(**arrays, seconds=sum(block.seconds for block in blocks))

    @property
    def correct(self) -> np.ndarray:
        """Whether each image was classified rightly, `[n]`."""
        return self.predicted == self.labels


def radii(name: str) -> list[float]:
    """Returns the numbers that a flag lists."""
    return [float(text) for text in FLAGS[name].value]


def titles() -> dict[str, str]:
    """Returns what each attack is called, in the order of the table."""
    steps = FLAGS.attack_steps
    return {
        "pgd": f"PGD-{steps}, up to {FLAGS.attack_restarts} restarts, on f(G(I(x)))",
        "bpda_pgd": f"PGD-{max(1, steps // 2)} through BPDA, over random starts (EOT)",
        "bpda_cw": "Carlini-Wagner L2 through BPDA",
        "apgd_ce": f"APGD-CE, {steps} steps",
        "apgd_dlr": f"APGD-DLR, {steps} steps",
        **{f"square_{number}": f"Square, {int(number):,} queries" for number in FLAGS.queries},
        "latent": "latent space",
        "fgsm": "transfer of FGSM from the bare classifier",
        "bare": "transfer of PGD from the bare classifier",
        "other": "transfer from the other defence",
        "joint": "joint attack on classifier and detector",
    }


def plan(defense: str) -> list[Cell]:
    """Returns a row's cells: the clean one, then its attacks in their balls."""
    squares = [f"square_{number}" for number in FLAGS.queries]
    linf = [Ball("inf", eps) for eps in radii("linf_eps")]
    few = [ball for ball in linf if ball.eps in radii("few_eps")]
    round_balls = [Ball("2", eps) for eps in radii("l2_eps")]
    balls = {"apgd_ce": linf, "apgd_dlr": linf, "bare": linf + round_balls, "fgsm": linf}
    balls |= {name: few if name == squares[0] else few[-1:] for name in squares}
    if defense != "none":
        balls |= {"pgd": linf, "bpda_pgd": linf + round_balls, "bpda_cw": round_balls, "latent": linf, "other": linf}
        balls["joint"] = few + round_balls[-1:]
    chosen = [attack for attack in titles() if attack in balls and (not FLAGS.only or attack in FLAGS.only)]
    cells_ = [Cell(attack, defense, ball) for attack in chosen for ball in balls[attack]]
    return [Cell(CLEAN, defense, Ball("inf", 0.0)), *cells_]


class Evaluation(whitebox.WhiteBox):
    """A classifier and its defences under attacks that know them; what is dear comes from the store."""

    def blocks(self, cell: Cell) -> list[tuple[int, ...]]:
        """Returns the numbers of a cell's images, cut into blocks."""
        cheap = cell.attack in (CLEAN, *SHARED) and cell.ball.norm == "inf"
        count = min(len(self.examples), FLAGS.num_images if cheap else FLAGS.inside_images)
        size = _BLOCK if cheap else _INSIDE_BLOCK
        return [tuple(range(first, min(first + size, count))) for first in range(0, count, size)]

    def calibration(self) -> list[tuple[int, ...]]:
        """Returns the numbers of the split's last images, cut into blocks."""
        end = self.dataset.sizes[FLAGS.split]
        first = end - FLAGS.detector_images
        return [tuple(range(start, min(start + _BLOCK, end))) for start in range(first, end, _BLOCK)]

    @functools.cached_property
    def held_out(self) -> data.Examples:
        """The split's last images, which are not attacked."""
        every = data.load(FLAGS.dataset, FLAGS.split, data_dir=FLAGS.data_dir)
        part = slice(-FLAGS.detector_images, None)
        return data.Examples(every.images[part], every.labels[part])

    def source(self, cell: Cell) -> tuple[str, str]:
        """Returns which attack on which defence makes a cell's images."""
        if cell.attack in SHARED:
            return cell.attack, SHARED[cell.attack]
        if cell.attack == "other":
            return "bpda_pgd", "invgan" if cell.defense == "defensegan" else "defensegan"
        return cell.attack, cell.defense

    def cost(self, attack: str, defense: str) -> float:
        """Returns the work of an attack in image-steps an image, roughly."""
        steps = FLAGS.attack_steps
        if attack == "fgsm":
            return 1.0
        if defense == "none" or attack in SHARED:
            return 1.5 * steps * FLAGS.attack_restarts / 2
        cold, lanes = self.look(defense), FLAGS.restarts if defense == "defensegan" else 1
        if attack in ("bpda_pgd", "joint"):
            rounds, views = FLAGS.inside_restarts + (attack == "joint"), (lanes + 1) // 2
            return (rounds + 3.5) * cold + rounds * steps / 2 * (max(FLAGS.inside_steps, lanes) + 8 * views)
        if attack == "bpda_cw":
            return 5 * cold + _CW_ROUNDS * steps * max(FLAGS.inside_steps, lanes) * 1.5
        if attack == "latent":
            return 2 * cold + 4 * 3 * steps * 2
        if attack.startswith("apgd"):
            return cold + steps * (FLAGS.inside_steps + 1) * (2 if lanes > 1 else 1)
        return 3 * cold + int(attack.rsplit("_")[-1]) * (FLAGS.query_steps + 0.5)

    def look(self, defense: str) -> float:
        """Returns what it costs to project an image and classify it, in image-steps."""
        return 1.0 if defense == "none" else 1.0 + self.defenses[defense].image_steps(FLAGS.projector)

    def scores(self, defense: str, block: tuple[int, ...]) -> np.ndarray:
        """Returns Eq. 7's score of some of the held-out images."""
        first = self.dataset.sizes[FLAGS.split] - FLAGS.detector_images
        images = self.held_out.images[np.array(block) - first]
        seen, _, _ = self.projected(self.defended(defense), images, np.array(block))
        return detection.feature_score(self.classifier, images, seen)

    def fooled_again(self, defense: str, images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Returns which images of these numbers a defence misreads under a seed that chose nothing, `[n]`."""
        model = attacker.with_seed(self.defended(defense), self.seed + _FRESH)
        seen, _, _ = self.projected(model, images, numbers)
        return accuracy.predict(self.classifier, seen) != self.examples.labels[numbers]

    @functools.cache  # noqa: B019 - one evaluation a program
    def threshold(self, defense: str) -> float:
        """Returns the detector's threshold."""
        scores = np.concatenate([self.scores(defense, block) for block in self.calibration()])
        return detector.threshold(scores, FLAGS.false_positive_rate)

    def images_of(self, attack: str, defense: str, ball: Ball, block: tuple[int, ...]) -> tuple[np.ndarray, float]:
        """Returns the images that an attack on a defence makes of a block, and the seconds it took."""
        numbers = np.array(block)
        clean, labels = self.examples.images[numbers], self.examples.labels[numbers]
        low, high = self.dataset.value_range
        arguments = {
            "eps": ball.eps * (high - low),
            "labels": labels,
            "value_range": self.dataset.value_range,
            "seed": self.attack_seed,
        }
        model = self.classifier if defense == "none" else self.defended(defense)
        function, own = _function(attack, defense, ball, None if attack != "joint" else self.threshold(defense))
        if function in (attacks.bpda_pgd, attacks.bpda, attacks.evade_detector, attacks.latent_space):
            own["indices"] = numbers
        if function is attacks.bpda:  # it looks for the least perturbation, whatever the ball
            del arguments["eps"]
        key = {
            "attack": attack,
            "classifier": cells.fingerprint(self.classifier),
            "defense": self.defense_key(model),
            "arguments": {name: np.asarray(value).tolist() for name, value in {**arguments, **own}.items()},
            "anchored": _few(attack),
            "toolbox": importlib.metadata.version(_ART) if attack.startswith(_BY_ART) else None,
            "indices": numbers.tolist(),
            "images": cells.fingerprint(clean),
        }

        def make():
            seen = self._attacked_model(attack, model, clean, numbers)
            asked = {"judge": seen.judge} if isinstance(seen, attacks.Anchored) and function is attacks.square else {}
            return {"images": function(seen, clean, **arguments, **own, **asked)}

        stored, seconds = self.store.get("attack", key, make)
        if function is attacks.bpda:
            size = np.linalg.norm((stored["images"] - clean).reshape(len(clean), -1), axis=1)
            inside = (size <= ball.eps * (high - low))[:, None, None, None]
            return np.where(inside, stored["images"], clean), seconds
        return stored["images"], seconds

    def _attacked_model(self, attack, model, clean, numbers):
        """Returns what an attack sees: the defence itself, G(I(x)), or a few steps from the clean latents."""
        if attack == "pgd":
            return reparameterized(model)
        if model is self.classifier or attack in ("bpda_pgd", "bpda_cw", "joint", "latent"):
            return model
        return attacks.Anchored(model, clean, **_few(attack), indices=numbers, seed=self.attack_seed)

    def outcome_of(self, cell: Cell, block: tuple[int, ...]) -> Outcome:
        """Makes a block's images, or takes them from the store; projects them cold under the evaluator's seed."""
        numbers = np.array(block)
        clean, labels = self.examples.images[numbers], self.examples.labels[numbers]
        attacked, spent = clean, 0.0
        if cell.attack != CLEAN:
            attacked, spent = self.images_of(*self.source(cell), cell.ball, block)
        seen, seconds, score = attacked, 0.0, np.zeros(len(clean), np.float32)
        if cell.defense != "none":
            seen, _, seconds = self.projected(self.defended(cell.defense), attacked, numbers)
            score = detection.feature_score(self.classifier, attacked, seen)
        predicted = accuracy.predict(self.classifier, seen)
        return Outcome(clean, attacked, labels, predicted, score, spent + seconds)


def _few(attack):
    """Returns the steps and restarts of what the toolbox's attacks see in place of a defence; None for the others."""
    if not attack.startswith(_BY_ART):
        return None
    square = attack.startswith("square")
    return {"steps": FLAGS.query_steps, "restarts": 1} if square else {"steps": FLAGS.inside_steps, "restarts": 2}


def _function(attack, defense, ball, threshold):
    """Returns an attack's function and its arguments beside eps, labels, range and seed."""
    steps = {"steps": FLAGS.attack_steps}
    if attack.startswith("square"):
        confidence = 0.0 if defense == "none" else _FAR
        return attacks.square, {"queries": int(attack.rsplit("_")[-1]), "confidence": confidence}
    if attack == "fgsm":
        return attacks.fgsm, {}
    if attack == "bpda_cw":
        return attacks.bpda, {"binary_search_steps": _CW_ROUNDS, "max_iterations": FLAGS.attack_steps}
    if attack == "latent":
        return attacks.latent_space, {"norm": ball.norm, "steps": 3 * FLAGS.attack_steps}
    steps["norm"] = ball.norm
    if attack.startswith("apgd"):
        restarts = {"restarts": 5 if defense == "none" else 1}
        return attacks.auto_pgd, {"loss": attack.rsplit("_")[-1], **restarts, **steps}
    if attack in ("bare", "pgd"):
        return attacks.pgd_restarts, {"restarts": FLAGS.attack_restarts, "confidence": _FAR, **steps}
    steps |= {"inner_steps": FLAGS.inside_steps, "steps": max(1, FLAGS.attack_steps // 2)}
    if attack == "bpda_pgd":
        return attacks.bpda_pgd, {"restarts": FLAGS.inside_restarts, **steps}
    return attacks.evade_detector, {"restarts": FLAGS.inside_restarts + 1, "threshold": threshold, **steps}


@functools.lru_cache(maxsize=1)
def from_flags() -> Evaluation:
    """Builds the evaluation that the flags ask for, on the first images of --split."""
    return Evaluation(
        whitebox_flags.open_store(),
        data.spec(FLAGS.dataset),
        whitebox_flags.load_classifier(),
        whitebox_flags.load_defenses(),
        data.load(FLAGS.dataset, FLAGS.split, data_dir=FLAGS.data_dir, limit=FLAGS.num_images),
    )


def rows() -> list[str]:
    """Returns the defences that the flags name, "none" first."""
    return [name for name in whitebox_flags.ROWS if name in FLAGS.defenses]
