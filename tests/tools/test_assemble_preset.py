"""A preset grows by the parts that are trained, and its card says what they do."""

import keras
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import common_flags
from invgan_tf import files, models, presets
from tools import assemble_preset


@pytest.fixture
def assemble(tmp_path):
    """Returns a function that assembles `tmp_path/preset` of the parts named; networks of width 4."""

    def write(name, networks):
        folder, card = tmp_path / name, {}
        folder.mkdir()
        for part, network in networks.items():
            path = folder / f"{part}.safetensors"
            presets.save_weights(network, path)
            card[part] = {"dataset": "mnist", "width": 4, "sha256": presets.checksum(path)}
        files.write_json(folder / "card.json", card)

    keras.utils.set_random_seed(3)
    write("gan", {"generator": models.build_generator(width=4), "discriminator": models.build_discriminator(width=4)})
    inverters = {
        "inverter": models.build_inverter(width=4),
        "inverter_discriminator": models.build_discriminator(width=4),
    }
    write("inverter", inverters)
    write("classifier", {"classifier_e": models.build_classifier("E")})

    def run(*parts, **values):
        flags.FLAGS(["program"])
        with flagsaver.flagsaver(
            preset=str(tmp_path / "preset"), parts=[str(tmp_path / part) for part in parts], **values
        ):
            assemble_preset.main()
        folder = tmp_path / "preset"
        card = presets.read_card(folder)
        assert {path.stem for path in folder.glob("*.safetensors")} == {*card}
        for part in card:
            presets.load(folder, part)
        return card

    return run


def test_parts_that_a_preset_has_stay(assemble):
    first = assemble("classifier", data_note="a re-encoding")
    assert list(first) == ["classifier_e"] and first["classifier_e"]["data"] == "a re-encoding"
    measured = first["classifier_e"]["test_accuracy"]
    assert measured["n"] == 10_000 and measured["ci95"][0] < measured["value"] < measured["ci95"][1]
    card = assemble("gan", "inverter", leave_out=["discriminator"])
    assert {*card} == {"classifier_e", "generator", "inverter"}  # and none that only goes on with a training
    assert card["classifier_e"] == first["classifier_e"]
    assert card["inverter"]["fresh_latents"]["latent_mse"] > 0.5  # untrained


def test_what_is_left_out_goes(assemble):
    assert {*assemble("gan")} == {"generator", "discriminator"}
    assert {*assemble(leave_out=["discriminator"])} == {"generator"}


def test_nothing_asked_for_is_refused(assemble):
    with pytest.raises(common_flags.FlagError, match="--parts"):
        assemble()


def test_an_inverter_of_another_generator_is_refused_before_anything_is_written(assemble, tmp_path):
    assemble("gan", "inverter")
    before = (tmp_path / "preset" / "card.json").read_bytes()
    card = presets.read_card(tmp_path / "inverter")
    files.write_json(
        tmp_path / "inverter" / "card.json", {"inverter": card["inverter"] | {"generator_sha256": "0" * 64}}
    )
    with pytest.raises(common_flags.FlagError, match="an inverter of another generator"):
        assemble("inverter")
    assert (tmp_path / "preset" / "card.json").read_bytes() == before
