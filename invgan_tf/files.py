"""Writing files that are whole or not there."""

import contextlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a name beside `path` to write to; synced and renamed at the end, removed if the writing fails."""
    path = pathlib.Path(path)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content) -> None:
    """Writes JSON, whole or not at all; ValueError for a number JSON does not have."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
