"""The classifiers: A to F for 28x28, Y for CelebA, the residual networks for CIFAR-10 (paper, section 4)."""

import keras
from keras import layers

from invgan_tf.models import wide_resnet


@keras.saving.register_keras_serializable("invgan_tf")
class Classifier(keras.Model):
    """f = C o Phi (paper, section 3.3): a feature extractor Phi and a last dense layer C.

    Args:
        feature_extractor: Keras model from images to features `[n, d]`.
        head: the last layer, from features to logits `[n, num_classes]`.
    """

    def __init__(self, feature_extractor: keras.Model, head: keras.layers.Layer, name: str | None = None):
        super().__init__(name=name)
        self.feature_extractor = feature_extractor
        self.head = head

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of a batch of images, its first side open."""
        return self.feature_extractor.input_shape

    def build(self, input_shape):
        """Builds the head for the features of images of `input_shape`."""
        if not self.head.built:
            self.head.build(self.feature_extractor.compute_output_shape(input_shape))

    def compute_output_shape(self, input_shape):
        """Returns `(n, classes)`."""
        return self.head.compute_output_shape(self.feature_extractor.compute_output_shape(input_shape))

    def call(self, images, training=False):
        """Returns logits `[n, num_classes]` in float32."""
        return self.head(self.features(images, training=training))

    def features(self, images, training=False):
        """Returns Phi(images), `[n, d]`: the input of the last layer, which Eq. 7 compares."""
        return self.feature_extractor(images, training=training)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "feature_extractor": serialize(self.feature_extractor),
            "head": serialize(self.head),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        return cls(deserialize(config["feature_extractor"]), deserialize(config["head"]), config["name"])


def _a(dtype):
    return [
        layers.Conv2D(64, 5, padding="same", activation="relu", dtype=dtype, name="conv1"),
        layers.Conv2D(64, 5, 2, activation="relu", dtype=dtype, name="conv2"),
        layers.Dropout(0.25, dtype=dtype, name="dropout1"),
        layers.Flatten(dtype=dtype, name="flatten"),
        layers.Dense(128, activation="relu", dtype=dtype, name="dense1"),
        layers.Dropout(0.5, dtype=dtype, name="dropout2"),
    ]


def _f(dtype):
    return [
        layers.Conv2D(64, 8, 2, "same", activation="relu", dtype=dtype, name="conv1"),
        layers.Conv2D(128, 6, 2, activation="relu", dtype=dtype, name="conv2"),
        layers.Conv2D(128, 5, activation="relu", dtype=dtype, name="conv3"),
        layers.Flatten(dtype=dtype, name="flatten"),
    ]


def _b(dtype):
    first, last = (
        layers.Dropout(rate, dtype=dtype, name=name) for rate, name in ((0.2, "dropout1"), (0.5, "dropout2"))
    )
    return [first, *_f(dtype), last]


def _c(dtype):
    return [
        layers.Conv2D(128, 3, padding="same", activation="relu", dtype=dtype, name="conv1"),
        layers.Conv2D(64, 5, 2, activation="relu", dtype=dtype, name="conv2"),
        layers.Dropout(0.25, dtype=dtype, name="dropout1"),
        layers.Flatten(dtype=dtype, name="flatten"),
        layers.Dense(128, activation="relu", dtype=dtype, name="dense1"),
        layers.Dropout(0.5, dtype=dtype, name="dropout2"),
    ]


def _e(dtype):
    return [
        layers.Flatten(dtype=dtype, name="flatten"),
        layers.Dense(200, activation="relu", dtype=dtype, name="dense1"),
        layers.Dense(200, activation="relu", dtype=dtype, name="dense2"),
    ]


def _d(dtype):
    body = _e(dtype)
    return [*body[:2], layers.Dropout(0.5, dtype=dtype, name="dropout1"), body[2]]


def _y(dtype):
    return [
        layers.Conv2D(64, 3, padding="same", activation="relu", use_bias=False, dtype=dtype, name="conv1"),
        layers.Conv2D(64, 3, 2, activation="relu", use_bias=False, dtype=dtype, name="conv2"),
        layers.Conv2D(128, 3, 2, activation="relu", use_bias=False, dtype=dtype, name="conv3"),
        layers.Conv2D(128, 3, 2, activation="relu", use_bias=False, dtype=dtype, name="conv4"),
        layers.Flatten(dtype=dtype, name="flatten"),
        layers.Dense(256, activation="relu", dtype=dtype, name="dense1"),
        layers.Dropout(0.5, dtype=dtype, name="dropout1"),
        layers.Dense(256, activation="relu", dtype=dtype, name="dense2"),
        layers.Dropout(0.5, dtype=dtype, name="dropout2"),
    ]


_BODIES = {"A": _a, "B": _b, "C": _c, "D": _d, "E": _e, "F": _f, "Y": _y}
_RESIDUAL = {"wide": ((160, 320, 640), 5), "small": ((16, 32, 64), 3)}  # channels of the stages, units a stage
ARCHITECTURES = (*_BODIES, *_RESIDUAL)


def build_classifier(
    architecture: str,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    *,
    num_classes: int = 10,
    dtype: str = "float32",
) -> Classifier:
    """Builds a classifier: images `[n, h, w, c]` to logits.

    Args:
        architecture: "A" to "F" for 28x28 images in [0, 1]: A defends in Tables 2 and 3, F is the oracle and E the
            substitute of Table 4. "Y" is CelebA's; "wide" the wide ResNet of CIFAR-10, "small" one for processors.
        image_shape: shape of one image.
        num_classes: number of logits.
        dtype: Keras dtype policy of the layers before the last.

    Raises:
        ValueError: for an unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown classifier {architecture!r}; choose one of {', '.join(ARCHITECTURES)}.")
    if architecture in _RESIDUAL:
        body = wide_resnet.build_features(image_shape, *_RESIDUAL[architecture], dtype)
    else:
        body = keras.Sequential([keras.Input(image_shape), *_BODIES[architecture](dtype)], name="features")
    head = layers.Dense(num_classes, dtype="float32", name="logits")
    classifier = Classifier(body, head, name=f"classifier_{architecture.lower()}")
    classifier.build((None, *image_shape))
    return classifier
