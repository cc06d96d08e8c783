"""Bounded attacks on the whole defence: PGD through BPDA over the defence's random starts, alone or against a detector.

Athalye et al. (2018): the projection's gradient is replaced by that of something smooth, its randomness averaged over
(EOT). Tramer et al. (2020): whoever attacks a defence with a detector attacks both at once.
"""

import functools

import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.attacks import attacker, bounded, carlini_wagner, gradient, tangent
from invgan_tf.defenses import Defended, InvGAN
from invgan_tf.evaluation import accuracy

_WARM_CONFIDENCE = 6.0  # the attacker's projection lags: fooled by this much, the whole defence mostly is
_UNDER = 0.7  # part of the detector's threshold that the joint attack aims below
_WEIGHTS = (2.0, 8.0, 0.5)  # of the detector in the joint loss, one restart after the other
_TARGETS = 3  # classes towards which the attack may begin
_FAST_SHARE = 4  # before a fast projector the attacker looks with this part of the exact one's steps


def bpda_pgd(
    model: Defended,
    images,
    *,
    eps: float,
    norm: str = "inf",
    steps: int = 50,
    restarts: int = 2,
    inner_steps: int = 10,
    draws: int = 1,
    products: int = 6,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    indices=None,
    seed: int = 0,
) -> np.ndarray:
    """PGD on f(projection(x)) inside a ball.

    The loss is the label's margin, averaged over the likely half of the defence's restarts. The projection goes on warm
    from step to step. Backward it is taken as the projection onto the generator's tangent space, which is what it is
    to first order where it has converged; a signed step along the identity's gradient spends most of the ball on what
    the generator cannot draw and the projection removes. Every other round takes the gradient through the inverter
    and the generator, the way in between held (InvGAN), or the identity's.

    The attack begins at the best of four points to which one step on the bare classifier leads (FGSM). They and the
    result of every round are projected cold, with all of the model's steps and restarts, each round under a new seed
    of the attacker's. Who is fooled by all likely restarts then is done; the others go another round from their best.

    Args:
        model: the classifier behind its defence. Its seed is replaced by the attacker's.
        images: `[n, h, w, c]`, floating, in `value_range`.
        eps, norm: radius of the ball, and "inf" or "2".
        steps: of PGD, a round.
        restarts: rounds, at most.
        inner_steps: steps of Eq. 6 that each step of PGD makes, shared by the defence's restarts (each makes one at
            least).
        draws: seeds of the defence's random starts that a round's loss averages over; InvGAN has no such starts.
        products: iterations of conjugate gradients that find the tangent's part of a gradient; 0 takes the identity.
        labels: labels to move away from, `[n]`; by default the defended model's own predictions.
        value_range: lowest and highest pixel.
        indices: the images' numbers, as for `Defense.project`.
        seed: the attacker's key; no evaluator's seed below 2^31 draws the same starts.

    Returns:
        Attacked images, float32, same shape, inside ball and range: of the rounds' results that which fools the largest
        share of the cold likely restarts.

    Raises:
        ValueError: for a model that is not `Defended`, or images, labels or settings that do not fit.
    """
    options = (eps, norm, steps, restarts, inner_steps, draws, products)
    return _attack(model, images, labels, indices, seed, value_range, options, None)


def evade_detector(
    model: Defended,
    images,
    *,
    threshold: float,
    eps: float,
    norm: str = "inf",
    steps: int = 50,
    restarts: int = 3,
    inner_steps: int = 10,
    draws: int = 1,
    products: int = 6,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    indices=None,
    seed: int = 0,
) -> np.ndarray:
    """`bpda_pgd` that also keeps Eq. 7's score under a detector's threshold: one loss of both.

    The score's part is the logarithm of its ratio to the threshold, its weight another in every round; the attack
    begins at the image itself.

    Args:
        model: as for `bpda_pgd`; its classifier has `features`, as `load_classifier` gives it.
        threshold: of `AttackDetector`, positive.
        images, eps, norm, steps, restarts, inner_steps, draws, products, labels, value_range, indices, seed: as for
            `bpda_pgd`.

    Returns:
        Attacked images `[n, h, w, c]`, as `bpda_pgd` gives them; to fool here is to fool the classifier and to pass the
        detector.

    Raises:
        ValueError: as `bpda_pgd`.
    """
    if not hasattr(getattr(model, "classifier", None), "features"):
        raise ValueError(
            "The joint attack needs a classifier with features(images): the detector's score compares those."
        )
    threshold = validation.check_positive("threshold", threshold)
    options = (eps, norm, steps, restarts, inner_steps, draws, products)
    return _attack(model, images, labels, indices, seed, value_range, options, threshold)


def _attack(model, images, labels, indices, seed, value_range, options, threshold):
    eps, norm, steps, restarts, inner_steps, draws, products = options
    eps, norm = bounded.check_ball(eps, norm)
    for name, count in (("steps", steps), ("restarts", restarts), ("inner_steps", inner_steps), ("draws", draws)):
        validation.check_count(name, count, 1)
    validation.check_count("products", products, 0)
    attacked, images, labels, indices = attacker.prepare(model, images, labels, indices, seed, value_range)
    draws = 1 if isinstance(attacked.defense, InvGAN) else draws  # its start is not random
    inner_steps, value_range = max(1, inner_steps // attacked.restarts), tuple(value_range)
    result, held = np.array(images), np.full(len(images), -1.0)
    offset = np.zeros((len(images), draws * attacked.restarts, attacked.defense.latent_dim), np.float32)
    for points in _first_points(model.classifier, images, labels, eps, norm, value_range, threshold):
        left = np.flatnonzero(held < 1.0)
        if left.size:
            share, moved = _look(attacked, points[left], labels[left], indices[left], attacked.seed, draws, threshold)
            better = share > held[left]
            rows = left[better]
            result[rows], held[rows] = points[rows], share[better]
            offset[rows] = moved.reshape(len(left), *offset.shape[1:])[better]
    for number in range(restarts):
        left = np.flatnonzero(held < 1.0)
        if not left.size:
            break
        key = attacked.seed + number * draws
        weight = tf.constant(_WEIGHTS[number % len(_WEIGHTS)])
        state = _state(attacked.defense, indices[left], key, weight, offset[left])
        slope = _slopes(attacked.defense, products)[number % 2]
        walk = _walk(attacked, norm, value_range, inner_steps, draws, slope, threshold)
        found, _ = walk(images[left], labels[left], tf.constant(result[left]), state, eps, steps)
        share, moved = _look(attacked, found, labels[left], indices[left], key + draws, draws, threshold)
        better = share >= held[left]
        rows = left[better]
        result[rows], held[rows] = found[better], share[better]
        if number + 1 < restarts:  # who did not gain looks again at his best point under the new seeds
            offset[left] = moved.reshape(len(left), *offset.shape[1:])
            again = left[~better]
            if again.size:
                _, moved = _look(attacked, result[again], labels[again], indices[again], key + draws, draws, threshold)
                offset[again] = moved.reshape(len(again), *offset.shape[1:])
    return result


def _first_points(classifier, images, labels, eps, norm, value_range, threshold):
    """Yields where an attack may begin: one long step on the bare classifier moves a projection most.

    It goes away from the label, then towards each of the classes that the classifier finds most likely besides; the
    joint attack, whose score such a step would raise, begins at the images.
    """
    if threshold is not None:
        yield images
        return
    images = tf.constant(images)
    others = np.argsort(-accuracy.outputs(classifier, images.numpy()), axis=1)
    others = others[others != labels[:, None]].reshape(len(labels), -1)[:, :_TARGETS]
    for sign, classes in [(1.0, labels), *((-1.0, column) for column in others.T)]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            loss = gradient.cross_entropy(tf.constant(classes, tf.int32), classifier(images, training=False))
        slope = tape.gradient(loss, images)
        step = tf.sign(slope) if norm == "inf" else slope / bounded.lengths(slope)
        yield bounded.into_ball(images + sign * eps * step, images, eps, norm, value_range).numpy()


def _slopes(defense, products):
    """Returns the gradients that rounds take in turn: products of the tangent's, 0 the identity's, None the start's.

    Where the start follows the image, as I(x) does, a descent also ends elsewhere because it begins elsewhere: the
    offset from the start is held, and the gradient goes through G and the inverter.
    """
    return (products, None) if isinstance(defense, InvGAN) else (products, 0)


def _starts(defense, pixels, numbers, restarts, key, draws):
    """Returns starts under `draws` seeds, a lane each, `[n * draws * restarts, latent_dim]`."""
    starts = [defense.starts(pixels, numbers, restarts, key + i) for i in range(draws)]
    return tf.reshape(tf.concat(starts, axis=1), (-1, defense.latent_dim))


def _state(defense, numbers, key, weight, offset):
    """Returns the walk's state; `offset` is how far the lanes' descents came from their starts."""
    offset = tf.reshape(tf.constant(offset), (-1, defense.latent_dim))
    slots = defense.optimizer.slots(offset)
    return tf.constant(numbers), tf.constant(key, tf.int64), weight, offset, slots, tf.constant(0)


def _likely(defense, targets, latents, restarts):
    """Returns the rows of each image's restarts whose loss is in the better half: those the defence may come to."""
    return attacker.likely(projection.explain(defense.draw, latents, targets)[1], restarts)


def _score(classifier, pixels, seen, views):
    """Returns Eq. 7's score of every view, `[n * views]`."""
    moved = tf.repeat(classifier.features(pixels, training=False), views, axis=0)
    moved -= classifier.features(seen, training=False)
    return tf.reduce_mean(tf.square(tf.reshape(moved, (tf.shape(seen)[0], -1))), axis=1)


@functools.lru_cache(maxsize=16)
def _walk(model, norm, value_range, inner_steps, draws, slope, threshold):
    """The loop. Its state: the images' numbers, key, the detector's weight, and where the warm descents stand."""
    defense, restarts = model.defense, model.restarts
    views = draws * ((restarts + 1) // 2)

    def objective(pixels, labels, state):
        numbers, key, weight, offset, slots, step = state
        still = tf.stop_gradient(pixels)
        targets, stop = tf.repeat(still, draws * restarts, axis=0), step + inner_steps
        moving, draw = _starts(defense, pixels, numbers, restarts, key, draws), defense.draw
        starts = tf.stop_gradient(moving)
        latents, slots = projection.descend(draw, defense.optimizer, targets, starts + offset, slots, step, stop)
        offset = tf.stop_gradient(latents - starts)
        likely = _likely(defense, targets, latents, restarts)

        def hinge(drawn):
            logits = model.classifier(drawn, training=False)
            margin = carlini_wagner.margin(tf.reshape(logits, (-1, views, logits.shape[1])), labels)
            return tf.reduce_mean(tf.nn.relu(margin + _WARM_CONFIDENCE), axis=1)

        if slope is None:
            drawn = draw(tf.gather(moving + offset, likely))
            loss = hinge(drawn)
        else:
            drawn, loss, change = tangent.slope(draw, tf.stop_gradient(tf.gather(latents, likely)), hinge, slope)
            # A term that is zero and whose gradient is the slope: the sum of what each view would have the pixels do.
            change = tf.reduce_sum(tf.reshape(change, (-1, views, *pixels.shape[1:])), axis=1)
            loss += tf.reduce_sum((pixels - still) * change, axis=[1, 2, 3])
        if threshold is not None:
            # The slope of a distance to what is nearest: the projection held still.
            ratio = _score(model.classifier, pixels, tf.stop_gradient(drawn), views) / (_UNDER * threshold)
            logarithm = tf.math.log(tf.reshape(ratio, (-1, views)) + 1e-6)
            loss += weight * tf.reduce_mean(tf.nn.relu(logarithm), axis=1)
        return loss, (numbers, key, weight, offset, slots, stop)

    return bounded.Walk(objective, norm, value_range)


def _look(model, pixels, labels, numbers, key, draws, threshold):
    """Projects cold; returns the share of the likely restarts that the images fool, and how far the descents came."""
    defense, pixels = model.defense, tf.constant(pixels)
    key = tf.constant(key, tf.int64)
    starts = _starts(defense, pixels, tf.constant(numbers), model.restarts, key, draws)
    steps = model.steps if model.projector == "exact" else defense.steps // _FAST_SHARE
    lanes = tf.reshape(starts, (len(pixels), -1, defense.latent_dim))
    targets, latents = defense.projectors["exact"].descend(pixels, lanes, steps)
    kept = tf.gather(latents, _likely(defense, targets, latents, model.restarts))
    views = len(kept) // len(pixels)
    seen = accuracy.outputs(defense.generator, kept.numpy())
    fooled = accuracy.predict(model.classifier, seen) != np.repeat(labels, views)
    if threshold is not None:
        fooled &= _score(model.classifier, pixels, tf.constant(seen), views).numpy() <= threshold
    return fooled.reshape(-1, views).mean(axis=1), (latents - starts).numpy()
