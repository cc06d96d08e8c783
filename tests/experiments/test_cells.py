"""The cell store: never a stale or damaged result, never a half-written file."""

import json
import pathlib
import shutil

import numpy as np
import pytest

import invgan_tf
from experiments import cells
from invgan_tf import files, models

KEY = {"attack": "FGSM", "epsilon": 0.3, "indices": [0, 1, 2]}


class _Compute:
    """Counts its calls and returns arrays that tell which call made them."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"images": np.full((3, 2), self.calls, np.float32), "labels": np.arange(3, dtype=np.int32)}


@pytest.fixture
def compute():
    return _Compute()


@pytest.fixture
def store(tmp_path):
    return cells.CellStore(tmp_path / "cells" / "deep")


def _files(store):
    return sorted(store.folder.glob("*.npz"))


def test_stored_arrays_come_back_without_computing(store, compute):
    first, seconds = store.get("attack", KEY, compute)
    again, seconds_again = cells.CellStore(store.folder).get("attack", dict(reversed(KEY.items())), compute)
    assert compute.calls == 1
    assert seconds == seconds_again >= 0.0
    assert first.keys() == again.keys() == {"images", "labels"}
    for name in first:
        assert again[name].dtype == first[name].dtype
        np.testing.assert_array_equal(again[name], first[name])


@pytest.mark.parametrize(
    "change", [{"epsilon": 0.3000001}, {"indices": [0, 1, 3]}, {"indices": [0, 2, 1]}, {"new": None}]
)
def test_changed_key_recomputes(store, compute, change):
    store.get("attack", KEY, compute)
    arrays, _ = store.get("attack", {**KEY, **change}, compute)
    assert compute.calls == 2
    assert arrays["images"][0, 0] == 2
    assert store.get("attack", KEY, compute)[0]["images"][0, 0] == 1


def test_kind_is_part_of_the_key(store, compute):
    store.get("attack", KEY, compute)
    store.get("projection", KEY, compute)
    assert compute.calls == 2


def test_version_is_part_of_the_key(store, compute, monkeypatch):
    store.get("attack", KEY, compute)
    monkeypatch.setattr(invgan_tf, "__version__", "another")
    cells.CellStore(store.folder).get("attack", KEY, compute)
    assert compute.calls == 2


def test_code_that_computes_is_part_of_the_key(store, compute, monkeypatch, tmp_path):
    library = pathlib.Path(invgan_tf.__file__).parent
    shutil.copytree(library, tmp_path / "invgan_tf", ignore=shutil.ignore_patterns("embedded", "presets"))
    changed = tmp_path / "invgan_tf" / "attacks" / "bpda.py"
    monkeypatch.setattr(invgan_tf, "__file__", str(tmp_path / "invgan_tf" / "__init__.py"))
    store.get("attack", KEY, compute)
    for text in (changed.read_text(), changed.read_text() + "#"):
        changed.write_text(text)
        cells._sources.cache_clear()
        cells.CellStore(store.folder).get("attack", KEY, compute)
    cells._sources.cache_clear()
    assert compute.calls == 2


def test_context_is_part_of_the_key(store, compute):
    store.get("attack", KEY, compute)
    cells.CellStore(store.folder, {"deterministic": True}).get("attack", KEY, compute)
    assert compute.calls == 2
    with pytest.raises(ValueError, match="may not hold any of kind, version, sources"):
        store.get("attack", {"sources": ""}, compute)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def _flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"images.npy") + 150] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage", [_truncate, _flip_a_byte, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"no zip")]
)
def test_damaged_file_recomputes(store, compute, damage):
    store.get("attack", KEY, compute)
    damage(_files(store)[0])
    arrays, _ = store.get("attack", KEY, compute)
    assert compute.calls == 2
    np.testing.assert_array_equal(arrays["images"], np.full((3, 2), 2))
    store.get("attack", KEY, compute)
    assert compute.calls == 2


def test_every_flipped_byte_recomputes_or_changes_nothing(store, compute):
    store.get("attack", KEY, compute)
    (path,) = _files(store)
    whole, harmless = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        calls = compute.calls
        arrays, _ = store.get("attack", KEY, compute)
        harmless += compute.calls == calls
        np.testing.assert_array_equal(arrays["images"], np.full((3, 2), 1 if compute.calls == calls else compute.calls))
        path.write_bytes(whole)
    assert compute.calls > 1 + harmless  # dates and the like of the zip format may change


def test_file_of_another_key_recomputes(store, compute):
    store.get("attack", KEY, compute)
    (own,) = _files(store)
    store.get("attack", {**KEY, "epsilon": 0.1}, compute)
    (other,) = set(_files(store)) - {own}
    shutil.copy(other, own)
    arrays, _ = store.get("attack", KEY, compute)
    assert compute.calls == 3
    assert arrays["images"][0, 0] == 3


def test_file_without_a_key_recomputes(store, compute):
    store.get("attack", KEY, compute)
    np.savez(_files(store)[0], images=np.zeros(3), seconds=np.float64(0))
    store.get("attack", KEY, compute)
    assert compute.calls == 2


def test_failed_compute_leaves_no_file(store):
    def fail():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.get("attack", KEY, fail)
    assert not _files(store)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failed_write_leaves_no_file_under_the_final_name(store, compute, monkeypatch, failing):
    def full_disk(*args):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, failing, full_disk)
        with pytest.raises(OSError, match="No space"):
            store.get("attack", KEY, compute)
    assert not _files(store)
    store.get("attack", KEY, compute)
    assert compute.calls == 2
    assert len(_files(store)) == 1


def test_failed_write_keeps_the_other_cells(store, compute, monkeypatch):
    store.get("attack", KEY, compute)

    def half(file, **arrays):
        file.write(b"PK")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        with pytest.raises(OSError, match="No space"):
            store.get("attack", {**KEY, "epsilon": 0.1}, compute)
    store.get("attack", KEY, compute)
    assert compute.calls == 2


def test_writers_of_one_cell_do_not_disturb_each_other(store, compute, monkeypatch):
    sync = cells.os.fsync

    def meet_another_writer(descriptor):
        monkeypatch.setattr(cells.os, "fsync", sync)
        cells.CellStore(store.folder).get("attack", KEY, compute)
        sync(descriptor)

    monkeypatch.setattr(cells.os, "fsync", meet_another_writer)
    store.get("attack", KEY, compute)
    store.get("attack", KEY, compute)
    assert compute.calls == 2


def test_key_that_json_cannot_write_is_refused(store, compute):
    with pytest.raises(TypeError):
        store.get("attack", {"model": object()}, compute)
    assert compute.calls == 0


def test_nothing_is_unpickled(store, compute, tmp_path):
    store.get("attack", KEY, compute)
    (path,) = _files(store)
    with np.load(path) as file:
        text = str(file["key"])
    mark = tmp_path / "pickle_ran"
    bomb = np.empty(1, object)
    bomb[0] = _Bomb(mark)
    np.savez(path, images=bomb, seconds=np.float64(0), key=np.array(text))
    store.get("attack", KEY, compute)
    assert compute.calls == 2
    assert not mark.exists()


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_file_names_its_kind_and_holds_its_key(store, compute):
    store.get("attack", KEY, compute)
    (path,) = _files(store)
    assert path.name.startswith("attack-")
    with np.load(path, allow_pickle=False) as file:
        key = json.loads(str(file["key"]))
    assert key == {**KEY, "kind": "attack", "version": invgan_tf.__version__, "sources": cells._sources()}


def test_fingerprint_follows_every_weight():
    model = models.build_generator(width=4)
    seen = {cells.fingerprint(model)}
    assert cells.fingerprint(model) in seen
    for weight in model.weights:
        changed = weight.numpy()
        changed.flat[-1] += 1e-3
        weight.assign(changed)
        seen.add(cells.fingerprint(model))
    assert len(seen) == 1 + len(model.weights)


def test_fingerprint_is_of_the_weights_not_the_object():
    first, second = models.build_inverter(width=4), models.build_inverter(width=4)
    assert cells.fingerprint(first) != cells.fingerprint(second)
    second.set_weights(first.get_weights())
    assert cells.fingerprint(first) == cells.fingerprint(second)


def test_fingerprint_of_an_array_follows_values_shape_and_dtype():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    others = [array + 1, array.reshape(3, 2), array.astype(np.int64), array.view(np.uint32)]
    assert len({cells.fingerprint(other) for other in (array, *others)}) == 5
    assert cells.fingerprint(np.asfortranarray(array)) == cells.fingerprint(array)
