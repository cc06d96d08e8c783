"""Files are whole or not there, tell when they are damaged, and a folder has one run."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import pytest

from invgan_tf import files

ROOT = pathlib.Path(__file__).parents[1]

_HOLD = "import sys; from invgan_tf import files; files.lock(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "card.json"
    files.write_json(path, {"a": [1, 2.5]})
    assert json.loads(path.read_text()) == {"a": [1, 2.5]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, 2.5]}
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failed_write_keeps_the_old_text_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "card.json"
    files.write_text(path, "old")

    def full_disk(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(files.os, failing, full_disk)
    with pytest.raises(files.WriteError, match=r"card.json could not be written: No space"):
        files.write_text(path, "new and longer")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]


def test_a_disk_that_takes_no_more_is_named(tmp_path):
    path = tmp_path / "card.json"
    files.write_text(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(files.WriteError, match=r"card.json could not be written: File too large"):
            files.write_text(path, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"


def test_names_are_synced_after_the_content(tmp_path, monkeypatch):
    synced, replaced, fsync, replace = [], [], os.fsync, os.replace

    def record(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def rename(source, target):
        replaced.append(list(synced))
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", record)
    monkeypatch.setattr(files.os, "replace", rename)
    with files.replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "content").write_text("text")
    assert replaced == [[str(temporary / "content"), str(temporary)]]
    assert synced[-1] == str(tmp_path)
    assert (tmp_path / "folder" / "content").read_text() == "text"


def test_a_sealed_object_comes_back_or_is_refused(tmp_path):
    path, content = tmp_path / "results.json", {"value": 0.93, "ci95": (0.89, 0.96), "complete": True, "nothing": None}
    files.write_sealed(path, content)
    whole = path.read_bytes()
    assert files.read_sealed(path) == {**content, "ci95": [0.89, 0.96]}
    detected = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:  # white space may change without changing the content
            assert files.read_sealed(path) == {**content, "ci95": [0.89, 0.96]}
        except files.DamagedError as error:
            assert "results.json is damaged" in str(error)
            detected += 1
    assert detected > 0.8 * len(whole)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"sha256": 1}', "[" * 100_000, "\udcff"])
def test_what_is_not_sealed_is_refused(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(files.DamagedError, match=r"results.json is damaged"):
        files.read_sealed(path)


@pytest.fixture
def holder(tmp_path):
    """Another process that has the folder."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_has_one_run_and_no_lock_outlives_its_process(tmp_path, holder):
    with pytest.raises(files.InUseError, match="is in use by another run"):
        files.lock(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert files.lock(tmp_path)
    assert not files.lock(tmp_path)  # this process has it
    files.unlock(tmp_path)


def test_what_a_killed_run_was_writing_is_swept_away(tmp_path):
    with files.replacing(tmp_path / "results.json") as temporary:
        (tmp_path / "cells").mkdir()
        left = [tmp_path / "cells" / temporary.name, tmp_path / temporary.name.replace("results", "other")]
        kept = [tmp_path / "mine.tmp", tmp_path / "cells" / "results.json"]
        for path in (*left, *kept):
            path.write_text("half")
        temporary.write_text("whole")
    files.lock(tmp_path)
    files.unlock(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
