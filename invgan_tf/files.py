"""Files that are whole or not there, that say when they are damaged, and folders with one run at a time."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator

_SEAL = "sha256"  # of everything else in a sealed JSON object
_held: dict[tuple[int, int], int] = {}  # folders this process has locked: device and inode to descriptor


class WriteError(OSError):
    """A file could not be written; the message names it and the reason. What was there before is untouched."""


class DamagedError(ValueError):
    """A file is not what was written; the message names it."""


class InUseError(RuntimeError):
    """Another run that is still going writes to the same folder."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a name beside `path` to write a file or a folder to; synced and renamed at the end, removed on failure.

    Raises:
        WriteError: if the disk is full or does not take it; what lay at `path` stays.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else []:
            sync(file)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)  # else a power failure may forget the name
    except OSError as error:
        raise WriteError(
            f"{path} could not be written: {error.strerror or error}. Nothing before it was lost."
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def sync(path: pathlib.Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content) -> None:
    """Writes JSON, whole or not at all; ValueError for a number JSON does not have."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_sealed(path: str | os.PathLike, content: dict) -> None:
    """Writes a JSON object with the checksum of its content, which `read_sealed` checks."""
    write_json(path, {**content, _SEAL: _seal(content)})


def read_sealed(path: str | os.PathLike) -> dict:
    """Returns what `write_sealed` wrote.

    Raises:
        OSError: if there is no such file.
        DamagedError: if it is not JSON, or not the content that its checksum was made of.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        found = content.pop(_SEAL)
        whole = found == _seal(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: it is not a JSON object with its checksum.") from error
    if not whole:
        raise DamagedError(f"{path} is damaged: its content does not fit its checksum.")
    return content


def _seal(content):
    # As it is read again: tuples are lists, keys are strings.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()


def checksum(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(folder: str | os.PathLike) -> bool:
    """Makes a folder if it is not there and keeps it for this process until `unlock`, or until the process ends.

    The system lets go of the lock of a process that is gone, so that none can be left behind. What an earlier run
    was writing when it was killed is removed.

    Returns:
        Whether the lock is new: False if this process had it before, or if the file system has no locks.

    Raises:
        InUseError: if another process that is still going has the folder.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    status = os.fstat(descriptor)
    identity = status.st_dev, status.st_ino
    if identity in _held:
        os.close(descriptor)
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InUseError(
            f"{folder} is in use by another run; wait for its end or choose another --output_dir."
        ) from error
    except OSError:  # a file system without locks
        os.close(descriptor)
        return False
    _held[identity] = descriptor
    for left in folder.rglob(f"*.{'[0-9a-f]' * 32}.tmp"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return True


def unlock(folder: str | os.PathLike) -> None:
    """Lets go of a folder that `lock` keeps for this process."""
    status = os.stat(folder)
    descriptor = _held.pop((status.st_dev, status.st_ino), None)
    if descriptor is not None:
        os.close(descriptor)
