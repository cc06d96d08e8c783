"""Table 1: inversion of CIFAR-10's test images, `python -m experiments.table1`."""

from absl import flags

from experiments import common_flags, inference, paper, pictures, report

FLAGS = flags.FLAGS

_SHOWN = 10  # images of a row in TensorBoard
_MARGIN = 0.02  # what "costs little" may cost in accuracy


def rows() -> dict[str, inference.Row]:
    """Returns Table 1's rows; --steps is T of the last."""
    steps = inference.STEPS if FLAGS.steps is None else FLAGS.steps
    if steps < 1:
        raise common_flags.FlagError(f"--steps={steps}: T of the last row must be at least 1, T = 0 has its own.")
    return {
        "ALI": inference.ALI,
        "AGE": inference.AGE,
        "Direct Optimization": inference.DIRECT,
        inference.invgan_row(0): inference.invgan(0),
        inference.invgan_row(steps): inference.invgan(steps),
    }


def main() -> None:
    """Measures every row, and prints it with the published one beside."""
    wanted = rows()
    inference.check_flags("Table 1", wanted)
    names = list(wanted)
    at_once, descended = names[-2:]
    layout = report.Layout(
        experiment="table1",
        dataset=FLAGS.dataset,
        title=f"Table 1, {FLAGS.dataset}: inversion of test images",
        rows=names,
        columns=inference.columns(),
        legend="figure [95 % interval over images]",
        test="McNemar's test for accuracy, Student's paired test over images for MSE, over ten parts of them else",
        claims=[
            *(
                report.Claim(f"{at_once} is ahead of {rival}", at_once, rival, columns=("Accuracy", *inference.FRECHET))
                for rival in names[:3]
            ),
            report.Claim(f"{names[2]} has a lower MSE than {at_once}", names[2], at_once, columns=("MSE",)),
            report.Claim(
                f"{descended} is at least as accurate as {at_once}", descended, at_once, _MARGIN, columns=("Accuracy",)
            ),
            report.Claim(f"{at_once} is nearer than {descended}", at_once, descended, columns=inference.FRECHET),
        ],
        falling=inference.FALLING,
        note=inference.protocol(),
    )
    table = report.Report(layout, inference.settings(), common_flags.output_dir("table1"))
    found = inference.fill(table, wanted, "Table 1", paper.TABLE1)
    for name, images in found.items():
        shown = inference.from_flags().examples.images[:_SHOWN]
        table.show(name, pictures.grid([shown, images[:_SHOWN]], FLAGS.dataset))
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, TensorBoard events.")


if __name__ == "__main__":
    common_flags.run(main, "--dataset=cifar10", "--preset_dir=cifar10_dcgan", "--num_images=1000")
