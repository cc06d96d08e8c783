"""What a run tells: environment, table on the terminal, results.json, Markdown, TensorBoard."""

import os
import platform
import subprocess


def environment() -> dict[str, str | int]:
    """Returns what a number depends on besides its flags: versions, processor, commit."""
    import keras
    import tensorflow as tf

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "device": "GPU" if tf.config.list_physical_devices("GPU") else "CPU",
        "cores": len(os.sched_getaffinity(0)),
        "commit": commit.stdout.strip() or "unknown",
    }
