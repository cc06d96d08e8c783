"""Trains a classifier on clean images with cross-entropy."""

import keras
import tensorflow as tf

from invgan_tf import data
from invgan_tf.evaluation import accuracy
from invgan_tf.training import loop, masks, replicas

_PADDING = 4  # pixels a crop may shift


class ClassifierTrainer(loop.Trainer):
    """Cross-entropy; dropout's masks and the augmentation are functions of (seed, step).

    Args:
        classifier: from images to logits; trained in place.
        seed: key of every dropout mask and of the augmentation.
        optimizer: Adam at 1e-3 by default.
        weight_decay: weight of half the kernels' sum of squares in the loss.
        augment: shift images by up to 4 pixels and mirror half of them.
        validation: examples whose accuracy the summaries follow; None for none.
    """

    metrics = ("loss", "training_accuracy")

    def __init__(
        self,
        classifier: keras.Model,
        *,
        seed: int = 0,
        optimizer: keras.optimizers.Optimizer | None = None,
        weight_decay: float = 0.0,
        augment: bool = False,
        validation: data.Examples | None = None,
    ):
        self.models = {classifier.name: classifier}
        self.optimizers = {"optimizer": optimizer or keras.optimizers.Adam(1e-3)}
        self.optimizers["optimizer"].build(classifier.trainable_variables)
        self.classifier, self.seed, self.validation = classifier, seed, validation
        self.weight_decay, self.augment = weight_decay, augment
        self.dropout_states = masks.states(classifier)

    def train_step(self, step, batch):
        images, labels = batch
        masks.key(self.dropout_states, self.seed, step)
        if self.augment:
            images = augmented(images, self.seed, step)
        images, labels = replicas.share(images), replicas.share(labels)
        with tf.GradientTape() as tape:
            logits = self.classifier(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = self.classifier.trainable_variables
        gradients = [self._decayed(*pair) for pair in zip(tape.gradient(loss, variables), variables)]
        replicas.apply(self.optimizers["optimizer"], gradients, variables)
        correct = tf.argmax(logits, axis=1, output_type=tf.int32) == labels
        return {"loss": loss, "training_accuracy": tf.reduce_mean(tf.cast(correct, tf.float32))}

    def _decayed(self, gradient, variable):
        return gradient + self.weight_decay * variable if variable.path.endswith("kernel") else gradient

    def scalars(self):
        if self.validation is None:
            return {}
        predictions = accuracy.predict(self.classifier, self.validation.images)
        return {"validation_accuracy": accuracy.Proportion.of(predictions == self.validation.labels).value}


def augmented(images: tf.Tensor, seed: int, step: tf.Tensor) -> tf.Tensor:
    """Shifts each image `[n, h, w, c]` by up to 4 pixels, zeros coming in, and mirrors half of them."""
    count, height, width = images.shape[0], *images.shape[1:3]
    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int64), step)
    shift = tf.random.stateless_uniform((2, count), key, 0, 2 * _PADDING + 1, tf.int32)
    mirrored = tf.random.stateless_uniform((count, 1), key + 1, 0, 2, tf.int32)
    margin = [_PADDING, _PADDING]
    rows = shift[0, :, None] + tf.range(height)
    columns = tf.range(width)[None] * (1 - 2 * mirrored) + (width - 1) * mirrored
    columns += shift[1, :, None]
    padded = tf.pad(images, [[0, 0], margin, margin, [0, 0]])
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
