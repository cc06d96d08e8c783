"""What a schedule of restarts costs and answers, worked out by hand and against the projector that follows it."""

import numpy as np
import pytest

from benchmarks import restarts
from invgan_tf import DefenseGAN, fast_projection, projection

# Losses of one image, clean and attacked alike, at steps 0, 10, 20 and 30 (rows) of three restarts: the first leads
# early, the third wins late.
_LOSS = np.array([[9.0, 9.0, 9.0], [3.0, 5.0, 4.0], [2.5, 4.0, 1.5], [2.0, 0.1, 1.0]])


@pytest.mark.parametrize(
    ("marks", "kept", "cost", "loss"),
    [
        ((30,), (3,), 90, 0.1),
        ((10, 30), (3, 1), 50, 2.0),  # the early leader
        ((10, 20, 30), (3, 2, 1), 60, 1.0),  # the second restart is gone at 10, the first at 20
        ((20, 30), (3, 2), 80, 1.0),
    ],
)
def test_a_schedule_answers_and_costs_what_counting_by_hand_gives(marks, kept, cost, loss):
    stacked = np.stack([_LOSS, _LOSS])[:, :, None]
    path = restarts.Path(stacked, stacked == loss)
    schedule = restarts.Schedule(marks, kept)
    answer = schedule.answer(path, np.array([0]))
    assert schedule.image_steps() == cost
    np.testing.assert_array_equal(answer.loss, [[loss], [loss]])
    assert answer.correct.all()


def test_a_schedule_answers_what_the_fast_projector_finds(digits):
    """The projector ranks restarts by the loss before its last step; on these images the one after ranks them alike."""
    defense, images = DefenseGAN.from_preset("mnist", restarts=3), digits.images[:2]
    path = defense.trajectory(images, [0, 10, 20, 30])
    stages = [fast_projection.Stage(20, scouting=True), fast_projection.Stage(10, 1 / 3, scouting=True)]
    fast = fast_projection.FastProjector(defense.generator, stages, projection.Momentum())
    defense.projectors["tried"] = fast
    loss = np.stack([path.loss, path.loss])
    schedule = restarts.Schedule((20, 30), (3, 1))
    expected = schedule.answer(restarts.Path(loss, loss > 0), np.arange(2)).loss[0]
    np.testing.assert_allclose(defense.project(images, projector="tried").loss, expected, rtol=1e-3)
    assert fast.image_steps(3) == schedule.image_steps()
