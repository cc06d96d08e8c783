"""The paper's Theorem 1, measured: `python -m experiments.theorem1 --dataset=mnist`.

The theorem bounds ||I(G(z)) - z|| on latents that the inverter never saw by its error on those it was trained on, and
by the Lipschitz constant L of I o G. Here are that error on both, L from below, and what the bound (supplementary
material, Eqs. 8 and 9) then says.
"""

import numpy as np
import tensorflow as tf
from absl import flags

from experiments import common_flags, report
from invgan_tf import presets
from invgan_tf.evaluation import accuracy, means
from invgan_tf.training import loop

flags.DEFINE_integer("latents", 1000, "Latents of each kind: fresh, and of the inverter's training.", lower_bound=10)
flags.DEFINE_integer("jacobians", 100, "Fresh latents at which the Jacobian of I o G is taken.", lower_bound=1)

FLAGS = flags.FLAGS

_ROWS = ("Training latents", "Fresh latents")
_COLUMNS = ("Latents", "Images")
_STEP_ROLE = 1  # the role of the latents of an inverter's own step (training.inverter)


def main() -> None:
    """Measures both sides of the theorem, writes results.json and theorem1.png."""
    preset = FLAGS.preset or FLAGS.preset_dir or FLAGS.dataset
    card = presets.read_card(preset, FLAGS.dataset)
    told = card.get("inverter", {})
    if not {"seed", "steps", "batch_size"} <= set(told):
        raise common_flags.FlagError(f"The card of {preset} tells no seed, steps and batch_size of its inverter.")
    generator, inverter = presets.load(preset, "generator"), presets.load(preset, "inverter")
    known = told["steps"] * told["batch_size"]
    layout = report.Layout(
        experiment="theorem1",
        dataset=FLAGS.dataset,
        title=f"Theorem 1 on {FLAGS.dataset}: errors of the inverter",
        rows=_ROWS,
        columns=_COLUMNS,
        legend="mean norm of I(G(z)) - z and of G(I(G(z))) - G(z) [95 % Student interval over latents]",
        note=f"Training latents: drawn again from the inverter's seed, steps spread over all {told['steps']:,}. "
        f"The norm of z is {np.sqrt(generator.input_shape[-1]):.2f} on average. Seed {FLAGS.seed}.",
        test="Student's test",
    )
    settings = {"seed": FLAGS.seed, "latents": FLAGS.latents, "jacobians": FLAGS.jacobians, "preset": str(preset)}
    table = report.Report(layout, settings, common_flags.output_dir("theorem1"))
    shape = (FLAGS.latents, generator.input_shape[-1])
    latents = {
        "Training latents": training_latents(told["seed"], told["steps"], told["batch_size"], *shape),
        "Fresh latents": loop.latents(FLAGS.seed, 0, -20, shape).numpy(),
    }
    errors = {}
    for row in _ROWS:
        images = accuracy.outputs(generator, latents[row])
        recovered = accuracy.outputs(inverter, images)
        errors[row] = np.linalg.norm(recovered - latents[row], axis=1)
        again = accuracy.outputs(generator, recovered)
        apart = np.linalg.norm((again - images).reshape(len(again), -1), axis=1)
        for column, norms in zip(_COLUMNS, (errors[row], apart)):
            table.add(row, column, means.Mean.of(norms), seconds=0.0)
    slopes = lipschitz(generator, inverter, latents["Fresh latents"][: FLAGS.jacobians])
    epsilon, constant = float(errors["Training latents"].max()), float(slopes.max())
    nearest = nearest_training_latents(latents["Fresh latents"], told["seed"], told["steps"], told["batch_size"])
    pointwise = (constant + 1) * nearest + epsilon  # Eq. 9, of each fresh latent
    useful = 2.0 * np.sqrt(shape[1]) * (constant + 1) + epsilon
    _tell(table, errors, slopes, nearest, pointwise, useful, known, shape[1])
    _plot(table, errors, pointwise, epsilon, constant, known, shape[1])
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, theorem1.png, TensorBoard events.")


def training_latents(seed: int, steps: int, batch_size: int, count: int, latent_dim: int) -> np.ndarray:
    """Draws again latents that an inverter was trained on, `[count, latent_dim]`, from steps spread over its training.

    Args:
        seed, steps, batch_size: of the training.
        count: how many; at most all of them.
        latent_dim: dimensions of a latent.
    """
    batches = np.unique(np.linspace(0, steps - 1, min(steps, -(-count // batch_size))).astype(np.int64))
    drawn = [_batch(seed, step, batch_size, latent_dim) for step in batches]
    return np.concatenate(drawn)[:count]


def _batch(seed, step, batch_size, latent_dim):
    return loop.latents(seed, tf.constant(step, tf.int64), _STEP_ROLE, (batch_size, latent_dim)).numpy()


def lipschitz(generator, inverter, latents: np.ndarray, block: int = 10) -> np.ndarray:
    """Returns the largest singular value of the Jacobian of I o G at each latent, `[n]`: each is at most L."""

    @tf.function(reduce_retracing=True, autograph=False)
    def jacobians(points):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            recovered = inverter(generator(points, training=False), training=False)
        return tf.linalg.svd(tape.batch_jacobian(recovered, points), compute_uv=False)[:, 0]

    parts = range(0, len(latents), block)
    return np.concatenate([jacobians(tf.constant(latents[first : first + block])).numpy() for first in parts])


def nearest_training_latents(latents: np.ndarray, seed: int, steps: int, batch_size: int) -> np.ndarray:
    """Returns each latent's distance to the nearest of all that the inverter was trained on, `[n]` (Eq. 9)."""
    points = tf.constant(latents)
    squares = tf.reduce_sum(points**2, axis=1)

    @tf.function(autograph=False)
    def closest():
        def body(step, best):
            others = loop.latents(seed, step, _STEP_ROLE, (batch_size, latents.shape[1]))
            products = tf.matmul(points, others, transpose_b=True)
            distances = squares[:, None] + tf.reduce_sum(others**2, axis=1) - 2.0 * products
            return step + 1, tf.minimum(best, tf.reduce_min(distances, axis=1))

        start = tf.constant(0, tf.int64), tf.fill([len(latents)], np.float32(np.inf))
        return tf.while_loop(lambda step, _: step < steps, body, start)[1]

    return np.sqrt(np.maximum(closest().numpy(), 0.0))


def bound(errors: np.ndarray, epsilon: float, constant: float, known: int, latent_dim: int) -> np.ndarray:
    """Returns the theorem's lower bound of P(||I(G(z)) - z|| <= error), `[n]`; 0 where it says nothing.

    It rests on a tail of the chi-squared distribution beyond its mean, so it says nothing while
    (error - epsilon) / (L + 1) is below 2 sqrt(d).

    Args:
        errors: epsilon', `[n]`.
        epsilon: the largest error on training latents.
        constant: L.
        known: number of training latents.
        latent_dim: d.
    """
    reach = np.maximum(errors - epsilon, 0.0) / (constant + 1.0)
    tail = np.exp(-known * latent_dim / 18.0 * (reach**2 / (4.0 * latent_dim) - 1.0) ** 2)
    return np.where(reach > 2.0 * np.sqrt(latent_dim), 1.0 - tail, 0.0)


def _tell(table, errors, slopes, nearest, pointwise, useful, known, latent_dim):
    epsilon, constant = float(errors["Training latents"].max()), float(slopes.max())
    fresh = errors["Fresh latents"]
    table.find(
        f"Largest error: {epsilon:.2f} on training latents, {fresh.max():.2f} on fresh ones; medians "
        f"{np.median(errors['Training latents']):.2f} and {np.median(fresh):.2f}. L is at least {constant:.2f} (the "
        f"largest slope of I o G at {len(slopes)} fresh latents; median {np.median(slopes):.2f}).",
        {
            "epsilon": epsilon,
            "fresh_max": float(fresh.max()),
            "lipschitz_at_least": constant,
            "slope_median": float(np.median(slopes)),
        },
    )
    table.find(
        f"A fresh latent's nearest of {known:,} training latents is {np.median(nearest):.2f} away (median; least "
        f"{nearest.min():.2f}), so Eq. 9 bounds its error by {np.median(pointwise):.0f} (median), and holds on "
        f"{np.mean(fresh <= pointwise):.3f} of {len(fresh)}. The probability bound says nothing below {useful:.0f}; "
        f"always answering 0 errs by {np.sqrt(latent_dim):.1f}.",
        {
            "nearest_median": float(np.median(nearest)),
            "pointwise_median": float(np.median(pointwise)),
            "holds_on": float(np.mean(fresh <= pointwise)),
            "says_nothing_below": float(useful),
        },
    )


def _plot(table, errors, pointwise, epsilon, constant, known, latent_dim):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(8, 4), layout="constrained")
    curves = {f"measured: {row.lower()}": (values, "-") for row, values in errors.items()}
    curves["Eq. 9's bound of each fresh latent"] = pointwise, "--"
    for label, (values, style) in curves.items():
        panel.step(np.sort(values), np.arange(1, len(values) + 1) / len(values), style, where="post", label=label)
    far = 1.3 * (2.0 * np.sqrt(latent_dim) * (constant + 1.0) + epsilon)
    grid = np.geomspace(1.0, far, 2000)
    predicted = bound(grid, epsilon, constant, known, latent_dim)
    panel.plot(grid, predicted, ":", label="Theorem 1's bound of the probability")
    panel.axvline(np.sqrt(latent_dim), color="gray", linewidth=0.8, label="always answering 0")
    panel.set_xscale("log")
    panel.set_xlabel("error of the latents, ||I(G(z)) - z||")
    panel.set_ylabel("share of latents below")
    panel.legend(fontsize="small")
    table.figure("theorem1", figure)


if __name__ == "__main__":
    common_flags.run(main)
