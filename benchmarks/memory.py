"""Peak resident memory of a projection: `python -m benchmarks.memory`.

Against the number of images it must not grow beyond the images themselves; against the batch it tells what one
compiled loop needs. Every case is a process of its own.
"""

import multiprocessing
import pathlib
import resource

import numpy as np
import tabulate
from absl import flags

from experiments import common_flags, report
from invgan_tf import files

flags.DEFINE_list("counts", ["100", "1000", "10000"], "Images given to InvGAN.project.")
flags.DEFINE_list("batches", ["1", "16", "64", "256", "1024"], "Images of one compiled loop.")

FLAGS = flags.FLAGS

_STEPS = 2  # memory is the same at any T: the loop keeps nothing of its steps


def main() -> None:
    """Prints the peaks and writes JSON."""
    counts, batches = ([int(count) for count in given] for given in (FLAGS.counts, FLAGS.batches))
    preset = FLAGS.preset_dir or FLAGS.dataset
    peaks = {"images": [_peak(preset, count, None) for count in counts]}
    peaks["batch"] = [_peak(preset, batch, batch) for batch in batches]
    for kind, sizes in (("images", counts), ("batch", batches)):
        body = [[size, f"{peak:,.0f}", f"{peak - before:,.0f}"] for size, (before, peak) in zip(sizes, peaks[kind])]
        print(tabulate.tabulate(body, headers=[kind, "peak, MiB", "of it by projecting, MiB"], tablefmt="github"), "\n")
    first, last = peaks["images"][-2:] if len(counts) > 1 else peaks["images"] * 2
    print(f"Peak at {counts[-1]:,} images: {last[1] / first[1]:.3f} times that at {counts[max(len(counts) - 2, 0)]:,}.")
    folder = pathlib.Path(FLAGS.output_dir or "runs/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": "memory", "unit": "MiB before and at the peak", "peaks": peaks}
    content |= {"settings": {"counts": counts, "batches": batches, "steps": _STEPS, "preset": str(preset)}}
    files.write_json(folder / "memory.json", content | {"environment": report.environment()})


def _peak(preset, count, batch):
    """Returns MiB before projecting and at the peak, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_project, args=(theirs, preset, count, batch))
    process.start()
    theirs.close()
    measured = ours.recv()
    process.join()
    return measured


def _project(pipe, preset, count, batch):
    from invgan_tf.defenses import InvGAN

    defense = InvGAN.from_preset(preset)
    images = np.random.default_rng(0).random((count, *defense.image_shape), np.float32)
    if batch:
        for projector in defense.projectors.values():
            projector.lanes = batch
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    defense.project(images, steps=_STEPS)
    pipe.send((before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


if __name__ == "__main__":
    common_flags.run(main)
