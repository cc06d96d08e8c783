"""Inversion of test images by the rivals of Tables 1 and 5, and the measures those tables take of it."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tqdm
from absl import flags

from experiments import cells, common_flags, report, whitebox_flags, workers
from invgan_tf import data, defenses, presets, projection
from invgan_tf.evaluation import accuracy, frechet, image_networks, means
from invgan_tf.models import ali
from invgan_tf.training import loop

flags.DEFINE_string(
    "inception_weights",
    None,
    "The Inception network of 2015-12-05, inception-2015-12-05.tgz or its classify_image_graph_def.pb; adds IS, FID.",
)

FLAGS = whitebox_flags.FLAGS

STEPS = 200  # T of InvGAN, and the steps of direct optimisation, in Table 1
COLUMNS = ("MSE", "Accuracy", "classifier-IS", "classifier-FID")
INCEPTION_COLUMNS = ("IS", "FID")
FALLING = ("MSE", "classifier-FID", "FID")  # the lower the better
FRECHET = ("classifier-FID", "FID")
_BLOCK = 50  # images computed and kept at a time
_DIRECT = projection.Momentum(learning_rate=1.0, momentum=0.7)  # on pixels from -1 to 1
_SAMPLED = -4  # role of the latents whose images the generator is judged by: no training draws them


class Row(NamedTuple):
    """A way to invert.

    Attributes:
        parts: the networks it needs.
        steps: steps of Eq. 6 an image.
        optimizer: how they descend; None where there is no descent.
    """

    parts: tuple[str, ...]
    steps: int = 0
    optimizer: projection.Optimizer | None = None


def invgan_row(steps: int) -> str:
    """Returns Table 1's name of InvGAN with T steps."""
    return f"InvGAN (T={steps})"


class Inference:
    """Test images and the networks that invert them.

    Args:
        store: where reconstructions that take descent are kept.
        preset: name or folder of the networks.
        dataset: row of the dataset table.
        classifier: what reconstructions are judged by.
        examples: the images.
        dtype: precision of the descent's matrix products.
    """

    def __init__(
        self,
        store: cells.CellStore,
        preset: str,
        dataset: data.DatasetSpec,
        classifier: keras.Model,
        examples: data.Examples,
        dtype: str,
    ):
        self.store, self.dataset, self.classifier, self.examples = store, dataset, classifier, examples
        self.dtype = dtype
        self._load = functools.cache(functools.partial(presets.load, preset))

    def networks(self, row: Row) -> list[keras.Model]:
        """Returns a row's networks."""
        return [self._load(part) for part in row.parts]

    def blocks(self) -> list[tuple[int, ...]]:
        """Returns the images' numbers, cut into blocks."""
        count = len(self.examples)
        return [tuple(range(first, min(first + _BLOCK, count))) for first in range(0, count, _BLOCK)]

    def reconstruct(self, name: str, row: Row, block: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns a row's reconstructions of the images of these numbers, in the dataset's range, and seconds."""
        images = self.examples.images[block]
        key = {
            "row": name,
            "networks": [cells.fingerprint(network) for network in self.networks(row)],
            "descent": [row.steps, repr(row.optimizer), self.dtype],
            "seed": FLAGS.seed,
            "images": cells.fingerprint(images),
            "indices": block.tolist(),
        }
        run = functools.partial(self._run, row, images, block)
        stored, seconds = self.store.get("reconstruction", key, lambda: {"images": run()})
        return stored["images"], seconds

    def _run(self, row, images, indices):
        networks = self.networks(row)
        low, high = self.dataset.value_range
        if row.parts[0] == "ali_encoder":  # its images lie in [0, 1]; it draws its latents, as its authors did
            encoder, decoder = networks
            parameters = accuracy.outputs(encoder, (images - low) / (high - low))
            latents = ali.sample_latents(parameters, _noise(FLAGS.seed, indices, decoder.input_shape[-1]))
            return low + (high - low) * accuracy.outputs(decoder, np.asarray(latents))
        if row.parts[0] == "age_encoder":
            encoder, generator = networks
            return accuracy.outputs(generator, accuracy.outputs(encoder, images))
        build = defenses.InvGAN if len(networks) == 2 else defenses.DefenseGAN
        given = {"optimizer": row.optimizer} if row.optimizer else {}
        defense = build(
            *networks, steps=row.steps, restarts=1, value_range=self.dataset.value_range, dtype=self.dtype, **given
        )
        return defense.project(images, indices=indices, seed=FLAGS.seed).images


def _noise(seed, indices, dimensions):
    """Returns N(0, I) draws `[n, dimensions]`; an image's depend on (seed, its number) alone."""
    return np.stack([tf.random.stateless_normal((dimensions,), (seed, int(index))) for index in indices])


ALI, AGE = Row(("ali_encoder", "ali_decoder")), Row(("age_encoder", "age_generator"))
DIRECT = Row(("generator",), STEPS, _DIRECT)
ABLATION = Row(("generator", "ablation_inverter"))


def invgan(steps: int) -> Row:
    """Returns InvGAN with T steps."""
    return Row(("generator", "inverter"), steps)


@functools.lru_cache(maxsize=1)
def from_flags() -> Inference:
    """Builds what the flags ask for, on the first test images."""
    dataset = data.spec(FLAGS.dataset)
    preset = FLAGS.preset_dir or FLAGS.dataset
    presets.read_card(preset, FLAGS.dataset)
    return Inference(
        whitebox_flags.open_store(),
        preset,
        dataset,
        whitebox_flags.load_classifier(elsewhere=FLAGS.dataset),
        data.load(FLAGS.dataset, "test", data_dir=FLAGS.data_dir, limit=FLAGS.num_images),
        whitebox_flags.projection_dtype(),
    )


def check_flags(experiment: str, rows: dict[str, Row]) -> None:
    """Raises FlagError for another dataset than CIFAR-10, or a preset that lacks a network."""
    if FLAGS.dataset != "cifar10":
        raise common_flags.FlagError(f"{experiment} is of cifar10 alone, got --dataset={FLAGS.dataset}.")
    common_flags.refuse(*whitebox_flags.WHITE_BOX, "false_positive_rate", "defenses", "restarts")
    if FLAGS.projector != "exact" or FLAGS.defensegan_steps is not None:
        raise common_flags.FlagError(f"{experiment} descends exactly: leave out --projector and --defensegan_steps.")
    preset = FLAGS.preset_dir or FLAGS.dataset
    card = presets.read_card(preset, FLAGS.dataset)
    missing = sorted({part for row in rows.values() for part in row.parts} - set(card))
    if missing:
        raise common_flags.FlagError(
            f"{presets.find(preset)} lacks {', '.join(missing)}, which {experiment} needs; it has {', '.join(card)}."
        )


def reconstructions(rows: dict[str, Row], title: str) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yields each row's name, its reconstructions of all images, and the seconds they took, as they are done."""
    evaluation = from_flags()
    tasks = [(name, row, block) for name, row in rows.items() for block in evaluation.blocks()]
    done: dict[str, dict] = {name: {} for name in rows}
    total = sum(len(block) * (1 + row.steps) for _, row, block in tasks)
    with tqdm.tqdm(total=total, desc=title, unit="image-step", unit_scale=True, mininterval=1.0) as bar:
        for (name, row, block), answer in workers.run(from_flags, _reconstruct, [tasks]):
            bar.update(len(block) * (1 + row.steps))
            done[name][block] = answer
            if len(done[name]) == len(evaluation.blocks()):
                parts = [done[name][numbers] for numbers in sorted(done[name])]
                yield name, np.concatenate([images for images, _ in parts]), sum(seconds for _, seconds in parts)


def _reconstruct(evaluation: Inference, task):
    name, row, block = task
    return evaluation.reconstruct(name, row, np.array(block))


def columns() -> tuple[str, ...]:
    """Returns the columns that can be measured: IS and FID as the field means them need their network."""
    return COLUMNS + (INCEPTION_COLUMNS if FLAGS.inception_weights else ())


def settings() -> dict:
    """Returns what was asked for, for results.json."""
    names = "dataset num_images seed preset_dir classifier_dir steps inception_weights deterministic"
    return {name: FLAGS[name].value for name in names.split()} | {"projection_dtype": whitebox_flags.projection_dtype()}


class Judge:
    """Measures reconstructions and samples beside the test images.

    Args:
        dataset: row of the dataset table.
        examples: the images.
        classifier: what judges accuracy, and realism beside Inception.

    Raises:
        FlagError: for an --inception_weights that is not Inception, or too few images for a distance.
    """

    def __init__(self, dataset: data.DatasetSpec, examples: data.Examples, classifier: keras.Model):
        self.examples, self.classifier, real = examples, classifier, examples.images
        describers: dict[tuple[str, str], Callable] = {
            ("classifier-IS", "classifier-FID"): image_networks.by_classifier(classifier)
        }
        try:
            if FLAGS.inception_weights:
                network = image_networks.by_inception(FLAGS.inception_weights, dataset.value_range)
                describers[INCEPTION_COLUMNS] = network
            self._real = {names: image_networks.statistics(by, real) for names, by in describers.items()}
            for known in self._real.values():
                frechet.distance(known.moments.moments(), known.moments.moments())
        except image_networks.NetworkFileError as error:
            raise common_flags.FlagError(f"--inception_weights: {error}") from error
        except ValueError as error:
            raise common_flags.FlagError(f"--num_images={len(real)}: {error}") from error
        self._describers = describers

    def realism(self, images: np.ndarray) -> dict:
        """Returns inception score and Frechet distance to the test images by column."""
        found = {}
        for names, by in self._describers.items():
            drawn = image_networks.statistics(by, images)
            distance = frechet.frechet_distance(self._real[names].moments, drawn.moments)
            found |= dict(zip(names, (drawn.score.score(), distance)))
        return found

    def reconstruction(self, images: np.ndarray) -> dict:
        """Returns all of a row's figures by column; image number i is a reconstruction of test image i."""
        right = accuracy.predict(self.classifier, images) == self.examples.labels
        errors = np.mean(np.square(images - self.examples.images), axis=(1, 2, 3), dtype=np.float64)
        return {"MSE": means.Mean.of(errors), "Accuracy": accuracy.Proportion.of(right), **self.realism(images)}


def fill(table: report.Report, rows: dict[str, Row], title: str, published: dict) -> dict[str, np.ndarray]:
    """Measures all rows into a table, and the generator's own samples below it; returns the reconstructions."""
    evaluation, found = from_flags(), {}
    judge = Judge(evaluation.dataset, evaluation.examples, evaluation.classifier)
    for name, images, seconds in reconstructions(rows, title):
        found[name] = images
        for column, measured in judge.reconstruction(images).items():
            std = {"std": float(measured.values.std(ddof=1))} if column == "MSE" else {}
            paper = published.get((name, column))
            table.add(name, column, measured, seconds=seconds, paper=paper, **std)
    _add_findings(table, evaluation, judge)
    return found


def samples(generator: keras.Model, count: int) -> np.ndarray:
    """Draws images of latents that depend on (--seed, their number) alone, and that no training draws."""
    shape = count, generator.input_shape[-1]
    return accuracy.outputs(generator, loop.latents(FLAGS.seed, tf.constant(0, tf.int64), _SAMPLED, shape).numpy())


def _add_findings(table, evaluation, judge):
    """Adds what tells of the networks themselves: the classifier on the images, the generator's own samples."""
    count = len(evaluation.examples)
    clean = accuracy.predict(evaluation.classifier, evaluation.examples.images) == evaluation.examples.labels
    share = accuracy.Proportion.of(clean)
    text = f"The classifier takes {share.value:.3f} of the {count} test images themselves rightly."
    table.find(text, {"value": share.value, "ci95": list(share.ci95), "n": share.n})
    (trained,) = evaluation.networks(Row(("generator",)))
    untrained = keras.models.clone_model(trained)
    distances = {}
    for name, generator in (("trained", trained), ("untrained", untrained)):
        for column, measured in judge.realism(samples(generator, count)).items():
            if column in FRECHET:
                distances[f"{name} {column}"] = measured.value
    told = ", ".join(f"{name} {value:.2f}" for name, value in distances.items())
    table.find(f"The generator's own {count} samples, Frechet distance to the test images: {told}.", distances)


def protocol() -> str:
    """Returns what a reader must know of the numbers."""
    return (
        "One trained network of each kind. MSE on pixels from -1 to 1, mean and standard deviation over images; "
        "classifier-IS and classifier-FID in the feature space of the classifier that measures accuracy; intervals of "
        "scores over 10 splits, of distances by a jackknife of 10 groups. "
        f"Projection in {whitebox_flags.projection_dtype()}; seed {FLAGS.seed}. The packaged test images are a public "
        "JPEG re-encoding of CIFAR-10."
    )
