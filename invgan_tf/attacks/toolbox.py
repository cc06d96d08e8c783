"""APGD and Square, as the Adversarial Robustness Toolbox has them (`pip install "invgan_tf[art]"`).

APGD asks for each image's own loss, for which the toolbox's estimator for TensorFlow needs Keras 2; the ones here hand
it logits, losses and gradients of any Keras model, each computed once where it asks again about the same images.
"""

import contextlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import validation
from invgan_tf.attacks import bounded, carlini_wagner, gradient

LOSSES = ("ce", "dlr")
_SEARCHES = 4  # of Square, where a judge refuses what fools the model


def _toolbox():
    """Returns the parts of ART used here, or raises ImportError with what to do."""
    try:
        from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack
        from art.estimators import BaseEstimator, LossGradientsMixin, NeuralNetworkMixin
        from art.estimators.classification import BlackBoxClassifierNeuralNetwork, ClassifierMixin
    except ImportError as error:
        raise ImportError(
            "auto_pgd and square need the Adversarial Robustness Toolbox: pip install invgan_tf[art]"
        ) from error
    parents = LossGradientsMixin, ClassifierMixin, NeuralNetworkMixin, BaseEstimator
    return AutoProjectedGradientDescent, SquareAttack, BlackBoxClassifierNeuralNetwork, parents


@contextlib.contextmanager
def _numpy_seed(seed):
    """Seeds NumPy's global generator, which the toolbox draws from, and puts it back."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


def difference_of_logits_ratio(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the DLR loss (Croce and Hein 2020), `[n]`: the margin over the gap of the best and the third logit.

    Args:
        labels: `[n]`.
        logits: `[n, classes]`, three classes or more.
    """
    ordered = tf.sort(logits, axis=1, direction="DESCENDING")
    margin = carlini_wagner.margin(logits[:, None, :], labels)[:, 0]
    return -margin / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def _gradient_estimator(model, loss, image_shape, classes, value_range, parents):
    """Returns what APGD asks: logits, losses and the gradient of a model."""
    loss = {"ce": gradient.cross_entropy, "dlr": difference_of_logits_ratio}[loss]
    signature = tf.TensorSpec((None, *image_shape)), tf.TensorSpec((None,), tf.int32)

    def look(images, labels):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            losses = loss(labels, model(images, training=False))
        return losses, tape.gradient(losses, images)

    def outputs(images):
        return model(images, training=False)

    look = tf.function(look, autograph=False).get_concrete_function(*signature)
    outputs = tf.function(outputs, autograph=False).get_concrete_function(signature[0])

    class Estimator(*parents):
        last = None  # images, labels, losses and gradient of the last look: a step asks for both, one after the other
        loss = None
        input_shape = property(lambda self: image_shape)

        def fit(self, *args, **kwargs):
            raise NotImplementedError("An attack does not train.")

        def get_activations(self, *args, **kwargs):
            raise NotImplementedError("An attack asks for no activations.")

        def predict(self, x, **kwargs):
            return outputs(tf.constant(x, tf.float32)).numpy()

        def _look(self, x, y):
            labels = np.argmax(y, axis=1).astype(np.int32)
            if self.last is None or not (np.array_equal(self.last[0], x) and np.array_equal(self.last[1], labels)):
                losses, slope = look(tf.constant(x, tf.float32), tf.constant(labels))
                self.last = np.array(x), labels, losses.numpy(), slope.numpy()
            return self.last[2:]

        def compute_loss(self, x, y, reduction="none", **kwargs):
            return self._look(x, y)[0].copy()

        def loss_gradient(self, x, y, **kwargs):
            return self._look(x, y)[1].copy()

    estimator = Estimator(model=model, clip_values=value_range, channels_first=False)
    estimator.nb_classes = classes
    return estimator


def auto_pgd(
    model: keras.Model,
    images,
    *,
    eps: float,
    norm: str = "inf",
    loss: str = "ce",
    steps: int = 100,
    restarts: int = 1,
    batch_size: int = 50,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> np.ndarray:
    """APGD (Croce and Hein 2020): PGD that halves its own step; through ART.

    Args:
        model: Keras model from images to logits, differentiable: `Defended` has BPDA's gradient.
        images: `[n, h, w, c]`, floating, in `value_range`.
        eps, norm: radius of the ball, and "inf" or "2".
        loss: "ce", cross-entropy (in float64, where it does not saturate), or "dlr", the ratio of logits' differences.
        steps, restarts: of each restart; images not fooled yet are restarted.
        batch_size: images attacked at a time.
        labels: labels to move away from, `[n]`; by default the model's own predictions.
        value_range: lowest and highest pixel.
        seed: key of the random starts, which depend on an image's place among those not fooled.

    Returns:
        Attacked images, float32, same shape, inside ball and `value_range`: of each restart the visited point of the
        highest loss, or where that does not fool the model the last one, if it does; of the restarts the first that
        fools, or the highest loss.

    Raises:
        ImportError: without ART.
        ValueError: for images, labels or settings that do not fit.
    """
    apgd, _, _, parents = _toolbox()
    images, eps, norm, labels = _checked(model, images, eps, norm, labels, value_range)
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}.")
    classes = model.compute_output_shape(images.shape)[-1]
    estimator = _gradient_estimator(model, loss, images.shape[1:], classes, tuple(value_range), parents)
    restarts, batch_size = (
        validation.check_count(name, count, 1) for name, count in (("restarts", restarts), ("batch_size", batch_size))
    )
    attack = apgd(
        estimator,
        norm=np.inf if norm == "inf" else 2,
        eps=eps,
        eps_step=2.0 * eps,
        max_iter=validation.check_count("steps", steps, 1),
        nb_random_init=1,
        batch_size=batch_size,
        loss_type=None,
        verbose=False,
    )

    def right(pixels, rows):
        return estimator.predict(pixels).argmax(axis=1) == labels[rows]

    result, highest = np.array(images), np.full(len(images), -np.inf)
    with _numpy_seed(validation.check_count("seed", seed, 0)):
        for _ in range(restarts):
            left = np.flatnonzero(right(result, slice(None)))
            for first in range(0, len(left), batch_size):
                rows = left[first : first + batch_size]
                # ART returns its last point or, where that fools nobody, the random one it began at: not its best.
                found, best = attack.generate(images[rows], labels[rows]), attack.x_max
                last = right(best, rows) & ~right(found, rows)
                found = np.where(last[:, None, None, None], found, best)
                better = ~right(found, rows) | (attack.f_max > highest[rows])
                result[rows[better]], highest[rows[better]] = found[better], attack.f_max[better]
    return bounded.into_ball(result, images, eps, norm, tuple(value_range)).numpy()


def square(
    model: keras.Model,
    images,
    *,
    eps: float,
    queries: int = 1000,
    confidence: float = 0.0,
    judge: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> np.ndarray:
    """Square (Andriushchenko et al. 2020), L-infinity: random search on the margin, without a gradient; through ART.

    What fools a stand-in need not fool what it stands for. A judge of that is asked about every image that does; where
    it refuses, the search begins anew with other proposals.

    Args:
        model: Keras model from images to logits.
        images: `[n, h, w, c]`, floating, in `value_range`.
        eps: radius of the ball, in the images' range.
        queries: proposals an image and search, each of which asks the model once.
        confidence: by how much the wrong logit must lead to be content; images meant for another model want more.
        judge: from found images `[m, h, w, c]`, their labels `[m]` and numbers in the batch `[m]` to how far each
            wins, `[m]`, 1 or more for whole, as `Anchored.judge` does; images that fool the model and not the judge
            are searched four times at most. None: the model itself decides.
        labels: labels to move away from, `[n]`; by default the model's own predictions.
        value_range: lowest and highest pixel.
        seed: key of the proposals, which the images of a call share.

    Returns:
        Attacked images, as `auto_pgd` gives them; where it fails, the point of the lowest margin found, with a judge
        that of the search which came furthest.

    Raises:
        ImportError: without ART.
        ValueError: for images, labels, eps or queries that do not fit.
    """
    _, attack, estimator, _ = _toolbox()
    images, eps, _, labels = _checked(model, images, eps, "inf", labels, value_range)
    classes, known = model.compute_output_shape(images.shape)[-1], {}

    def outputs(pixels):
        return model(pixels, training=False)

    outputs = tf.function(outputs, autograph=False).get_concrete_function(tf.TensorSpec((None, *images.shape[1:])))

    def predict(pixels):
        """Answers from what is known; the toolbox asks thrice about images that have not changed."""
        keys = [image.tobytes() for image in pixels.astype(np.float32)]
        new = {key: row for row, key in enumerate(keys) if key not in known}
        if new:
            if len(known) > 20 * len(images):  # what is not asked about any more
                for key in set(known) - set(keys):
                    del known[key]
            answers = outputs(tf.constant(pixels[list(new.values())], tf.float32)).numpy()
            known.update(zip(new, answers))
        return np.stack([known[key] for key in keys])

    wrapped = estimator(predict, images.shape[1:], classes, channels_first=False, clip_values=tuple(value_range))
    queries = validation.check_count("queries", queries, 1)
    confidence = validation.check_positive("confidence", confidence, zero=True)

    def margins(logits, hot):  # ART's own compares with the second highest logit, whichever is the label's
        return carlini_wagner.margin(tf.constant(logits)[:, None], tf.constant(hot.argmax(axis=1))).numpy()[:, 0]

    search = attack(
        wrapped,
        norm=np.inf,
        loss=lambda pixels, hot: margins(predict(pixels), hot),
        adv_criterion=lambda logits, hot: margins(logits, hot) < -confidence,
        max_iter=queries,
        eps=eps,
        batch_size=len(images),
        verbose=False,
    )
    result, won, left = np.array(images), np.full(len(images), -1.0), np.arange(len(images))
    with _numpy_seed(validation.check_count("seed", seed, 0)):
        for _ in range(1 if judge is None else _SEARCHES):
            found = search.generate(images[left], labels[left])
            found = bounded.into_ball(found, images[left], eps, "inf", tuple(value_range)).numpy()
            now = np.ones(len(left)) if judge is None else judge(found, labels[left], left)
            better = now > won[left]
            result[left[better]], won[left[better]] = found[better], now[better]
            fooled = (
                carlini_wagner.margin(tf.constant(predict(found))[:, None], labels[left]).numpy()[:, 0] < -confidence
            )
            left = left[fooled & (now < 1.0)]
            if not left.size:
                break
    return result


def _checked(model, images, eps, norm, labels, value_range):
    images = validation.check_model_images(model, images, value_range)
    eps, norm = bounded.check_ball(eps, norm)
    return images, eps, norm, carlini_wagner.attacked_labels(model, images, labels)
