"""A defended classifier as a TensorFlow SavedModel, which loads where only TensorFlow is installed."""

import os

import numpy as np
import tensorflow as tf

from invgan_tf import defenses, folding, projection, validation
from invgan_tf.evaluation import accuracy, detection

BAKED, WITH_STEPS = "serving_default", "with_steps"  # the names of the signatures


class Server(tf.Module):
    """Classifier, defence and detector in one graph: the exact projector's descent, then Eq. 7.

    Args:
        detector: a calibrated `AttackDetector` of a classifier `Defended` with the exact projector.
        steps: T of the first signature; the model's own by default.

    Raises:
        ValueError: for anything but a detector with a threshold, or another projector.
    """

    def __init__(self, detector: defenses.AttackDetector, *, steps: int | None = None):
        super().__init__(name="server")
        _check(detector)
        model = detector.model
        if model.projector != "exact":
            raise ValueError(f"Only the exact projector can be exported, got {model.projector!r}.")
        self.steps = model.steps if steps is None else validation.check_count("steps", steps, 0)
        networks = [getattr(model.defense, part) for part in model.defense.parts]
        self.tracked = [weight.value for network in [model.classifier, *networks] for weight in network.variables]
        self.threshold = tf.Variable(detector.threshold, trainable=False, dtype=tf.float32, name="threshold")
        images = tf.TensorSpec((None, *model.defense.image_shape), tf.float32, name="images")
        baked = tf.function(lambda images: self.answer(images, tf.constant(self.steps)), autograph=False)
        self.answer = tf.function(lambda images, steps: self._answer(model, images, steps), autograph=False)
        self.functions = {
            BAKED: baked.get_concrete_function(images),
            WITH_STEPS: self.answer.get_concrete_function(images, tf.TensorSpec((), tf.int32, name="steps")),
        }

    def _answer(self, model, images, steps):
        low, high = model.defense.value_range
        wrong = f"Expected finite pixels in [{low:g}, {high:g}]."
        inside = tf.reduce_all((images >= low - 1e-6) & (images <= high + 1e-6))  # NaN is outside too
        checks = [tf.debugging.Assert(inside, [wrong]), tf.debugging.assert_non_negative(steps, "steps")]
        with tf.control_dependencies([check for check in checks if check is not None]):
            images = tf.clip_by_value(images, low, high)
        projected = self._projected(model, images, steps)
        seen, given = (model.classifier.features(x) for x in (projected, images))
        change = tf.square(tf.cast(given - seen, tf.float32))
        score = tf.reduce_mean(tf.reshape(change, (tf.shape(images)[0], -1)), axis=1)
        probabilities = tf.nn.softmax(tf.cast(model.classifier(projected, training=False), tf.float32))
        return {
            "class": tf.argmax(probabilities, axis=1, output_type=tf.int32),
            "probabilities": probabilities,
            "score": score,
            "flag": score > self.threshold,
        }

    @staticmethod
    def _projected(model, images, steps):
        """Eq. 6 with the number of steps a tensor; the arithmetic is the exact projector's own."""
        defense, run = model.defense, model.defense.projectors["exact"]
        starts = defense.starts(images, tf.range(tf.shape(images)[0], dtype=tf.int64), model.restarts, model.seed)
        targets = tf.repeat(images, model.restarts, axis=0) if model.restarts > 1 else images
        latents = tf.reshape(starts, (-1, defense.latent_dim))
        latents, _ = projection.descend(
            folding.fold(defense.generator, defense.dtype),
            defense.optimizer,
            targets,
            latents,
            defense.optimizer.slots(latents),
            tf.constant(0),
            steps,
        )
        return run(images, tf.reshape(latents, (-1, model.restarts, defense.latent_dim)), 0)[0]


def _check(detector):
    if not isinstance(detector, defenses.AttackDetector):
        raise ValueError(f"Expected an AttackDetector, got {type(detector).__name__}.")
    if detector.threshold is None:
        raise ValueError("The detector has no threshold yet: call calibrate(clean_images) first.")


def export(detector: defenses.AttackDetector, folder: str | os.PathLike, *, steps: int | None = None) -> None:
    """Writes a SavedModel that classifies images and tells attacks (paper, section 3.3).

    Its signature `serving_default` takes `images` `[n, h, w, c]`, float32, in the defence's range, and gives `class`
    `[n]` int32, `probabilities` `[n, classes]`, `score` `[n]` (Eq. 7) and `flag` `[n]` bool, at T = `steps`; the
    signature `with_steps` takes `steps`, a scalar of int32, too. Pixels outside the range are an InvalidArgumentError.
    The answers are the library's for the same batch to some 1e-7; in another batch rounding differs, and steps amplify
    that.

    Args:
        detector: calibrated; its `Defended` is what is exported, with its restarts, seed and precision.
        folder: the SavedModel's; made if it is not there.
        steps: T; the model's own by default.

    Raises:
        ValueError: for anything but a detector with a threshold, a projector that is not the exact one, or bad steps.
    """
    server = Server(detector, steps=steps)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # no gradient is left to take
    tf.saved_model.save(server, os.fspath(folder), server.functions, options)


def answers(detector: defenses.AttackDetector, images) -> dict[str, np.ndarray]:
    """Returns what the SavedModel of this detector answers, computed by the library itself; for comparison."""
    _check(detector)
    projected = detector.model.project(images).images
    probabilities = tf.nn.softmax(accuracy.outputs(detector.model.classifier, projected)).numpy()
    score = detection.feature_score(detector.model.classifier, np.asarray(images, np.float32), projected)
    return {
        "class": probabilities.argmax(axis=1).astype(np.int32),
        "probabilities": probabilities,
        "score": score,
        "flag": score > detector.threshold,
    }
