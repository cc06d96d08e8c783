"""A defence for the Adversarial Robustness Toolbox 1.20 (Nicolae et al. 2018): `pip install 'invgan_tf[art]'`."""

import functools

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import defenses, validation

try:
    from art.defences.preprocessor.preprocessor import Preprocessor
    from art.estimators.classification import TensorFlowV2Classifier
except ImportError as error:
    raise ImportError(
        "invgan_tf.integrations.art needs the Adversarial Robustness Toolbox: pip install 'invgan_tf[art]'."
    ) from error


class ProjectionPreprocessor(Preprocessor):
    """Projection in front of any ART classifier of any framework (paper, section 3.3).

    Its gradient is taken as the identity (BPDA, Athalye et al. 2018), which is ART's own default.

    Args:
        defense: an `InvGAN` or `DefenseGAN` over images `[n, h, w, c]`.
        steps, restarts: T and R; the defence's own by default.
        projector: "exact" or "fast", as for `Defense.project`.
        seed: key of random starts. An image's start follows from its place in the batch that ART hands over.
        apply_fit: whether training images are projected too.
        apply_predict: whether images are projected for prediction and for gradients.

    Raises:
        ValueError: for anything but a defence, bad counts, or, when called, images of another shape, dtype or range.
    """

    params = ("steps", "restarts", "projector", "seed")

    def __init__(
        self,
        defense: defenses.Defense,
        *,
        steps: int | None = None,
        restarts: int | None = None,
        projector: str = "exact",
        seed: int = 0,
        apply_fit: bool = False,
        apply_predict: bool = True,
    ):
        super().__init__(is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)
        if not isinstance(defense, defenses.Defense):
            raise ValueError(f"ProjectionPreprocessor needs a defence, got {type(defense).__name__}.")
        self.defense, self.steps, self.restarts = defense, steps, restarts
        self.projector, self.seed = projector, seed
        self._check_params()

    def _check_params(self):
        self.defense.check_projector(self.projector)
        validation.check_count("seed", self.seed, 0)
        for name, minimum in (("steps", 0), ("restarts", 1)):
            if getattr(self, name) is not None:
                validation.check_count(name, getattr(self, name), minimum)

    def __call__(self, x: np.ndarray, y=None):
        """Returns the projections of images `[n, h, w, c]` in the defence's range, float32, and `y` as it came."""
        found = self.defense.project(
            np.asarray(x), steps=self.steps, restarts=self.restarts, projector=self.projector, seed=self.seed
        )
        return found.images, y

    def estimate_gradient(self, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
        """Returns the gradient at the projection, `[n, h, w, c]`, as that at the image: the identity."""
        return grad


class _Classifier(TensorFlowV2Classifier):
    """ART's classifier, with one pass where each image has its own label: ART's own makes a pass a class."""

    def class_gradient(self, x, label=None, training_mode: bool = False, **kwargs) -> np.ndarray:
        if not isinstance(label, list | tuple | np.ndarray) or np.ndim(label) != 1 or len(label) != len(x):
            return super().class_gradient(x, label, training_mode, **kwargs)
        pixels = tf.constant(self._apply_preprocessing(x, y=None, fit=False)[0])
        gradient = self._label_gradient(pixels, tf.constant(np.asarray(label), tf.int32), training_mode)
        return self._apply_preprocessing_gradient(x, gradient.numpy())[:, None]

    @functools.cached_property
    def _label_gradient(self):
        @tf.function(reduce_retracing=True, autograph=False)
        def gradient(pixels, labels, training: bool):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(pixels)
                chosen = tf.gather(self.model(pixels, training=training), labels, batch_dims=1)
            return tape.gradient(chosen, pixels)

        return gradient


def art_classifier(model: keras.Model, *, value_range: tuple[float, float] | None = None) -> TensorFlowV2Classifier:
    """Wraps a classifier, bare or `Defended`, for ART's attacks (paper, section 3.4, for what they meet).

    ART evaluates the gradient of a loss that is given to it: the cross-entropy here is taken in float64, because
    in float32 it loses the attacked label's part where that label's probability rounds to 1.

    Args:
        model: Keras model from images `[n, h, w, c]` to logits `[n, classes]`; a `Defended` becomes its classifier
            behind a `ProjectionPreprocessor`.
        value_range: lowest and highest pixel; a `Defended` knows its own, else [0, 1].

    Returns:
        An ART classifier: `predict` gives logits.

    Raises:
        ValueError: for a model that does not tell its input's shape, or a value_range that is none.

    Example:
        >>> digits = data.load("mnist", "test", limit=4)
        >>> defended = invgan_tf.Defended(
        ...     invgan_tf.load_classifier("mnist", "A"), invgan_tf.InvGAN.from_preset("mnist"), steps=5)
        >>> classifier = art_classifier(defended)
        >>> FastGradientMethod(classifier, eps=0.3).generate(digits.images, digits.labels).shape
        (4, 28, 28, 1)
    """
    preprocessor = None
    if value_range is not None:
        value_range = validation.check_range(value_range)
    if isinstance(model, defenses.Defended):
        value_range = model.defense.value_range if value_range is None else value_range
        preprocessor = ProjectionPreprocessor(
            model.defense, steps=model.steps, restarts=model.restarts, projector=model.projector, seed=model.seed
        )
        model = model.classifier
    shape = getattr(model, "input_shape", None)
    if not shape or len(shape) != 4:
        raise ValueError(f"{type(model).__name__} does not tell the shape of its images: wrap it in a keras.Model.")
    return _Classifier(
        model=model,
        nb_classes=model.compute_output_shape((1, *shape[1:]))[-1],
        input_shape=shape[1:],
        loss_object=_cross_entropy,
        clip_values=value_range or (0.0, 1.0),
        preprocessing_defences=preprocessor,
    )


def _cross_entropy(labels, logits):
    """Cross-entropy in float64 of one-hot labels `[n, classes]`, as `attacks.fgsm` takes it."""
    return tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, tf.float64), tf.cast(logits, tf.float64))
