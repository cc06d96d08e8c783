"""Bounded attacks on the whole defence: PGD through BPDA over the defence's random starts, alone or against a detector.

Athalye et al. (2018): the projection's gradient is taken as the identity, its randomness is averaged over (EOT).
Tramer et al. (2020): whoever attacks a defence with a detector attacks both at once.
"""

import functools

import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.attacks import attacker, bounded, carlini_wagner
from invgan_tf.defenses import Defended, InvGAN
from invgan_tf.defenses.defended import straight_through
from invgan_tf.evaluation import accuracy

_CONFIDENCE = 6.0  # a warm projection lags: fooled by this much, the cold one mostly is
_UNDER = 0.7  # part of the detector's threshold that the joint attack aims below
_WEIGHTS = (2.0, 8.0, 0.5)  # of the detector in the joint loss, one restart after the other
_START_SHARE = 4  # a restart begins from the clean image projected with this part of the steps


def bpda_pgd(
    model: Defended,
    images,
    *,
    eps: float,
    norm: str = "inf",
    steps: int = 100,
    restarts: int = 2,
    inner_steps: int = 10,
    draws: int = 2,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    indices=None,
    seed: int = 0,
) -> np.ndarray:
    """PGD on f(projection(x)) inside a ball, the projection's gradient taken as the identity.

    The loss is the label's margin, averaged over the likely half of the defence's restarts under several seeds of the
    attacker's. The projection goes on warm from step to step. After each restart the result is projected cold, with
    all of the model's steps and restarts, under a seed of the attacker's; who is fooled by all likely restarts then is
    done, the others start again at a random point, against other seeds.

    Args:
        model: the classifier behind its defence. Its seed is replaced by the attacker's.
        images: `[n, h, w, c]`, floating, in `value_range`.
        eps, norm: radius of the ball, and "inf" or "2".
        steps: of PGD, a restart.
        restarts: of PGD, at most.
        inner_steps: steps of Eq. 6 that each step of PGD makes, shared by the defence's restarts (each makes one at
            least).
        draws: seeds of the defence's random starts that the loss averages over; InvGAN has no such starts.
        labels: labels to move away from, `[n]`; by default the defended model's own predictions.
        value_range: lowest and highest pixel.
        indices: the images' numbers, as for `Defense.project`.
        seed: the attacker's key; no evaluator's seed below 2^31 draws the same starts.

    Returns:
        Attacked images, float32, same shape, inside ball and range: of the restarts' results that which fools the
        largest share of the cold likely restarts.

    Raises:
        ValueError: for a model that is not `Defended`, or images, labels or settings that do not fit.
    """
    options = (eps, norm, steps, restarts, inner_steps, draws)
    return _attack(model, images, labels, indices, seed, value_range, options, None)


def evade_detector(
    model: Defended,
    images,
    *,
    threshold: float,
    eps: float,
    norm: str = "inf",
    steps: int = 100,
    restarts: int = 3,
    inner_steps: int = 10,
    draws: int = 2,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    indices=None,
    seed: int = 0,
) -> np.ndarray:
    """`bpda_pgd` that also keeps Eq. 7's score under a detector's threshold: one loss of both.

    The score's part is the logarithm of its ratio to the threshold; how much it weighs changes with every restart.

    Args:
        model: as for `bpda_pgd`; its classifier has `features`, as `load_classifier` gives it.
        threshold: of `AttackDetector`, positive.
        images, eps, norm, steps, restarts, inner_steps, draws, labels, value_range, indices, seed: as for `bpda_pgd`.

    Returns:
        Attacked images, as `bpda_pgd` gives them; to fool here is to fool the classifier and to pass the detector.
    """
    if not hasattr(getattr(model, "classifier", None), "features"):
        raise ValueError(
            "The joint attack needs a classifier with features(images): the detector's score compares those."
        )
    threshold = validation.check_positive("threshold", threshold)
    options = (eps, norm, steps, restarts, inner_steps, draws)
    return _attack(model, images, labels, indices, seed, value_range, options, threshold)


def _attack(model, images, labels, indices, seed, value_range, options, threshold):
    eps, norm, steps, restarts, inner_steps, draws = options
    eps, norm = bounded.check_ball(eps, norm)
    for name, count in (("steps", steps), ("restarts", restarts), ("inner_steps", inner_steps), ("draws", draws)):
        validation.check_count(name, count, 1)
    attacked, images, labels, indices = attacker.prepare(model, images, labels, indices, seed, value_range)
    draws = 1 if isinstance(attacked.defense, InvGAN) else draws  # its start is not random
    inner_steps = max(1, inner_steps // attacked.restarts)
    walk = _walk(attacked, norm, tuple(value_range), inner_steps, draws, threshold)
    result, held, lowest = np.array(images), np.full(len(images), -1.0), np.full(len(images), np.inf)
    for restart in range(restarts):
        left = held < 1.0
        if not left.any():
            break
        key = attacked.seed + restart * (draws + 1)  # the last of them is for the cold look
        begin = tf.constant(images)
        if restart:
            begin = bounded.random_point(images, eps, norm, tuple(value_range), (seed, restart))
        weight = tf.constant(_WEIGHTS[restart % len(_WEIGHTS)])
        state = _begin(attacked, images[left], indices[left], key, draws, weight)
        found, loss = walk(images[left], labels[left], tf.boolean_mask(begin, left), state, eps, steps)
        share = _cold_share(attacked, found, labels[left], indices[left], key + draws, threshold)
        better = (share > held[left]) | ((share == held[left]) & (loss < lowest[left]))
        rows = np.flatnonzero(left)[better]
        result[rows], held[rows], lowest[rows] = found[better], share[better], loss[better]
    return result


def _starts(defense, pixels, numbers, restarts, seed, draws):
    """Returns starts under `draws` seeds, `[n, draws * restarts, latent_dim]`."""
    return tf.concat([defense.starts(pixels, numbers, restarts, seed + i) for i in range(draws)], axis=1)


def _begin(model, images, numbers, key, draws, weight):
    """Returns the loop's state: the clean images projected for a while."""
    defense, images, numbers = model.defense, tf.constant(images), tf.constant(numbers)
    starts = _starts(defense, images, numbers, model.restarts, tf.constant(key, tf.int64), draws)
    own = model.steps if model.projector == "exact" else defense.steps
    _, latents = defense.projectors["exact"].descend(images, starts, own // _START_SHARE)
    offset = latents - tf.reshape(starts, latents.shape)
    slots = defense.optimizer.slots(latents)
    return numbers, tf.constant(key, tf.int64), weight, offset, slots, tf.constant(0)


def _likely(defense, targets, latents, restarts):
    """Returns the rows of each image's restarts whose loss is in the better half: those the defence may come to."""
    loss = tf.reshape(projection.explain(defense.draw, latents, targets)[1], (-1, restarts))
    _, likely = tf.math.top_k(-loss, (restarts + 1) // 2)
    return tf.reshape(likely + restarts * tf.range(tf.shape(loss)[0])[:, None], [-1])


def _score(classifier, pixels, seen, views):
    """Returns Eq. 7's score of every view, `[n * views]`."""
    moved = tf.repeat(classifier.features(pixels, training=False), views, axis=0)
    moved -= classifier.features(seen, training=False)
    return tf.reduce_mean(tf.square(tf.reshape(moved, (tf.shape(seen)[0], -1))), axis=1)


@functools.lru_cache(maxsize=16)
def _walk(model, norm, value_range, inner_steps, draws, threshold):
    """The loop. Its state: the images' numbers, key, the detector's weight, and where the warm descents stand."""
    defense, restarts = model.defense, model.restarts
    views = draws * ((restarts + 1) // 2)

    def objective(pixels, labels, state):
        numbers, key, weight, offset, slots, step = state
        still = tf.stop_gradient(pixels)
        targets, stop = tf.repeat(still, draws * restarts, axis=0), step + inner_steps
        starts = tf.reshape(_starts(defense, still, numbers, restarts, key, draws), (-1, defense.latent_dim))
        latents, slots = projection.descend(
            defense.draw, defense.optimizer, targets, starts + offset, slots, step, stop
        )
        kept = tf.gather(latents, _likely(defense, targets, latents, restarts))
        drawn = tf.stop_gradient(defense.draw(kept))
        seen = straight_through(tf.repeat(pixels, views, axis=0), drawn)
        logits = model.classifier(seen, training=False)
        margin = carlini_wagner.margin(tf.reshape(logits, (-1, views, logits.shape[1])), labels)
        loss = tf.nn.relu(margin + _CONFIDENCE)
        if threshold is not None:
            # The slope of a distance to what is nearest: the projection held still. As the identity it would cancel.
            ratio = _score(model.classifier, pixels, drawn, views) / (_UNDER * threshold)
            loss += weight * tf.nn.relu(tf.math.log(tf.reshape(ratio, (-1, views)) + 1e-6))
        return tf.reduce_mean(loss, axis=1), (numbers, key, weight, latents - starts, slots, stop)

    return bounded.Walk(objective, norm, value_range)


def _cold_share(model, pixels, labels, numbers, key, threshold):
    """Returns the share of the likely restarts that the images fool, projected cold: `[n]`."""
    defense, pixels = model.defense, tf.constant(pixels)
    starts = defense.starts(pixels, tf.constant(numbers), model.restarts, tf.constant(key, tf.int64))
    targets, latents = defense.projectors[model.projector].descend(pixels, starts, model.steps)
    latents = tf.gather(latents, _likely(defense, targets, latents, len(targets) // len(pixels)))
    views = len(latents) // len(pixels)
    seen = accuracy.outputs(defense.generator, latents.numpy())
    fooled = accuracy.predict(model.classifier, seen) != np.repeat(labels, views)
    if threshold is not None:
        fooled &= _score(model.classifier, pixels, tf.constant(seen), views).numpy() <= threshold
    return fooled.reshape(-1, views).mean(axis=1)
