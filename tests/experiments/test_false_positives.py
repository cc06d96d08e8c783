"""False positives: the threshold comes from one half, the share from the other."""

import numpy as np
import pytest

from experiments import false_positives
from invgan_tf import AttackDetector, Defended, InvGAN, data, presets


@pytest.fixture
def validation(monkeypatch):
    """The test images stand in for the validation split, which is not in the package."""
    load = data.load
    monkeypatch.setattr(data, "load", lambda name, split, **given: load(name, "test", limit=given["limit"]))
    return load("mnist", "test", limit=40)


def test_the_share_is_what_the_detector_flags(validation, run_program, preset, tmp_path):
    given = {"num_images": 40, "defenses": ["invgan"], "false_positive_rate": 0.2}
    results = run_program(false_positives, tmp_path, **given)
    defended = Defended(presets.load_classifier(preset, "A"), InvGAN.from_preset(preset, steps=3))
    detector = AttackDetector(defended)
    threshold = detector.calibrate(validation.images[:20], 0.2)
    (cell,) = results["cells"]
    assert cell["n"] == 20 and cell["value"] == pytest.approx(np.mean(detector.flag(validation.images[20:])))
    assert results["findings"][0]["threshold"] == pytest.approx(threshold, rel=1e-3)
    assert results["settings"]["split"] == "validation"


def test_where_shares_of_a_right_calibration_lie():
    rng, rate = np.random.default_rng(0), 0.05
    shares = []
    for _ in range(2000):
        scores = rng.random(400)
        shares.append(np.mean(scores[200:] > np.sort(scores[:200])[189]))
    low, high = false_positives._spread(200, 200, rate)
    assert 0.92 < np.mean([(low <= share <= high) for share in shares]) < 0.99


@pytest.mark.parametrize("values", [{"defenses": ["none"]}, {"num_images": 1}])
def test_nothing_to_calibrate_is_refused(refused, values):
    assert "must name a defence" in refused(false_positives, **values)
