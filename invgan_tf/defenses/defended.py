"""A classifier behind a defence, as one Keras model: what a user deploys and an adversary attacks."""

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.defenses import base
from invgan_tf.evaluation import accuracy


@tf.custom_gradient
def straight_through(images, projected):
    """Returns `projected`; its gradient goes to `images` unchanged (BPDA: the projection taken as the identity)."""
    return tf.identity(projected), lambda upstream: (upstream, tf.zeros_like(upstream))


class Defended(keras.Model):
    """f(projection(x)): from images to logits.

    The forward pass is the defence's own projection. The backward pass takes the projection as the
    identity (BPDA, Athalye et al. 2018; paper, section 3.4), so that gradient attacks of any toolbox run on this model.

    Args:
        classifier: Keras model from images to logits.
        defense: the projection in front of it.
        steps, restarts: T and R; the defence's own by default.
        projector: "exact" or "fast", as for `Defense.project`.
        seed: key of the projection's random starts.

    Raises:
        ValueError: for a classifier that is no Keras model, a defence that is none, an unknown projector, or steps,
            restarts and a seed that are no counts.

    Example:
        >>> digits = data.load("mnist", "test", limit=2)
        >>> model = invgan_tf.Defended(
        ...     invgan_tf.load_classifier("mnist", "A"), invgan_tf.InvGAN.from_preset("mnist"), steps=5)
        >>> bool((model.predict(digits.images).argmax(axis=1) == digits.labels).all())
        True
    """

    def __init__(
        self,
        classifier: keras.Model,
        defense: base.Defense,
        *,
        steps: int | None = None,
        restarts: int | None = None,
        projector: str = "exact",
        seed: int = 0,
        name: str = "defended",
    ):
        super().__init__(name=name)
        if not isinstance(classifier, keras.Model):
            raise ValueError(f"Defended needs a Keras model as its classifier, got {type(classifier).__name__}.")
        if not isinstance(defense, base.Defense):
            raise ValueError(f"Defended needs an InvGAN or another defence, got {type(defense).__name__}.")
        self.classifier = classifier
        self.defense = defense
        self.projector = defense.check_projector(projector)
        self.steps = defense.default_steps(projector) if steps is None else validation.check_count("steps", steps, 0)
        self.restarts = defense.restarts if restarts is None else validation.check_count("restarts", restarts, 1)
        self.seed = validation.check_count("seed", seed, 0)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of a batch of images, its first side open."""
        return None, *self.defense.image_shape

    def compute_output_shape(self, input_shape):
        """Returns `(n, classes)`."""
        return self.classifier.compute_output_shape(input_shape)

    def call(self, images, training=False):
        """Returns logits `[n, classes]`; image number i of the batch starts as index i does in `project`."""
        images = tf.convert_to_tensor(images)
        return self.classifier(straight_through(images, self.projected(images)), training=False)

    def projected(self, images: tf.Tensor, indices: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the projection of a batch, without a gradient; `indices` as for `project`; a graph function."""
        images = tf.stop_gradient(images)
        indices = tf.range(tf.shape(images)[0], dtype=tf.int64) if indices is None else indices
        starts = self.defense.starts(images, indices, self.restarts, self.seed)
        return tf.stop_gradient(self.defense.projectors[self.projector](images, starts, self.steps)[0])

    def project(self, images, indices=None) -> projection.Projection:
        """Projects images with this model's steps, restarts and seed."""
        return self.defense.project(
            images,
            steps=self.steps,
            restarts=self.restarts,
            projector=self.projector,
            seed=self.seed,
            indices=indices,
        )

    def predict(self, x, batch_size=None, verbose=0, *, indices=None) -> np.ndarray:
        """Returns logits `[n, classes]` of images `[n, h, w, c]`.

        Args:
            x: images.
            batch_size, verbose: unused, here because Keras's `predict` has them; the defence cuts its own batches.
            indices: as for `Defense.project`.
        """
        return accuracy.outputs(self.classifier, self.project(x, indices).images)
