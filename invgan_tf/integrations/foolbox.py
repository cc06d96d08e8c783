"""A defended classifier for foolbox 3 (Rauber et al. 2020): `pip install 'invgan_tf[foolbox]'`."""

import keras
import tensorflow as tf

from invgan_tf import defenses, validation

try:
    import foolbox
except ImportError as error:
    raise ImportError("invgan_tf.integrations.foolbox needs foolbox: pip install 'invgan_tf[foolbox]'.") from error


class FoolboxModel(foolbox.models.TensorFlowModel):
    """A classifier, bare or `Defended`, as foolbox's attacks see one; gradients pass a defence as BPDA's do.

    The logits are cast to float64 by default. Of a confident classifier the label's probability rounds to 1 in float32;
    then foolbox's cross-entropy loses the attacked label's part of the gradient, and FGSM and PGD grow weak without
    a word (on the packaged classifier FGSM at 0.3 fools 0.735 of 200 MNIST images in float32, 0.945 in float64).

    Args:
        model: Keras model from images `[n, h, w, c]` to logits `[n, classes]`: a `Defended` (paper, section 3.4), or a
            bare classifier.
        bounds: lowest and highest pixel; a `Defended` knows its own range, else [0, 1].
        logits_dtype: "float64", or "float32" for attacks that multiply logits by constants of float32 (foolbox's
            Carlini-Wagner does; it needs no cross-entropy).

    Raises:
        ValueError: for another logits_dtype, anything but a Keras model, or bounds that are none.

    Example:
        >>> digits = data.load("mnist", "test", limit=4)
        >>> model = FoolboxModel(invgan_tf.load_classifier("mnist", "A"))
        >>> images, labels = tf.constant(digits.images), tf.constant(digits.labels, tf.int64)
        >>> _, attacked, fooled = foolbox.attacks.FGSM()(model, images, labels, epsilons=0.3)
        >>> attacked.shape, fooled.shape
        (TensorShape([4, 28, 28, 1]), TensorShape([4]))
    """

    def __init__(self, model: keras.Model, *, bounds: tuple[float, float] | None = None, logits_dtype: str = "float64"):
        if logits_dtype not in ("float64", "float32"):
            raise ValueError(f"logits_dtype must be 'float64' or 'float32', got {logits_dtype!r}.")
        if not isinstance(model, keras.Model):
            raise ValueError(f"FoolboxModel needs a Keras model, got {type(model).__name__}.")
        if bounds is None:
            bounds = model.defense.value_range if isinstance(model, defenses.Defended) else (0.0, 1.0)
        bounds = validation.check_range(bounds, "bounds")
        super().__init__(lambda images: tf.cast(model(images, training=False), logits_dtype), bounds)
