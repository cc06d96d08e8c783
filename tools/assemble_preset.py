"""Gathers trained weights into one preset folder and measures them; what the preset has already stays.

`python -m tools.assemble_preset --preset=invgan_tf/presets/mnist --parts=runs/mnist/gan,runs/mnist/inverter,...`
"""

import pathlib
import shutil

from absl import flags

from experiments import common_flags
from invgan_tf import data, files, inversion, presets
from invgan_tf.evaluation import accuracy

flags.DEFINE_list("parts", [], "Folders that training programs wrote, each with its card.json.")
flags.DEFINE_list("leave_out", [], "Networks that the preset is to do without.")
flags.DEFINE_string("data_note", None, "What the card is to say of the data that the parts were trained on.")

FLAGS = flags.FLAGS

_INVERTERS = ("inverter", "ablation_inverter")
_ALWAYS_LEFT_OUT = (
    "inverter_discriminator",
    "ali_discriminator",
)  # of use to go on with training only; their runs keep them


def main() -> None:
    """Copies weights, merges cards, and adds what the stored weights do on test images and fresh latents."""
    if not (FLAGS.preset and (FLAGS.parts or FLAGS.leave_out)):
        raise common_flags.FlagError(
            "--preset (the folder to write) and --parts (the folders to take) or --leave_out are needed."
        )
    folder = pathlib.Path(FLAGS.preset)
    card, taken = presets.read_card(folder) if (folder / "card.json").is_file() else {}, {}
    for part in map(pathlib.Path, FLAGS.parts):
        for name, facts in presets.read_card(part).items():
            if name not in _ALWAYS_LEFT_OUT:
                taken[name], card[name] = part, facts | ({"data": FLAGS.data_note} if FLAGS.data_note else {})
    card = {name: facts for name, facts in card.items() if name not in FLAGS.leave_out}
    _check_pairs(folder, card)
    folder.mkdir(parents=True, exist_ok=True)
    new = [name for name in card if name in taken]
    for name in new:
        shutil.copyfile(taken[name] / f"{name}.safetensors", folder / f"{name}.safetensors")
    files.write_json(folder / "card.json", card)
    for name in FLAGS.leave_out:
        (folder / f"{name}.safetensors").unlink(missing_ok=True)
    for name in new:  # what the preset has already is measured
        if name.startswith("classifier"):
            test = data.load(card[name]["dataset"], "test", data_dir=FLAGS.data_dir)
            measured = accuracy.Proportion.of(accuracy.predict(presets.load(folder, name), test.images) == test.labels)
            card[name]["test_accuracy"] = {"value": measured.value, "ci95": measured.ci95, "n": measured.n}
    for name in _INVERTERS:
        if {"generator", name} <= set(card) and {"generator", name} & set(new):
            card[name]["fresh_latents"] = _recovery(folder, name)
    files.write_json(folder / "card.json", card)


def _check_pairs(folder, card):
    """Raises FlagError for an inverter of another generator: the preset would be refused whenever it is read."""
    own = card.get("generator", {}).get("sha256")
    for name in _INVERTERS:
        if own and card.get(name, {}).get("generator_sha256", own) != own:
            raise common_flags.FlagError(
                f"{folder} would hold an {name} of another generator: give its own in --parts, or --leave_out={name}."
            )


def _recovery(folder, part) -> dict:
    """Returns how well an inverter finds latents it never saw, and how close its reconstructions come."""
    found = inversion.recovery(presets.load(folder, "generator"), presets.load(folder, part))["Inverter"]
    return {
        "n": found.latent_mse.n,
        "latent_mse": found.latent_mse.value,
        "latent_mse_ci95": found.latent_mse.ci95,
        "image_mse": found.image_mse.value,
        "image_mse_ci95": found.image_mse.ci95,
    }


if __name__ == "__main__":
    common_flags.run(main)
