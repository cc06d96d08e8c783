"""Untrained presets of CIFAR-10 and CelebA, and a small CelebA in its official layout."""

import keras
import numpy as np
import tensorflow as tf

from invgan_tf import celeb_a, data, files, models, presets

WIDTH = 2
TABLE1_PARTS = {
    "generator": "dcgan",
    "inverter": "dcgan",
    "ablation_inverter": "dcgan",
    "ali_encoder": "ali",
    "ali_decoder": "ali",
    "age_encoder": "age",
    "age_generator": "age",
}
RESIDUAL_PARTS = {"generator": "sn_resnet", "inverter": "sn_resnet"}


def write_preset(folder, dataset, parts, classifier):
    """Writes untrained networks of these families, and a classifier, into a folder with their card."""
    keras.utils.set_random_seed(1)
    shape, classes = data.spec(dataset).image_shape, data.spec(dataset).num_classes
    networks = {part: models.build(part, shape, family=family, width=WIDTH) for part, family in parts.items()}
    networks[f"classifier_{classifier.lower()}"] = models.build_classifier(classifier, shape, num_classes=classes)
    folder.mkdir()
    card = {}
    for name, network in networks.items():
        presets.save_weights(network, folder / f"{name}.safetensors")
        card[name] = {"dataset": dataset, "sha256": presets.checksum(folder / f"{name}.safetensors")}
        if name in parts:
            card[name] |= {"family": parts[name], "width": WIDTH}
    files.write_json(folder / "card.json", card)
    return folder


def write_faces(folder, splits):
    """Writes faces of random blots under CelebA's official names, `splits` telling how many of each partition."""
    (folder / celeb_a.IMAGES).mkdir(parents=True)
    rng, rows, partition = np.random.default_rng(0), [], []
    for number in range(1, 1 + sum(splits)):
        blots = rng.integers(0, 256, (7, 6, 3)).astype(np.float32)
        face = tf.cast(tf.image.resize(blots, (218, 178)), tf.uint8)
        tf.io.write_file(str(folder / celeb_a.IMAGES / f"{number:06d}.jpg"), tf.io.encode_jpeg(face))
        rows.append(f"{number:06d}.jpg {1 if number % 2 else -1}")
        partition.append(f"{number:06d}.jpg {int(np.searchsorted(np.cumsum(splits), number))}")
    (folder / celeb_a.ATTRIBUTES).write_text("\n".join([str(len(rows)), "Male", *rows]) + "\n")
    (folder / celeb_a.PARTITION).write_text("\n".join(partition) + "\n")
    return folder
