"""A faster way to the answer of Eq. 6: limited-memory BFGS, and restarts that leave as they fall behind.

Each image is a problem of 128 unknowns whose curvature first-order rules must guess. L-BFGS (Liu and Nocedal 1989)
learns it from the gradients it sees, at one image-step an evaluation: on the MNIST generator 140 evaluations reach
the loss that Adam reaches in 1,000. A full Jacobian would cost 128 image-steps before its first step.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from invgan_tf import folding, projection

_ARMIJO = 1e-4  # part of the decrease that the slope promises which a step must keep
_SLACK = 0.01  # of a loss in coarse arithmetic: a rise of so much may be rounding, and is not worth a trial
_SHRINK = (0.1, 0.5)  # bounds of a backtracking step, as parts of the one before
_FIRST_LENGTH = 0.1  # of the first step, in latents of N(0, I), which knows no curvature yet


class Memory(NamedTuple):
    """Where a search by L-BFGS stands; one row a lane.

    Attributes:
        point, gradient, loss: the best point accepted, `[n, latent_dim]` twice and `[n, 1]`; loss is infinite before
            the first evaluation.
        direction, length: of the trial under way, `[n, latent_dim]` and `[n, 1]`.
        moves, turns: differences of points and gradients, `[n, memory, latent_dim]`, the newest last.
        curvature: 1 / (move . turn), `[n, memory, 1]`; zero where nothing is remembered yet.
    """

    point: tf.Tensor
    gradient: tf.Tensor
    loss: tf.Tensor
    direction: tf.Tensor
    length: tf.Tensor
    moves: tf.Tensor
    turns: tf.Tensor
    curvature: tf.Tensor


def begin(latents: tf.Tensor, memory: int) -> Memory:
    """Returns a search that starts at `latents` and will remember `memory` moves."""
    count, latent_dim = tf.shape(latents)[0], latents.shape[1]
    zeros, past = tf.zeros_like(latents), tf.zeros((count, memory, latent_dim))
    return Memory(
        latents, zeros, tf.fill((count, 1), float("inf")), zeros, tf.ones((count, 1)), past, past, past[:, :, :1]
    )


def restate(search: Memory) -> Memory:
    """Returns the search back at its point, to be measured anew (in another precision), its memory kept."""
    return search._replace(loss=tf.fill(tf.shape(search.loss), float("inf")))


def evaluate(draw: projection.Draw, images: tf.Tensor, search: Memory, slack: float = 0.0) -> Memory:
    """Evaluates the trial of every lane once: accepts it and turns, or shortens it; a graph function.

    A trial that lowers the loss enough (Armijo's condition) becomes the point; else the next one is the minimum
    of the parabola through both losses and the slope. Lanes do not wait for each other.

    Args:
        draw: the generator in inference mode.
        images: targets, `[n, h, w, c]`.
        search: where it stands.
        slack: part of its loss by which a trial may miss the condition.
    """
    fresh = tf.math.is_inf(search.loss)
    trial = search.point + tf.where(fresh, 0.0, search.length * search.direction)
    loss, gradient = projection.slope(draw, trial, images)
    loss = loss[:, None]
    slope = _dot(search.gradient, search.direction)
    accepted = fresh | (loss <= (1.0 + slack) * search.loss + _ARMIJO * search.length * slope)

    move, turn = trial - search.point, gradient - search.gradient
    product = _dot(move, turn)
    learned = (accepted & ~fresh & (product > 1e-10))[:, None]
    remembered = [
        tf.where(learned, tf.concat([old[:, 1:], new[:, None]], axis=1), old)
        for old, new in (
            (search.moves, move),
            (search.turns, turn),
            (search.curvature, 1.0 / tf.where(product > 1e-10, product, 1.0)),
        )
    ]
    gradient = tf.where(accepted, gradient, search.gradient)
    parabola = -slope * search.length**2 / (2.0 * (loss - search.loss - slope * search.length) + 1e-30)
    shorter = tf.clip_by_value(parabola, _SHRINK[0] * search.length, _SHRINK[1] * search.length)
    return Memory(
        tf.where(accepted, trial, search.point),
        gradient,
        tf.where(accepted, loss, search.loss),
        tf.where(accepted, _direction(gradient, *remembered), search.direction),
        tf.where(accepted, 1.0, shorter),
        *remembered,
    )


def _dot(a, b):
    return tf.reduce_sum(a * b, axis=-1, keepdims=True)


def _direction(gradient, moves, turns, curvature):
    """The two-loop recursion: minus the inverse Hessian that the memory makes, times the gradient."""
    ages = list(zip(*(tf.unstack(part, axis=1) for part in (moves, turns, curvature))))
    steepest = -_FIRST_LENGTH * gradient / (tf.norm(gradient, axis=1, keepdims=True) + 1e-12)
    direction, weights = gradient, []
    for move, turn, inverse in reversed(ages):
        weights.append(inverse * _dot(move, direction))
        direction -= weights[-1] * turn
    _, turn, inverse = ages[-1]
    direction *= tf.math.divide_no_nan(1.0, inverse * _dot(turn, turn))
    for (move, turn, inverse), weight in zip(ages, reversed(weights)):
        direction += move * (weight - inverse * _dot(turn, direction))
    downhill = _dot(gradient, direction) > 0.0
    return tf.where(downhill, -direction, steepest)


class Scouting(NamedTuple):
    """Where a search by a first-order rule stands; one row a lane.

    Attributes:
        point: `[n, latent_dim]`.
        slots: the rule's memory.
        loss: of the point before its last step, which is known without another evaluation, `[n, 1]`.
    """

    point: tf.Tensor
    slots: tuple
    loss: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the search: so many evaluations of an image's best restarts.

    Attributes:
        steps: evaluations a restart.
        share: part of the restarts that take part, those of the lowest losses so far; one at least.
        precise: in float32, whatever the precision of the others.
        scouting: by the first-order rule; such stages come first.
    """

    steps: int
    share: float = 1.0
    precise: bool = False
    scouting: bool = False


class FastProjector(projection.Projector):
    """Minimises Eq. 6 in stages: successive halving of restarts, L-BFGS, coarse arithmetic first.

    Stages may scout by a first-order rule instead: L-BFGS heads for other minima, some of which fit an attack's noise
    and no digit.

    Args:
        generator: Keras model from latents to images.
        stages: what to do, in order.
        scout: the rule of the stages that scout.
        memory: moves that L-BFGS remembers.
        dtype: precision of the stages that are not precise.
    """

    def __init__(
        self,
        generator: keras.Model,
        stages: Sequence[Stage],
        scout: projection.Optimizer | None = None,
        memory: int = 40,
        dtype: str = "float32",
    ):
        super().__init__(generator, dtype)
        self.stages, self.scout, self.memory = tuple(stages), scout, memory

        def loop(body, start, stop, state):
            return tf.while_loop(
                lambda step, _: step < stop,
                lambda step, state: (step + 1, body(step, state)),
                (start, state),
                parallel_iterations=1,
            )[1]

        @tf.function(reduce_retracing=True, autograph=False)
        def advance(images, search, start, stop, precise: bool):
            coarse = dtype != "float32" and not precise
            draw, slack = folding.fold(generator, dtype if coarse else "float32"), _SLACK if coarse else 0.0
            return loop(lambda _, search: evaluate(draw, images, search, slack), start, stop, search)

        @tf.function(reduce_retracing=True, autograph=False)
        def look(images, scouting, start, stop, precise: bool):
            draw = folding.fold(generator, "float32" if precise else dtype)

            def body(step, scouting):
                loss, gradient = projection.slope(draw, scouting.point, images)
                offset, slots = scout.update(gradient, scouting.slots, step)
                return Scouting(scouting.point + offset, slots, loss[:, None])

            return loop(body, start, stop, scouting)

        self._advance, self._look = advance, look

    @property
    def steps(self) -> int:
        """Evaluations that an image's kept restart sees."""
        return sum(stage.steps for stage in self.stages)

    def plan(self, steps: int | None) -> list[Stage]:
        """Returns the stages of so many steps: cut short, or the last one made longer."""
        left = self.steps if steps is None else steps
        planned = []
        for stage in self.stages:
            planned.append(dataclasses.replace(stage, steps=min(stage.steps, left)))
            left -= planned[-1].steps
        planned[-1] = dataclasses.replace(planned[-1], steps=planned[-1].steps + left)
        return [stage for stage in planned if stage.steps]

    def block(self, restarts):
        # Full lanes on average: most steps are made by the few restarts that are left.
        return max(1, self.lanes * self.steps // self.image_steps(restarts))

    def __repr__(self):
        return f"FastProjector({self.stages!r}, scout={self.scout!r}, memory={self.memory})"

    def image_steps(self, restarts, steps=None):
        return sum(stage.steps * self._kept(stage, restarts) for stage in self.plan(steps))

    @staticmethod
    def _kept(stage, restarts):
        return max(1, round(stage.share * restarts))

    def made(self, steps):
        return self.steps if steps is None else steps

    def descend(self, images, starts, steps=None):
        count, all_restarts, latent_dim = starts.shape
        latents, plan = tf.reshape(starts, (-1, latent_dim)), self.plan(steps)
        scouted = bool(plan) and plan[0].scouting
        state = Scouting(latents, self.scout.slots(latents), latents[:, :1]) if scouted else begin(latents, self.memory)
        restarts, made, coarse = all_restarts, 0, self.dtype != "float32"
        for stage in plan:
            wanted = min(restarts, self._kept(stage, all_restarts))
            state, restarts = _best(state, restarts, wanted), wanted
            if isinstance(state, Scouting) and not stage.scouting:
                state = begin(state.point, self.memory)
            elif isinstance(state, Memory) and coarse and stage.precise:
                state = restate(state)
            coarse = coarse and not stage.precise
            targets, run = tf.repeat(images, restarts, axis=0), self._look if stage.scouting else self._advance
            for start, stop in self.chunks(count and count * restarts, stage.steps):
                state = run(targets, state, tf.constant(made + start), tf.constant(made + stop), stage.precise)
            made += stage.steps
        return tf.repeat(images, restarts, axis=0), state.point


def _best(state, restarts, kept):
    """Keeps the restarts of each image whose points have the lowest losses."""
    if kept == restarts:
        return state
    _, best = tf.math.top_k(-tf.reshape(state.loss, (-1, restarts)), kept)
    rows = tf.reshape(best + tf.range(tf.shape(best)[0])[:, None] * restarts, [-1])
    return tf.nest.map_structure(lambda part: tf.gather(part, rows), state)
