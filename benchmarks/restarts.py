"""What a schedule that drops restarts would have answered, from what was seen of all of them."""

from typing import NamedTuple

import numpy as np

EVERY = 10  # steps between two looks at the restarts


class Path(NamedTuple):
    """What was seen of every restart: `[2, marks, n, restarts]`, clean and attacked."""

    loss: np.ndarray
    correct: np.ndarray


class Schedule(NamedTuple):
    """All restarts to the first mark, so many of them to the next, and so on; marks are of a restart's own steps."""

    marks: tuple[int, ...]
    kept: tuple[int, ...]

    def image_steps(self) -> int:
        """Returns what an image costs."""
        return sum(count * (stop - start) for count, start, stop in zip(self.kept, (0, *self.marks), self.marks))

    def answer(self, path: Path, rows: np.ndarray) -> Path:
        """Returns loss and correctness, `[2, n]`, of those images' last restart at the last mark."""
        loss, correct = (part[:, :, rows] for part in path)
        chosen = np.arange(loss.shape[-1])[None, None]
        for mark, count in zip(self.marks, (*self.kept[1:], 1)):
            seen = np.take_along_axis(loss[:, mark // EVERY], chosen, axis=-1)
            chosen = np.take_along_axis(chosen, np.argsort(seen, axis=-1)[..., :count], axis=-1)
        last = self.marks[-1] // EVERY
        return Path(*(np.take_along_axis(part[:, last], chosen, axis=-1)[..., 0] for part in (loss, correct)))
