"""What attacks on a defence share: the model as the attacker runs it, under a seed of his own."""

import functools

import numpy as np
import tensorflow as tf

from invgan_tf import validation
from invgan_tf.defenses import Defended

_ATTACKER = 2**31  # no evaluator's seed is so large: the attacker never knows the evaluator's random starts


def prepare(
    model: Defended, images, labels, indices, seed: int, value_range: tuple[float, float]
) -> tuple[Defended, np.ndarray, np.ndarray, np.ndarray]:
    """Checks the arguments that attacks on a defence share; returns the model under the attacker's seed with them."""
    if not isinstance(model, Defended):
        raise ValueError(f"This function attacks a Defended classifier, got {type(model).__name__}.")
    images = validation.check_images(images, model.defense.image_shape, value_range)
    attacked = _with_seed(model, _ATTACKER + validation.check_count("seed", seed, 0))
    indices = validation.check_indices(indices, len(images))
    if labels is None:
        labels = attacked.predict(images, indices=indices).argmax(axis=1)
    labels = validation.check_labels(labels, len(images), model.classifier.compute_output_shape(images.shape)[-1])
    return attacked, images, labels, indices


@functools.lru_cache(maxsize=8)
def _with_seed(model, seed):
    return Defended(
        model.classifier,
        model.defense,
        steps=model.steps,
        restarts=model.restarts,
        projector=model.projector,
        seed=seed,
    )


def likely(loss: tf.Tensor, restarts: int) -> tf.Tensor:
    """Returns the rows of restarts a defence may come to, `[n * ((restarts + 1) // 2)]`: each image's of lower loss.

    What fools the best restart of one seed alone mostly does so by that seed's luck (Athalye et al. 2018: expectation
    over the defence's randomness); the worse half hold restarts that no image moves.

    Args:
        loss: of every restart, `[n * restarts]`.
        restarts: of the defence.
    """
    _, found = tf.math.top_k(-tf.reshape(loss, (-1, restarts)), (restarts + 1) // 2)
    return tf.reshape(found + restarts * tf.range(tf.shape(found)[0])[:, None], [-1])
