"""Trains a classifier on clean images with cross-entropy."""

import keras
import tensorflow as tf

from invgan_tf import data
from invgan_tf.evaluation import accuracy
from invgan_tf.training import loop

_ROLE_STRIDE = 40_503 * 2**13


class ClassifierTrainer(loop.Trainer):
    """Cross-entropy and Adam; dropout's masks are a function of (seed, step).

    Args:
        classifier: from images to logits; trained in place.
        seed: key of every dropout mask.
        learning_rate: of Adam.
        validation: examples whose accuracy the summaries follow; None for none.
    """

    metrics = ("loss", "training_accuracy")

    def __init__(
        self,
        classifier: keras.Model,
        *,
        seed: int = 0,
        learning_rate: float = 1e-3,
        validation: data.Examples | None = None,
    ):
        self.models = {classifier.name: classifier}
        self.optimizers = {"optimizer": keras.optimizers.Adam(learning_rate)}
        self.optimizers["optimizer"].build(classifier.trainable_variables)
        self.classifier, self.seed, self.validation = classifier, seed, validation
        weights = {id(weight) for weight in classifier.weights}
        self.dropout_states = [variable for variable in classifier.variables if id(variable) not in weights]

    def train_step(self, step, batch):
        images, labels = batch
        for role, state in enumerate(self.dropout_states):
            key = (self.seed + role * _ROLE_STRIDE) % 2**31  # so that no two seeds share a layer's masks
            state.assign(tf.cast(tf.stack([key, step]), state.dtype))
        with tf.GradientTape() as tape:
            logits = self.classifier(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = self.classifier.trainable_variables
        self.optimizers["optimizer"].apply(tape.gradient(loss, variables), variables)
        correct = tf.argmax(logits, axis=1, output_type=tf.int32) == labels
        return {"loss": loss, "training_accuracy": tf.reduce_mean(tf.cast(correct, tf.float32))}

    def scalars(self):
        if self.validation is None:
            return {}
        predictions = accuracy.predict(self.classifier, self.validation.images)
        return {"validation_accuracy": accuracy.Proportion.of(predictions == self.validation.labels).value}
