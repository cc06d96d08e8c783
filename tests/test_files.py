"""Files are whole or not there."""

import json

import pytest

from invgan_tf import files


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
    with pytest.raises(OSError, match="No space"):
        files.write_text(path, "new and longer")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]
