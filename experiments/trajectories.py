"""Where every restart of a defence came by, and what the classifier said there: kept like any other cell."""

import time

import keras
import numpy as np

from experiments import cells
from invgan_tf import defenses
from invgan_tf.evaluation import accuracy


def follow(
    store: cells.CellStore,
    classifier: keras.Model,
    defense: defenses.Defense,
    images: np.ndarray,
    numbers: np.ndarray,
    marks: list[int],
    restarts: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Follows all restarts of the exact projector.

    Args:
        store: where the answer is looked for, and kept.
        classifier, defense: what projects, and what judges the projections.
        images, numbers: `[n, h, w, c]`, and the images' numbers, which with the seed fix the starts.
        marks: the numbers of steps to tell of, rising.
        restarts, seed: as for `Defense.trajectory`.

    Returns:
        `loss` and predicted `label`, `[marks, n, restarts]`, and the seconds that following took, `spent`.
    """
    key = {
        "classifier": cells.fingerprint(classifier),
        "networks": {part: cells.fingerprint(getattr(defense, part)) for part in defense.parts},
        "optimizer": repr(defense.optimizer),
        "dtype": defense.dtype,
        "marks": marks,
        "restarts": restarts,
        "seed": seed,
        "images": cells.fingerprint(images),
        "indices": numbers.tolist(),
    }

    def compute():
        began = time.perf_counter()
        path = defense.trajectory(images, marks, restarts=restarts, seed=seed, indices=numbers)
        spent = np.float64(time.perf_counter() - began)
        drawn = accuracy.outputs(defense.generator, path.latents.reshape(-1, defense.latent_dim))
        label = accuracy.predict(classifier, drawn).reshape(path.loss.shape)
        return {"loss": path.loss, "label": label, "spent": spent}

    return store.get("trajectory", key, compute)[0]
