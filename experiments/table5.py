"""Table 5: InvGAN without its adversarial loss, `python -m experiments.table5`."""

from absl import flags

from experiments import common_flags, inference, paper, report

FLAGS = flags.FLAGS

_WITHOUT, _OURS = "w/o L_adv", "Ours"


def main() -> None:
    """Measures both inverters at T = 0 on the same generator and images."""
    rows = {_WITHOUT: inference.ABLATION, _OURS: inference.invgan(0)}
    if FLAGS.steps is not None:
        raise common_flags.FlagError("Table 5 is of T = 0: leave out --steps.")
    inference.check_flags("Table 5", rows)
    layout = report.Layout(
        experiment="table5",
        dataset=FLAGS.dataset,
        title=f"Table 5, {FLAGS.dataset}: the effect of the adversarial loss",
        rows=list(rows),
        columns=inference.columns(),
        legend="figure [95 % interval over images]",
        test="McNemar's test for accuracy, Student's paired test over images for MSE, over ten parts of them else",
        claims=[
            report.Claim("without the adversarial loss MSE is lower", _WITHOUT, _OURS, columns=("MSE",)),
            report.Claim("with it accuracy is higher", _OURS, _WITHOUT, columns=("Accuracy",)),
            report.Claim("with it images are nearer to real ones", _OURS, _WITHOUT, columns=inference.FRECHET),
        ],
        falling=inference.FALLING,
        note=inference.protocol(),
    )
    table = report.Report(layout, inference.settings(), common_flags.output_dir("table5"))
    inference.fill(table, rows, "Table 5", paper.TABLE5)
    print(table.markdown())
    print(f"Written to {table.folder}: results.json, table.md, TensorBoard events.")


if __name__ == "__main__":
    common_flags.run(main, "--dataset=cifar10", "--preset_dir=cifar10_dcgan", "--num_images=1000")
