"""The latent-space attack (Athalye et al. 2018; Jalal et al. 2017): an adversarial image near the generator's own.

What the generator can draw, a projection keeps. So the attack searches latents whose image the classifier gets wrong
and that lie in the ball around the attacked image; what is outside is moved to the ball's nearest point, and penalised.
"""

import functools

import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.attacks import attacker, bounded, carlini_wagner
from invgan_tf.defenses import Defended

_CONFIDENCE = 2.0  # descent from the moved image comes back to a latent near by: it must be wrong there too
_CHUNK = 50  # steps in one compiled call
_NOISE = 0.3  # of a restart's start, in latents of N(0, I)
_SCREENED = 4  # which penalty's find is kept, projections of this part of the defence's steps tell


def latent_space(
    model: Defended,
    images,
    *,
    eps: float,
    norm: str = "inf",
    steps: int = 300,
    penalties: tuple[float, ...] = (10.0, 100.0, 1000.0, 10000.0),
    learning_rate: float = 0.03,
    labels=None,
    value_range: tuple[float, float] = (0.0, 1.0),
    indices=None,
    seed: int = 0,
) -> np.ndarray:
    """Searches z so that f(G(z)) is wrong and the ball around x holds G(z).

    The loss is the margin of f(G(z)) plus a penalty times the squared distance, mean over pixels, of G(z) to its
    nearest point in the ball: what Eq. 6 would pay to explain that point by z. Adam descends it from the latents of
    the clean image, one restart for each penalty.

    Args:
        model: the classifier behind its defence; its generator is attacked. Its seed is replaced by the attacker's.
        images: `[n, h, w, c]`, floating, in `value_range`.
        eps, norm: radius of the ball, and "inf" or "2".
        steps: of each restart.
        penalties: one restart for each; the later ones start near the clean latents, not at them.
        learning_rate: of Adam, on latents.
        labels: labels to move away from, `[n]`; by default the defended model's own predictions.
        value_range: lowest and highest pixel.
        indices: the images' numbers, as for `Defense.project`.
        seed: the attacker's key of random starts.

    Returns:
        Attacked images, float32, same shape, inside ball and range. Each restart finds, of its latents whose image
        fools the classifier, that point of the ball which is nearest to its image, of equally near ones the last; the
        one that wins most where it is projected, under the attacker's seed, is kept; the clean image where none is
        found.

    Raises:
        ValueError: for a model that is not `Defended`, or images, labels or settings that do not fit.
    """
    eps, norm = bounded.check_ball(eps, norm)
    steps = validation.check_count("steps", steps, 1)
    if not isinstance(penalties, (tuple, list)) or not penalties:
        raise ValueError(f"penalties must be a tuple of positive numbers, got {penalties!r}.")
    penalties = tuple(validation.check_positive("penalties", penalty) for penalty in penalties)
    learning_rate = validation.check_positive("learning_rate", learning_rate)
    attacked, images, labels, indices = attacker.prepare(model, images, labels, indices, seed, value_range)
    clean = attacked.project(images, indices).latents
    search = _search(attacked, norm, tuple(value_range), float(learning_rate))
    result, best_won = np.array(images), np.full(len(images), -1.0)
    for number, penalty in enumerate(penalties):
        latents = tf.constant(clean)
        if number:
            latents += _NOISE * _noise(clean.shape[1], indices, seed, number)
        slots, best = projection.Adam().slots(latents), (tf.fill([len(images)], np.inf), tf.constant(images))
        for start in range(0, steps, _CHUNK):
            span = tf.constant(start), tf.constant(min(start + _CHUNK, steps))
            scale = tf.constant(penalty, tf.float32), tf.constant(eps, tf.float32)
            latents, slots, best = search(tf.constant(images), tf.constant(labels), latents, slots, best, *scale, *span)
        distance, found = best[0].numpy(), best[1].numpy()
        won, _ = attacker.look(attacked, found, labels, indices, attacked.seed, part=_SCREENED)
        better = np.isfinite(distance) & (won > best_won)
        result[better], best_won[better] = found[better], won[better]
    return result


def _noise(latent_dim, indices, seed, number):
    """Returns N(0, I) latents `[n, latent_dim]`; an image's depend on (seed, its number, the restart's) alone."""
    draws = [tf.random.stateless_normal((latent_dim,), (seed, (number << 32) + int(index))) for index in indices]
    return tf.stack(draws)


@functools.lru_cache(maxsize=8)
def _search(model, norm, value_range, learning_rate):
    adam = projection.Adam(learning_rate)

    @tf.function(reduce_retracing=True, autograph=False)
    def search(images, labels, latents, slots, best, penalty, eps, start, stop):
        draw = model.defense.draw

        def body(step, latents, slots, best):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(latents)
                drawn = tf.cast(draw(latents), tf.float32)
                point = bounded.into_ball(drawn, images, eps, norm, value_range)
                distance = tf.reduce_mean(tf.square(drawn - tf.stop_gradient(point)), axis=[1, 2, 3])
                margin = carlini_wagner.margin(model.classifier(drawn, training=False)[:, None, :], labels)[:, 0]
                loss = tf.reduce_sum(tf.nn.relu(margin + _CONFIDENCE) + penalty * distance)
            gradient = tape.gradient(loss, latents)
            # Of equally near ones, as all inside the ball are, the last: descent has widened its margin.
            better = (margin < -0.5 * _CONFIDENCE) & (distance <= best[0])
            best = tf.where(better, distance, best[0]), tf.where(better[:, None, None, None], point, best[1])
            offset, slots = adam.update(gradient, slots, step)
            return step + 1, latents + offset, slots, best

        return tf.while_loop(lambda step, *_: step < stop, body, (start, latents, slots, best), parallel_iterations=1)[
            1:
        ]

    return search
