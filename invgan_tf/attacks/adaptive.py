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
_TARGETS = 9  # classes towards which the attack may begin, the likeliest first
_SCREENED = 4  # where to begin is chosen by projections of this part of the defence's steps


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

    The attack begins at the best of the points to which one step on the bare classifier leads (FGSM): away from the
    label, and towards every other class (nine at most). It and the result of every round are projected cold, with all
    of the model's steps and restarts, each round under a new seed of the attacker's. Who fools all likely restarts then
    is done; the others go another round from their best.

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
        Attacked images, float32, same shape, inside ball and range: of where it began and the rounds' results that
        which fools the largest share of the cold likely restarts, and by the lowest margin.

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
    random = not isinstance(attacked.defense, InvGAN)  # whose start follows the image
    draws = draws if random else 1
    inner_steps, value_range = max(1, inner_steps // attacked.restarts), tuple(value_range)

    def look(points, rows, key, part=1):
        return attacker.look(
            attacked, points, labels[rows], indices[rows], key, draws=draws, part=part, threshold=threshold
        )

    result, every = np.array(images), np.arange(len(images))
    if threshold is None:  # one long step would raise the detector's score: the joint attack begins at the images
        screen = functools.partial(look, rows=every, key=attacked.seed, part=_SCREENED)
        result = _first_points(attacked.classifier, images, labels, (eps, norm, value_range), screen)
    won, offset = look(result, every, attacked.seed)
    for number in range(restarts):
        left = np.flatnonzero(won < 1.0)
        if not left.size:
            break
        key = attacked.seed + number * draws
        weight = tf.constant(_WEIGHTS[number % len(_WEIGHTS)])
        state = _state(attacked.defense, indices[left], key, weight, offset[left])
        slope = _slopes(attacked.defense, products)[number % 2]
        walk = _walk(attacked, norm, value_range, inner_steps, draws, slope, threshold)
        found, _ = walk(images[left], labels[left], tf.constant(result[left]), state, eps, steps)
        reached, moved = look(found, left, key + draws)
        better = reached > won[left]
        rows = left[better]
        result[rows], won[rows], offset[rows] = found[better], reached[better], moved[better]
        again = left[~better]
        if random and again.size and number + 1 < restarts:  # his best point, under the new seeds
            offset[again] = look(result[again], again, key + draws)[1]
    return result


def _first_points(classifier, images, labels, ball, screen):
    """Returns where to begin: one long step on the bare classifier moves a projection most.

    It goes away from the label or towards a class; which, short projections tell.
    """
    eps, norm, value_range = ball
    pixels, best = tf.constant(images), np.full(len(images), -1.0)
    others = np.argsort(-accuracy.outputs(classifier, images), axis=1)
    others = others[others != labels[:, None]].reshape(len(labels), -1)[:, :_TARGETS]
    result = np.array(images)
    for sign, classes in [(1.0, labels), *((-1.0, column) for column in others.T)]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pixels)
            loss = gradient.cross_entropy(tf.constant(classes, tf.int32), classifier(pixels, training=False))
        slope = tape.gradient(loss, pixels)
        step = tf.sign(slope) if norm == "inf" else slope / bounded.lengths(slope)
        points = bounded.into_ball(pixels + sign * eps * step, pixels, eps, norm, value_range).numpy()
        won, _ = screen(points)
        better = won > best
        result[better], best[better] = points[better], won[better]
    return result


def _slopes(defense, products):
    """Returns the gradients that rounds take in turn: products of the tangent's, 0 the identity's, None the start's.

    Where the start follows the image, as I(x) does, a descent also ends elsewhere because it begins elsewhere: the
    offset from the start is held, and the gradient goes through G and the inverter.
    """
    return (products, None) if isinstance(defense, InvGAN) else (products, 0)


def _state(defense, numbers, key, weight, offset):
    """Returns the walk's state; `offset` is how far the lanes' descents came from their starts."""
    offset = tf.reshape(tf.constant(offset), (-1, defense.latent_dim))
    slots = defense.optimizer.slots(offset)
    return tf.constant(numbers), tf.constant(key, tf.int64), weight, offset, slots, tf.constant(0)


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
        moving = attacker.starts(defense, pixels, numbers, restarts, key, draws)
        moving, draw = tf.reshape(moving, (-1, defense.latent_dim)), defense.draw
        starts = tf.stop_gradient(moving)
        latents, slots = projection.descend(draw, defense.optimizer, targets, starts + offset, slots, step, stop)
        offset = tf.stop_gradient(latents - starts)
        likely = attacker.likely(projection.explain(draw, latents, targets)[1], restarts)

        def surprise(pixels, drawn):  # what the detector's score is above what the attack aims at
            ratio = _score(model.classifier, pixels, drawn, views) / (_UNDER * threshold)
            return weight * tf.reduce_mean(tf.nn.relu(tf.math.log(tf.reshape(ratio, (-1, views)) + 1e-6)), axis=1)

        def objective_of(drawn, pixels):
            logits = model.classifier(drawn, training=False)
            margin = carlini_wagner.margin(tf.reshape(logits, (-1, views, logits.shape[1])), labels)
            loss = tf.reduce_mean(tf.nn.relu(margin + _WARM_CONFIDENCE), axis=1)
            return loss if threshold is None else loss + surprise(pixels, drawn)

        if slope is None:
            loss = objective_of(draw(tf.gather(moving + offset, likely)), pixels)
        else:
            kept = tf.stop_gradient(tf.gather(latents, likely))
            drawn, loss, change = tangent.slope(draw, kept, lambda drawn: objective_of(drawn, still), slope)
            # Terms that are zero and whose gradients are slopes: what each view would have the pixels do, and what the
            # pixels themselves do to the score.
            change = tf.reduce_sum(tf.reshape(change, (-1, views, *pixels.shape[1:])), axis=1)
            loss += tf.reduce_sum((pixels - still) * change, axis=[1, 2, 3])
            if threshold is not None:
                own = surprise(pixels, drawn)
                loss += own - tf.stop_gradient(own)
        return loss, (numbers, key, weight, offset, slots, stop)

    return bounded.Walk(objective, norm, value_range)
