"""What is dear to compute, computed once and kept: attacked images, projections, predictions.

Everything is kept in small blocks of images. A block is keyed by all that made it, so that a changed
weight, argument or image can never meet an old result; a result of another key is another file.
"""

import functools
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
from absl import logging

import invgan_tf
from invgan_tf import files

_COMPUTING = ("inference.py", "trajectories.py")  # of this folder: what they compute is in cells


class CellStore:
    """A folder of npz files, one a block of images, each named and guarded by its key.

    Args:
        folder: where the files lie; made if it is not there.
        context: what determines every result besides its key, as JSON can write it; the library's version and
            the sources of what computes are added.
    """

    def __init__(self, folder: str | os.PathLike, context: Mapping | None = None):
        self.context = {"version": invgan_tf.__version__, "sources": _sources(), **(context or {})}
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(
        self, kind: str, key: Mapping, compute: Callable[[], Mapping[str, np.ndarray]]
    ) -> tuple[dict[str, np.ndarray], float]:
        """Returns what `compute` gives for this key, from the folder if it is there.

        Args:
            kind: of result ("attack", "projection", ...); part of the file's name and of the key.
            key: all else that determines the result, as JSON can write it.
            compute: makes the arrays.

        Returns:
            The arrays, and the seconds it once took to make them.
        """
        added = {"kind": kind, **self.context}
        if set(added) & set(key):
            raise ValueError(f"A key may not hold any of {', '.join(added)}: they are added.")
        text = json.dumps({**added, **key}, sort_keys=True)
        path = self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
        stored = read(path, text)
        if stored is None:
            began = time.perf_counter()
            stored = dict(compute())
            stored["seconds"] = np.float64(time.perf_counter() - began)
            _write(path, {**stored, "key": np.array(text)})
        seconds = float(stored.pop("seconds"))
        return stored, seconds


@functools.cache
def _sources() -> str:
    """Returns the sha256 of the code that attacks, projects and classifies.

    A changed comment costs a computation; a result of older code would be a wrong number.
    """
    library, digest = pathlib.Path(invgan_tf.__file__).parent, hashlib.sha256()
    patterns = "attacks/*.py", "defenses/*.py", "evaluation/*.py", "models/*.py", "*projection.py", "folding.py"
    paths = [path for pattern in patterns for path in sorted(library.glob(pattern))]
    for path in (*paths, *(pathlib.Path(__file__).with_name(name) for name in _COMPUTING)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read(path: pathlib.Path, text: str) -> dict[str, np.ndarray] | None:
    """Returns a stored file's arrays, or None where it is absent, damaged or another key's than `text`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        return None
    except Exception:  # zip, zlib and header errors alike: a damaged file is computed anew
        arrays = {}
    if str(arrays.pop("sha256", "")) != _checksum(arrays):
        logging.warning("%s is damaged; it is computed anew.", path)
        return None
    return arrays if str(arrays.pop("key")) == text else None


def _write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, sha256=np.array(_checksum(arrays)), **arrays)


def _checksum(arrays):
    parts = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    kinds = {name: [str(array.dtype), array.shape, parts[name]] for name, array in arrays.items()}
    return hashlib.sha256(json.dumps(kinds, sort_keys=True).encode()).hexdigest()


def fingerprint(content: keras.Model | np.ndarray) -> str:
    """Returns the sha256 of a model's weights, with their paths, or of an array."""
    digest = hashlib.sha256()
    if isinstance(content, np.ndarray):
        digest.update(f"{content.shape}{content.dtype}".encode())
        digest.update(np.ascontiguousarray(content).tobytes())
        return digest.hexdigest()
    for weight in content.weights:
        digest.update(f"{weight.path}{weight.dtype}{tuple(weight.shape)}".encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return digest.hexdigest()
