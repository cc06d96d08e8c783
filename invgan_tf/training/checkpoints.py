"""A training's whole state on disk: the last three, each with the checksums of its files."""

import logging
import os
import pathlib
import re
import shutil

import tensorflow as tf

from invgan_tf import files

_SUMS, _STATE = "checksums.json", "state"
_KEPT = 3


class CheckpointError(ValueError):
    """Checkpoints that cannot be gone on from; the message names the folder and what to do."""


class Checkpoints:
    """Folders `ckpt-STEP`, each there whole or not at all.

    Args:
        checkpoint: what is saved.
        folder: where; made when something is saved.
        chief: whether this process's files are the ones that stay: one of those that train together.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, folder: str | os.PathLike, chief: bool = True):
        self.checkpoint, self.folder, self.chief = checkpoint, pathlib.Path(folder), chief
        self._damaged: list[pathlib.Path] = []
        self._newest: int | None = None  # step that this process has read or written

    def restore(self) -> int | None:
        """Reads the newest whole checkpoint and returns its step; None where there is none.

        A damaged one is named in a warning and the one before it read.

        Raises:
            CheckpointError: if all that are there are damaged, or of another kind of training.
        """
        found = self._found()
        for step in sorted(found, reverse=True):
            reason = damage(found[step])
            if reason:
                logging.getLogger("absl").warning("%s is damaged (%s); the one before it is used.", found[step], reason)
                self._damaged.append(found[step])
                continue
            try:
                self.checkpoint.read(str(found[step] / _STATE)).assert_existing_objects_matched()
            except (ValueError, AssertionError) as error:
                reason = str(error).splitlines()[0]
                raise CheckpointError(
                    f"{found[step]} holds another training's state ({reason}); choose another folder."
                ) from error
            self._newest = step
            return step
        if found:
            raise CheckpointError(
                f"All checkpoints in {self.folder} are damaged; remove that folder to train from the beginning."
            )
        if (self.folder / "checkpoint").is_file():
            raise CheckpointError(
                f"{self.folder} holds checkpoints without checksums, of an older version; finish with that version "
                "or choose another folder."
            )
        return None

    def save(self, step: int) -> None:
        """Writes the state under its step; then the oldest of four is removed.

        Raises:
            files.WriteError: if it could not be written; the earlier ones stay.
        """
        if step == self._newest or not self.chief:
            return
        target = self.folder / f"ckpt-{step}"
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)  # damaged, else this run would have gone on from it
        with files.replacing(target) as temporary:
            try:
                self.checkpoint.write(str(temporary / _STATE))
            except tf.errors.OpError as error:
                raise OSError(error.message.splitlines()[0]) from error
            sums = {path.name: files.checksum(path) for path in sorted(temporary.iterdir())}
            files.write_sealed(temporary / _SUMS, sums)
        self._newest = step
        found = self._found()
        old = [found[number] for number in sorted(found) if found[number] not in self._damaged][:-_KEPT]
        for path in [*old, *self._damaged]:
            shutil.rmtree(path, ignore_errors=True)
        self._damaged = []

    def _found(self):
        names = self.folder.glob("ckpt-*")
        return {int(path.name[5:]): path for path in names if re.fullmatch(r"ckpt-\d+", path.name)}


def damage(folder: pathlib.Path) -> str | None:
    """Returns what is wrong with a checkpoint's files, None where nothing is."""
    try:
        sums = files.read_sealed(folder / _SUMS)
        for name, wanted in sums.items():
            if files.checksum(folder / name) != wanted:
                return f"{name} does not fit its checksum"
    except (OSError, files.DamagedError) as error:
        return str(error)
    return None
