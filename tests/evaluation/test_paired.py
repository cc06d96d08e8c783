"""What a paired comparison says of a claim."""

import pytest

from invgan_tf.evaluation.paired import Comparison


@pytest.mark.parametrize(
    ("difference", "ci95", "p", "better", "no_worse"),
    [
        (0.05, (0.02, 0.08), 0.001, "confirmed", "confirmed"),
        (-0.05, (-0.08, -0.02), 0.001, "refuted", "refuted"),
        (-0.004, (-0.007, -0.001), 0.01, "refuted", "refuted"),  # significantly less, however little
        (0.0, (-0.005, 0.005), 1.0, "undecided", "confirmed"),
        (0.0, (-0.03, 0.03), 1.0, "undecided", "undecided"),
        (0.01, (-0.01, 0.03), 0.2, "undecided", "undecided"),  # a lead of just the margin is not excluded
    ],
)
def test_verdict(difference, ci95, p, better, no_worse):
    given = Comparison(difference, ci95, p)
    assert given.verdict() == better
    assert given.verdict(margin=0.01) == no_worse
