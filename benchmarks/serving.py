"""Latency of the SavedModel that `experiments.export` writes, against T: `python -m benchmarks.serving`."""

import os
import time

import numpy as np
import tabulate
import tensorflow as tf
from absl import flags

from experiments import common_flags, report
from invgan_tf import data, files, serving

flags.DEFINE_string("saved_model", None, "Folder that experiments.export wrote. Default: runs/export/mnist.")
flags.DEFINE_list("served_steps", ["0", "10", "50", "100", "200", "1000"], "T to measure.")
flags.DEFINE_list("served_batches", ["1", "16"], "Images in a request.")
flags.DEFINE_integer("requests", 20, "Requests timed of each kind, after a first one.", lower_bound=2)

FLAGS = flags.FLAGS


def main() -> None:
    """Times requests of every size at every T and writes a table."""
    saved = FLAGS.saved_model or os.path.join("runs", "export", "mnist")
    folder = FLAGS.output_dir or os.path.join("runs", "serving")
    if not tf.saved_model.contains_saved_model(saved):
        raise common_flags.FlagError(f"--saved_model={saved} holds no SavedModel: run experiments.export first.")
    try:
        steps, batches = ([int(text) for text in FLAGS[name].value] for name in ("served_steps", "served_batches"))
    except ValueError as error:
        raise common_flags.FlagError("--served_steps and --served_batches list whole numbers.") from error
    if min(steps) < 0 or min(batches) < 1:
        raise common_flags.FlagError("--served_steps must be at least 0, --served_batches at least 1.")
    loaded = tf.saved_model.load(saved)
    answer = loaded.signatures[serving.WITH_STEPS]
    images = data.load(FLAGS.dataset, "test", limit=max(batches)).images
    rows = [_measured(answer, images[:batch], count) for batch in batches for count in steps]
    headers = ["images", "T", "median ms", "95th percentile ms", "ms an image"]
    body = [
        [row["batch"], row["steps"], *(f"{row[name]:.1f}" for name in ("median_ms", "p95_ms", "ms_an_image"))]
        for row in rows
    ]
    table = tabulate.tabulate(body, headers=headers, tablefmt="github")
    os.makedirs(folder, exist_ok=True)
    told = {"rows": rows, "requests": FLAGS.requests, "saved_model": saved, "environment": report.environment()}
    files.write_json(os.path.join(folder, "results.json"), told)
    print(f"{table}\n\n{FLAGS.requests} requests each, one after the other. Written to {folder}/results.json.")


def _measured(answer, images, steps):
    request = {"images": tf.constant(images), "steps": tf.constant(steps)}
    seconds = []
    for _ in range(FLAGS.requests + 1):
        began = time.perf_counter()
        answer(**request)["score"].numpy()
        seconds.append(time.perf_counter() - began)
    ms = 1e3 * np.array(seconds[1:])  # the first request compiles
    return {
        "batch": len(images),
        "steps": steps,
        "median_ms": float(np.median(ms)),
        "p95_ms": float(np.percentile(ms, 95)),
        "ms_an_image": float(np.median(ms) / len(images)),
    }


if __name__ == "__main__":
    common_flags.run(main)
