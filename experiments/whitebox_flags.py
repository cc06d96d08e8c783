"""The flags of the white-box evaluation that Tables 2 to 4 and the figures share, and what they name."""

import os
import sys

import keras
from absl import flags

from experiments import cells, common_flags
from invgan_tf import data, defenses, folding, presets

flags.DEFINE_list("attacks", ["clean", "fgsm", "cw", "rp", "bpda"], "Columns: clean, fgsm, cw, rp, bpda, bpda_authors.")
flags.DEFINE_list("defenses", ["none", "defensegan", "invgan"], "Rows: none, defensegan, invgan.")
flags.DEFINE_integer(
    "num_images", 100, "Images, from the split's first on; caps BPDA's too.", lower_bound=1, upper_bound=10_000
)
flags.DEFINE_integer("steps", None, "T of InvGAN. Default: 1000; 200 in Table 4.", lower_bound=0)
flags.DEFINE_integer("defensegan_steps", None, "L of DefenseGAN, steps of each restart. Default: 200.", lower_bound=0)
flags.DEFINE_integer("restarts", 10, "R of DefenseGAN.", lower_bound=1)
flags.DEFINE_integer("bpda_images", 25, "Test images for BPDA, which costs far more an image.", lower_bound=1)
flags.DEFINE_integer(
    "bpda_steps",
    8,
    "Steps of Eq. 6 an iteration of BPDA makes, going on warm; 0: cold, all of the defence's.",
    lower_bound=0,
)
flags.DEFINE_integer("bpda_authors_images", 16, "Test images for bpda_authors.", lower_bound=1)
flags.DEFINE_integer(
    "bpda_authors_steps",
    50,
    "Steps that bpda_authors projects in each iteration, cold, one restart; 0: all of the defence's.",
    lower_bound=0,
)
flags.DEFINE_string(
    "classifier_dir",
    None,
    "Folder with another classifier_a (table4: classifier_f, cifar10: small) and its card. Default: the preset's own.",
)
flags.DEFINE_enum(
    "projector",
    "exact",
    ["exact", "fast"],
    "How the defences project: exact is the paper's protocol to its last step, fast looks for as low a loss by L-BFGS.",
)
flags.DEFINE_enum(
    "projection_dtype",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Precision of the descent's matrix products. auto: the faster one here, by a trial.",
)
flags.DEFINE_float("false_positive_rate", 0.05, "Share of clean images that a detector may flag.", 0.0, 0.999)
flags.DEFINE_string(
    "cells_dir",
    None,
    "Where attacked images, projections and predictions are kept. "
    "Default: OUTPUT_DIR/cells, or runs/cells without --output_dir.",
)

FLAGS = common_flags.FLAGS  # --seed, --dataset and the folders are defined there

COLUMNS = {
    "clean": "Clean",
    "fgsm": "FGSM",
    "cw": "CW",
    "rp": "RP",
    "bpda": "BPDA",
    "bpda_authors": "BPDA (authors)",
}
WHITE_BOX = ("attacks", "bpda_images", "bpda_steps", "bpda_authors_images", "bpda_authors_steps")
ROWS = {"none": "No Defense", "defensegan": "DefenseGAN", "invgan": "InvGAN"}
INVGAN_STEPS, _DEFENSEGAN_STEPS = 1000, 200  # T of Tables 2 and 3, L


def _known(names):
    return lambda given: bool(given) and set(given) <= set(names) and len(set(given)) == len(given)


flags.register_multi_flags_validator(
    ["projector", "steps", "defensegan_steps"],
    lambda given: given["projector"] == "exact" or (given["steps"], given["defensegan_steps"]) == (None, None),
    "--steps and --defensegan_steps are the exact projector's: leave them out with --projector=fast",
)
common_flags.finite("false_positive_rate")
flags.register_validator("attacks", _known(COLUMNS), f"must list some of {', '.join(COLUMNS)}, each once")
flags.register_validator("defenses", _known(ROWS), f"must list some of {', '.join(ROWS)}, each once")


def load_classifier(architecture: str | None = None, elsewhere: str | None = None) -> keras.Model:
    """Returns the classifier that the flags name.

    Args:
        architecture: which; by default the first of the dataset's own that there is.
        elsewhere: a preset to take it from where --classifier_dir does not say and --preset_dir's has none.
    """
    folder = FLAGS.classifier_dir or FLAGS.preset_dir or FLAGS.dataset
    wanted = [architecture] if architecture else data.spec(FLAGS.dataset).classifiers
    for source in [folder] if FLAGS.classifier_dir or not elsewhere else [folder, elsewhere]:
        card = presets.read_card(source, FLAGS.dataset)
        for name in wanted:
            if f"classifier_{name.lower()}" in card:
                return presets.load_classifier(source, name)
    return presets.load_classifier(folder, wanted[0])


def load_defenses(invgan_steps: int = INVGAN_STEPS) -> dict[str, defenses.Defense]:
    """Returns the defences that the flags name; `invgan_steps` where --steps does not say T."""
    chosen, dtype = FLAGS.preset_dir or FLAGS.dataset, projection_dtype()
    presets.read_card(chosen, FLAGS.dataset)
    steps = descents(invgan_steps)
    try:
        return _defenses(chosen, dtype, steps)
    except ValueError as error:
        if isinstance(error, presets.PresetError):
            raise
        raise common_flags.FlagError(f"--projection_dtype={dtype}: {error}") from error


def _defenses(chosen, dtype, steps):
    return {
        "defensegan": defenses.DefenseGAN.from_preset(
            chosen, dtype=dtype, steps=steps["defensegan_steps"], restarts=FLAGS.restarts
        ),
        "invgan": defenses.InvGAN.from_preset(chosen, dtype=dtype, steps=steps["steps"]),
    }


def descents(invgan_steps: int = INVGAN_STEPS) -> dict[str, int]:
    """Returns T and L by their flags' names: what was given, or the program's own."""
    own = {"steps": invgan_steps, "defensegan_steps": _DEFENSEGAN_STEPS}
    return {name: value if FLAGS[name].value is None else FLAGS[name].value for name, value in own.items()}


def open_store() -> cells.CellStore:
    """Opens the store that the flags name."""
    default = os.path.join(FLAGS.output_dir, "cells") if FLAGS.output_dir else os.path.join("runs", "cells")
    return cells.CellStore(FLAGS.cells_dir or default, {"deterministic": FLAGS.deterministic})


def settings() -> dict:
    """Returns what was asked for, for results.json."""
    names = "dataset attacks defenses num_images restarts bpda_images bpda_steps bpda_authors_images"
    names += " bpda_authors_steps projector seed preset_dir classifier_dir deterministic"
    asked = {name: FLAGS[name].value for name in names.split()}
    return asked | descents() | {"projection_dtype": projection_dtype()}


def descent(invgan_steps: int = INVGAN_STEPS) -> str:
    """Returns how the defences descend, in a few words."""
    steps = descents(invgan_steps)
    text = f"DefenseGAN: R = {FLAGS.restarts}, L = {steps['defensegan_steps']}; InvGAN: T = {steps['steps']}"
    return text if FLAGS.projector == "exact" else f"Fast projector in place of {text}"


def protocol() -> str:
    """Returns what a reader must know of the numbers, in a few words."""
    warm, cut = FLAGS.bpda_steps, FLAGS.bpda_authors_steps
    inner = f"{warm} warm steps of Eq. 6 an iteration, shared by the restarts" if warm else "cold in every iteration"
    released = (
        f" BPDA (authors) projects cold in every iteration, {f'{cut} steps, R = 1' if cut else 'as the defence'}."
    )
    return (
        f"One trained generator, inverter and classifier. {descent()}; projection in {projection_dtype()}; "
        f"seed {FLAGS.seed}, attacker's {FLAGS.seed + 1}. RP and BPDA move away from the true label, FGSM and CW from "
        f"the classifier's own. BPDA is unbounded ({inner}): read its accuracy with its L2 and Linf, medians over the "
        "images it changed." + (released if "bpda_authors" in FLAGS.attacks else "")
    )


def projection_dtype() -> str:
    """Returns the precision of the projection's networks: the flag's, or the one this processor is fast in.

    Residual generators are no chain of layers that folding knows: they descend in float32.
    """
    if FLAGS.projection_dtype == "auto":
        generator = presets.read_card(FLAGS.preset_dir or FLAGS.dataset).get("generator", {})
        folds = generator.get("family") != "sn_resnet"
        FLAGS.projection_dtype = "bfloat16" if folds and folding.bfloat16_pays() else "float32"
        sys.argv.append(f"--projection_dtype={FLAGS.projection_dtype}")  # workers read it: one choice a run
    return FLAGS.projection_dtype
