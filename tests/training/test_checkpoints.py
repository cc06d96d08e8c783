"""Checkpoints: the newest whole one is gone on from, a damaged one is named, a full disk costs nothing."""

import resource

import numpy as np
import pytest
import tensorflow as tf

from invgan_tf import files
from invgan_tf.training import checkpoints


class _State:
    """A variable that is saved under each step with the step as its value."""

    def __init__(self, folder, size=100, steps=()):
        self.variable = tf.Variable(np.zeros(size, np.float32))
        self.checkpoints = checkpoints.Checkpoints(tf.train.Checkpoint(variable=self.variable), folder)
        for step in steps:
            self.save(step)

    def save(self, step):
        self.variable.assign(tf.fill(self.variable.shape, float(step)))
        self.checkpoints.save(step)

    @property
    def value(self):
        (value,) = set(self.variable.numpy())
        return value


def _steps(folder):
    return sorted(int(path.name.removeprefix("ckpt-")) for path in folder.iterdir())


def test_the_last_three_are_kept_and_the_newest_is_read(tmp_path):
    _State(tmp_path, steps=[4, 8, 12, 16])
    assert _steps(tmp_path) == [8, 12, 16]
    state = _State(tmp_path)
    assert (state.checkpoints.restore(), state.value) == (16, 16.0)


def test_nothing_there_is_no_error(tmp_path):
    assert _State(tmp_path / "nothing").checkpoints.restore() is None


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _flip, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["state.index", "state.data-00000-of-00001", "checksums.json"])
def test_a_damaged_one_is_named_and_the_one_before_it_read(tmp_path, damage, name, caplog):
    _State(tmp_path, steps=[4, 8, 12])
    damage(tmp_path / "ckpt-12" / name)
    state = _State(tmp_path)
    assert (state.checkpoints.restore(), state.value) == (8, 8.0)
    assert f"{tmp_path / 'ckpt-12'} is damaged" in caplog.text and name in caplog.text
    state.save(10)  # it pushes out no whole one
    assert _steps(tmp_path) == [4, 8, 10]
    state.save(12)
    assert _State(tmp_path).checkpoints.restore() == 12


def test_if_none_is_whole_the_run_does_not_begin_anew_unasked(tmp_path):
    _State(tmp_path, steps=[4, 8])
    for step in (4, 8):
        _flip(tmp_path / f"ckpt-{step}" / "state.index")
    with pytest.raises(checkpoints.CheckpointError, match=r"All checkpoints in .* are damaged; remove that folder"):
        _State(tmp_path).checkpoints.restore()


def test_checkpoints_without_checksums_are_not_passed_over(tmp_path):
    variable = tf.Variable(1.0)
    tf.train.CheckpointManager(tf.train.Checkpoint(variable=variable), str(tmp_path), 3).save()
    with pytest.raises(checkpoints.CheckpointError, match="without checksums"):
        _State(tmp_path).checkpoints.restore()


def test_another_trainings_state_is_refused(tmp_path):
    _State(tmp_path, steps=[4])
    with pytest.raises(checkpoints.CheckpointError, match="another training's state"):
        _State(tmp_path, size=7).checkpoints.restore()


def test_a_full_disk_is_named_and_the_earlier_ones_stay(tmp_path):
    state = _State(tmp_path, size=100_000, steps=[4])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # of the 400,000 bytes needed
    try:
        with pytest.raises(files.WriteError, match=r"ckpt-8 could not be written: .*File too large"):
            state.save(8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _steps(tmp_path) == [4]
    again = _State(tmp_path, size=100_000)
    assert (again.checkpoints.restore(), again.value) == (4, 4.0)


def test_one_of_several_processes_writes(tmp_path):
    other = _State(tmp_path)
    other.checkpoints.chief = False
    other.save(4)
    assert not list(tmp_path.iterdir())
