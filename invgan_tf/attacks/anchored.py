"""The defence as an attacker of small means sees it: a few steps from where the clean images' projections ended."""

import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.attacks import attacker
from invgan_tf.defenses import Defended


class Anchored(keras.Model):
    """f(G(z_k)): k steps of Eq. 6 from a clean image's latents, a stand-in for `Defended` that costs k image-steps.

    A cold projection of T steps in every query or step of an attack is out of reach of most machines; a bounded
    perturbation leaves the latents near those of the clean image. An image is told by its nearest clean one, so that
    any toolbox can ask about any part of a batch. The backward pass takes the descent as the identity, and where it
    begins at I(x), as InvGAN's does, adds the gradient through the inverter and the generator.

    Args:
        model: the classifier behind its defence. Its seed is replaced by the attacker's.
        images: the clean images that will be attacked, `[n, h, w, c]`.
        steps: k.
        restarts: of the defence's restarts those of lowest loss on the clean image, at most so many.
        indices: the images' numbers, as for `Defense.project`.
        seed: the attacker's key, as for `bpda_pgd`.
    """

    def __init__(
        self,
        model: Defended,
        images,
        *,
        steps: int = 10,
        restarts: int = 2,
        indices: Sequence[int] | None = None,
        seed: int = 0,
        name: str = "anchored",
    ):
        super().__init__(name=name)
        validation.check_count("steps", steps, 0)
        validation.check_count("restarts", restarts, 1)
        labels = np.zeros(np.shape(images)[:1], np.int32)  # of no use here
        value_range = model.defense.value_range if isinstance(model, Defended) else (0.0, 1.0)  # `prepare` refuses it
        attacked, images, _, indices = attacker.prepare(model, images, labels, indices, seed, value_range)
        self.classifier, self.defense, self.steps = attacked.classifier, attacked.defense, steps
        self._look = functools.partial(attacker.look, attacked)  # not as a layer: this one holds its parts
        self._all, self._restarts = attacked.restarts, min(attacked.restarts, restarts)
        self._seed, self._numbers = attacked.seed, tf.constant(indices)
        own = attacked.steps if attacked.projector == "exact" else attacked.defense.steps
        path = attacked.defense.trajectory(
            images, [own], restarts=attacked.restarts, seed=attacked.seed, indices=indices
        )
        kept = np.argsort(path.loss[0], axis=1)[:, : self._restarts]
        self._kept, self._clean = tf.constant(kept), tf.constant(images)
        latents = tf.gather(path.latents[0], self._kept, batch_dims=1)
        self._offset = latents - self._starts(self._clean, tf.range(len(images)))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of a batch of images, its first side open."""
        return None, *self.defense.image_shape

    def compute_output_shape(self, input_shape):
        """Returns `(n, classes)`."""
        return self.classifier.compute_output_shape(input_shape)

    def judge(self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Asks the whole defence, cold, under the attacker's seed: what fools the stand-in need not fool it.

        Args:
            images: found near the clean images of these rows, `[m, h, w, c]`.
            labels: to move away from, `[m]`.
            rows: which of the clean images, `[m]`.

        Returns:
            How far each wins, `[m]`: the share of the likely restarts it fools and less than one more; 1 for all.
        """
        return self._look(images, labels, self._numbers.numpy()[rows], self._seed)[0]

    def _starts(self, images, rows):
        starts = self.defense.starts(images, tf.gather(self._numbers, rows), self._all, self._seed)
        return tf.gather(starts, tf.gather(self._kept, rows), batch_dims=1)

    def call(self, images, training=False):
        """Returns logits `[n, classes]` of images near the clean ones."""
        images = tf.convert_to_tensor(images)
        drawn = self._drawn(images) + images - tf.stop_gradient(images)
        return self.classifier(drawn, training=False)

    def _drawn(self, images):
        flat, clean = (tf.reshape(array, (tf.shape(array)[0], -1)) for array in (images, self._clean))
        distance = tf.reduce_sum(tf.square(clean), axis=1) - 2.0 * tf.matmul(flat, clean, transpose_b=True)
        rows = tf.argmin(distance, axis=1, output_type=tf.int32)  # each image's own squared length shifts all alike
        starts = tf.reshape(self._starts(images, rows), (-1, self.defense.latent_dim))
        still, targets = tf.stop_gradient(starts), tf.stop_gradient(tf.repeat(images, self._restarts, axis=0))
        latents = still + tf.reshape(tf.gather(self._offset, rows), tf.shape(still))
        draw, optimizer = self.defense.draw, self.defense.optimizer
        latents, _ = projection.descend(
            draw, optimizer, targets, latents, optimizer.slots(latents), tf.constant(0), self.steps
        )
        loss = projection.explain(draw, latents, targets)[1]
        way = starts + tf.stop_gradient(latents - still)
        return draw(projection.best_restart(way, loss, latents, self._restarts)[0])
