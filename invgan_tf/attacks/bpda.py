"""BPDA (Athalye et al. 2018): Carlini-Wagner L2 on the whole defence, the projection's gradient taken as identity."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from invgan_tf import projection, validation
from invgan_tf.attacks import attacker, carlini_wagner
from invgan_tf.defenses import Defended
from invgan_tf.defenses.defended import straight_through

_SEEDS = 3  # of the attacker's, that a candidate must hold under where a projector drops restarts
_START_SHARE = 4  # the warm attack starts from the clean image projected with this part of the steps
_WARM_CONFIDENCE = 3.0  # a warm projection lags: fooled by this much, the cold one mostly is (tools.compare_bpda)
_SHORTEST = 0.6  # part of the warm attack's perturbation: it is halved from there to all of it,
_SHORTENINGS = 2  # this many times, each length projected cold: 0.7, 0.8, 0.9 or 1 is left
_SHORT_CONFIDENCE = 1.0  # a shortened one must win by this much, or the projection's rounding would decide


def _squared(difference):
    return tf.reduce_sum(tf.square(difference), axis=[1, 2, 3])


def _rule_steps(model):
    """Returns the steps that the search descends by the defence's own rule: the fast projector's are evaluations."""
    return model.steps if model.projector == "exact" else model.defense.steps


def _views(model, targets, latents, restarts):
    """Returns the logits of each image's likely restarts, `[n, views, classes]`."""
    projected, loss = projection.explain(model.defense.draw, latents, targets)
    rows = attacker.likely(loss, restarts)
    seen = straight_through(tf.gather(targets, rows), tf.gather(projected, rows))
    logits = model.classifier(seen, training=False)
    return tf.reshape(logits, (-1, (restarts + 1) // 2, logits.shape[1]))


@functools.lru_cache(maxsize=4)
def _search(model, settings, inner_steps, value_range):
    """The correct attack.

    Its state is the images' numbers and, of a warm search, how far the last iteration came from the
    defence's starts, with the optimiser's slots and step. InvGAN's starts follow the pixels.
    """
    defense, optimizer, restarts = model.defense, model.defense.optimizer, model.restarts

    def objective(w, images, state):
        numbers, warm = state[0], state[1:]
        pixels = carlini_wagner.to_pixels(w, value_range)
        targets = tf.stop_gradient(tf.repeat(pixels, restarts, axis=0))
        starts = defense.starts(tf.stop_gradient(pixels), numbers, restarts, model.seed)
        starts = tf.reshape(starts, (-1, defense.latent_dim))
        if warm:
            offset, slots, step = warm
            stop = step + inner_steps
        else:
            offset, slots, step, stop = 0.0, optimizer.slots(starts), tf.constant(0), tf.constant(_rule_steps(model))
        latents, slots = projection.descend(defense.draw, optimizer, targets, starts + offset, slots, step, stop)
        logits = _views(model, tf.repeat(pixels, restarts, axis=0), tf.stop_gradient(latents), restarts)
        state = (numbers, latents - starts, slots, stop) if warm else (numbers,)
        return logits, _squared(pixels - images), pixels, state

    return carlini_wagner.Search(objective, settings, value_range)


@functools.lru_cache(maxsize=4)
def _authors_search(model, settings, value_range):
    """The released attack: the projection r squashed to (tanh(r)+1)/2, the gradient from r straight to w.

    Its state is the images' numbers.
    """

    def objective(w, images, state):
        pixels = carlini_wagner.to_pixels(tf.stop_gradient(w), value_range)
        projected = model.projected(pixels, state)
        squashed = carlini_wagner.to_pixels(straight_through(w, projected), value_range)
        logits = model.classifier(squashed, training=False)
        return logits[:, None, :], _squared(squashed - images), pixels, state

    return carlini_wagner.Search(objective, settings, value_range)


def bpda(
    model: Defended,
    images,
    *,
    labels=None,
    binary_search_steps: int = 4,
    max_iterations: int = 100,
    learning_rate: float = 0.2,
    initial_const: float = 10.0,
    inner_steps: int | None = 8,
    value_range: tuple[float, float] = (0.0, 1.0),
    indices=None,
    seed: int = 0,
) -> np.ndarray:
    """Carlini-Wagner L2 on f(projection(x)), without a bound on the perturbation.

    The classifier sees the projection itself, the distance is the perturbation's, and the change of
    variables keeps its derivative. A candidate must fool the classifier from each of the better half of
    the restarts. After each round it is projected cold, with all of the model's steps and restarts; the
    least that fools the defence so is kept.

    Args:
        model: the classifier behind its defence. Its seed is replaced by the attacker's.
        images: `[n, h, w, c]`, floating, in `value_range`.
        labels: labels to move away from, `[n]`; by default the defended model's own predictions.
        binary_search_steps, max_iterations, learning_rate, initial_const: as for `carlini_wagner_l2`.
        inner_steps: steps of Eq. 6 an iteration makes, shared by the restarts (each makes one at least),
            going on as far from the defence's starts as the iteration before came (at first, a shorter
            projection of the clean image), and must be fooled by a margin, for it lags; what it finds is then
            shortened, projected cold at every length. None projects cold every time and shortens nothing.
        value_range: lowest and highest pixel.
        indices: the images' numbers, as for `Defense.project`.
        seed: the attacker's key of random starts; no evaluator's seed below 2^31 draws the same ones.

    Returns:
        Attacked images, float32, same shape, inside `value_range`: what fools the model cold under the
        attacker's seed; else what fooled it warm; else the clean image.

    Raises:
        ValueError: for a model that is not `Defended`, or images, labels or settings that do not fit.
    """
    settings = carlini_wagner.Settings(binary_search_steps, max_iterations, learning_rate, initial_const)
    attacked, images, labels, indices = attacker.prepare(model, images, labels, indices, seed, value_range)

    defense, restarts = attacked.defense, attacked.restarts
    # A projector that drops restarts shows too few of them: other seeds stand in.
    count = 1 if attacked.projector == "exact" or restarts == 1 else _SEEDS
    seeds, others = ([attacked.seed + first + i for i in range(count)] for first in (0, count))

    def descend(projector, targets, numbers, seed, steps):
        targets = tf.constant(targets)
        starts = defense.starts(targets, tf.constant(numbers), restarts, seed)
        return starts, *defense.projectors[projector].descend(targets, starts, steps)

    def verify(candidates, found, confidence=0.0, fresh=False):
        held = np.copy(found)
        for seed in others if fresh else seeds:
            if held.any():
                projector, steps = attacked.projector, attacked.steps
                _, targets, latents = descend(projector, candidates[held], indices[held], seed, steps)
                logits = _views(attacked, targets, latents, len(targets) // held.sum())
                held[held] = np.all(carlini_wagner.margin(logits, labels[held]) < -confidence, axis=1)
        return held

    state = (tf.constant(indices),)
    if inner_steps is not None:
        inner_steps = max(1, validation.check_count("inner_steps", inner_steps, 1) // restarts)
        settings = dataclasses.replace(settings, confidence=_WARM_CONFIDENCE)
        starts, _, latents = descend("exact", images, indices, attacked.seed, _rule_steps(attacked) // _START_SHARE)
        offset = latents - tf.reshape(starts, latents.shape)
        state = *state, offset, attacked.defense.optimizer.slots(latents), tf.constant(0)
    search = _search(attacked, settings, inner_steps, tuple(value_range))
    found = search(images, labels, lambda: state, verify)
    return found if inner_steps is None else _shortened(images, found, verify)


def _shortened(images, attacked, verify):
    """Returns the perturbations as short as a halving of their lengths finds them to hold.

    The warm search wins by a margin that the cold projection does not need. The seeds are others of the attacker's than
    those that chose the perturbation: under these its shortened forms hold more often than under one never seen.
    """
    low, high = np.full(len(images), _SHORTEST, np.float32), np.ones(len(images), np.float32)
    changed = np.any(images != attacked, axis=(1, 2, 3))

    def at(length):
        return images + length[:, None, None, None] * (attacked - images)

    for _ in range(_SHORTENINGS):
        middle = (low + high) / 2
        held = verify(at(middle), changed, _SHORT_CONFIDENCE, fresh=True)
        low, high = np.where(held, low, middle), np.where(held, middle, high)
    return np.where((high < 1)[:, None, None, None], at(high), attacked)


def bpda_authors(
    model: Defended,
    images,
    *,
    labels=None,
    binary_search_steps: int = 4,
    max_iterations: int = 100,
    learning_rate: float = 0.2,
    initial_const: float = 10.0,
    value_range: tuple[float, float] = (0.0, 1.0),
    indices=None,
    seed: int = 0,
) -> np.ndarray:
    """The attack of the paper's released code (section 4.2), kept to compare with the published BPDA figures.

    It squashes the projection r to (tanh(r)+1)/2 before the classifier and in the distance, skips the
    derivative of the change of variables, and never checks what the defence says of its result. Of the
    candidates it keeps the least in pixels. It
    projects cold in every iteration with the model's own steps and restarts: give it a `Defended`
    with fewer steps to cut its cost, and say so.

    Args:
        model, images, labels, value_range, indices, seed: as for `bpda`.
        binary_search_steps, max_iterations, learning_rate, initial_const: as for `bpda`.

    Returns:
        Attacked images `[n, h, w, c]`, float32, inside `value_range`.

    Raises:
        ValueError: as `bpda`.
    """
    settings = carlini_wagner.Settings(binary_search_steps, max_iterations, learning_rate, initial_const)
    attacked, images, labels, indices = attacker.prepare(model, images, labels, indices, seed, value_range)
    return _authors_search(attacked, settings, tuple(value_range))(images, labels, lambda: tf.constant(indices))
