"""What attacks on a defence share: the model as the attacker runs it, under a seed of his own."""

import functools

import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.attacks import carlini_wagner
from invgan_tf.defenses import Defended, Defense
from invgan_tf.evaluation import accuracy, detection

_ATTACKER = 2**31  # no evaluator's seed is so large: the attacker never knows the evaluator's random starts
_FAST_SHARE = 4  # before a fast projector the attacker looks with this part of the exact one's steps
_LOGITS = 5.0  # of a margin that count as much as an e-fold of the detector's score, and half of what ranks


def prepare(
    model: Defended, images, labels, indices, seed: int, value_range: tuple[float, float]
) -> tuple[Defended, np.ndarray, np.ndarray, np.ndarray]:
    """Checks the arguments that attacks on a defence share; returns the model under the attacker's seed with them."""
    if not isinstance(model, Defended):
        raise ValueError(f"This function attacks a Defended classifier, got {type(model).__name__}.")
    images = validation.check_images(images, model.defense.image_shape, value_range)
    attacked = with_seed(model, _ATTACKER + validation.check_count("seed", seed, 0))
    indices = validation.check_indices(indices, len(images))
    if labels is None:
        labels = attacked.predict(images, indices=indices).argmax(axis=1)
    labels = validation.check_model_labels(model.classifier, images, labels)
    return attacked, images, labels, indices


@functools.lru_cache(maxsize=8)
def with_seed(model: Defended, seed: int) -> Defended:
    """Returns the same model under another key of random starts; the same object for the same key."""
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


def starts(
    defense: Defense, pixels: tf.Tensor, numbers: tf.Tensor, restarts: int, key: tf.Tensor, draws: int
) -> tf.Tensor:
    """Returns a defence's starts under `draws` seeds, from `key` on, `[n, draws * restarts, latent_dim]`."""
    return tf.concat([defense.starts(pixels, numbers, restarts, key + i) for i in range(draws)], axis=1)


def look(
    model: Defended, images, labels, indices, key: int, *, draws: int = 1, part: int = 1, threshold: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Projects images cold, as the defence does, under the attacker's own seeds.

    Args:
        model: as `prepare` gives it.
        images, labels, indices: `[n, h, w, c]`, `[n]`, `[n]`.
        key: the first of the seeds.
        draws: seeds.
        part: makes this part of the defence's steps, to rank candidates at less cost.
        threshold: of a detector that is to be passed too.

    Returns:
        How far each image wins, `[n]`: the share of the likely restarts that it fools (and whose score passes), and
        less than one restart's share more, the more the lower the mean margin; 1 or more is all of them. And how far
        the descents came from their starts, `[n, draws * restarts, latent_dim]`.
    """
    defense, pixels = model.defense, tf.constant(images)
    begin = starts(defense, pixels, tf.constant(indices), model.restarts, tf.constant(key, tf.int64), draws)
    steps = model.steps if model.projector == "exact" else defense.steps // _FAST_SHARE
    targets, latents = defense.projectors["exact"].descend(pixels, begin, -(-steps // part))
    rows = likely(projection.explain(defense.draw, latents, targets)[1], model.restarts)
    seen = accuracy.outputs(defense.generator, tf.gather(latents, rows).numpy())
    views = len(seen) // len(images)
    logits = accuracy.outputs(model.classifier, seen)
    lead = carlini_wagner.margin(tf.reshape(logits, (len(images), views, -1)), tf.constant(labels)).numpy()
    if threshold is not None:
        score = detection.feature_score(model.classifier, np.repeat(images, views, axis=0), seen)
        lead = np.maximum(lead, _LOGITS * np.log(score.reshape(lead.shape) / threshold + 1e-12))
    rank = 0.5 / (1.0 + np.exp(np.clip(lead.mean(axis=1) / _LOGITS, -30.0, 30.0)))
    return (lead < 0.0).mean(axis=1) + rank / views, (tf.reshape(latents, begin.shape) - begin).numpy()
