"""Networks that describe images by features and class probabilities: what scores and distances are measured in."""

import os
import pathlib
import tarfile
from collections.abc import Callable, Iterable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from google.protobuf import message

from invgan_tf.evaluation import frechet, inception_score

_GRAPH = "classify_image_graph_def.pb"  # in the archive of 2015-12-05
_IMAGES, _FEATURES, _SOFTMAX = "ExpandDims:0", "pool_3:0", "softmax/logits/MatMul"
_BATCH = 100

Describe = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From images `[n, h, w, c]` in the dataset's range to features `[n, d]` and class probabilities `[n, classes]`."""


class NetworkFileError(ValueError):
    """A file that does not hold the Inception network; the message names it."""


class Statistics(NamedTuple):
    """What a set of images looks like to a network."""

    moments: frechet.StreamedMoments
    score: inception_score.StreamedScore


def statistics(describe: Describe, images: np.ndarray, batch_size: int = _BATCH) -> Statistics:
    """Streams images `[n, h, w, c]`, number i being image i, through a network; ValueError for fewer than 10."""
    gathered = Statistics(frechet.StreamedMoments(), inception_score.StreamedScore(len(images)))
    for first in range(0, len(images), batch_size):
        features, probabilities = describe(images[first : first + batch_size])
        indices = np.arange(first, first + len(features))
        gathered.moments.add(features, indices)
        gathered.score.add(probabilities, indices)
    return gathered


def by_classifier(classifier: keras.Model) -> Describe:
    """Describes images by a classifier of this project: Phi, and the softmax of its logits."""

    @tf.function(reduce_retracing=True, autograph=False)
    def describe(images):
        features = tf.cast(classifier.features(images, training=False), tf.float32)
        return features, tf.nn.softmax(tf.cast(classifier.head(features), tf.float64))

    def described(images):
        features, probabilities = describe(tf.convert_to_tensor(images, tf.float32))
        return features.numpy(), probabilities.numpy()

    return described


def by_inception(path: str | os.PathLike, value_range: tuple[float, float]) -> Describe:
    """Describes images by the Inception network of 2015-12-05, as IS and FID are commonly measured.

    Features are pool3 (2,048); probabilities the softmax of pool3 times the softmax layer's weights, without its
    biases. Images are rounded to uint8; the graph itself resizes them to 299x299, bilinear.

    Args:
        path: the archive `inception-2015-12-05.tgz`, or `classify_image_graph_def.pb` out of it.
        value_range: lowest and highest pixel of the images.

    Raises:
        NetworkFileError: for a file that is missing, or another one.
    """
    graph_def = _read_graph(pathlib.Path(path))

    def network(images):
        features, weights = tf.graph_util.import_graph_def(
            graph_def, input_map={_IMAGES: images}, return_elements=[_FEATURES, _SOFTMAX], name=""
        )
        features = tf.reshape(features, (tf.shape(images)[0], -1))
        return features, tf.nn.softmax(tf.linalg.matmul(features, weights.inputs[1]))

    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    try:
        describe = tf.compat.v1.wrap_function(network, signature)
    except (ValueError, KeyError) as error:
        raise NetworkFileError(f"{path} is not the Inception graph of 2015-12-05: {error}") from error
    low, high = value_range

    def described(images):
        pixels = np.clip(np.rint((np.asarray(images, np.float32) - low) * (255.0 / (high - low))), 0.0, 255.0)
        features, probabilities = describe(tf.constant(pixels, tf.float32))
        return features.numpy(), probabilities.numpy()

    return described


def _read_graph(path):
    graph_def = tf.compat.v1.GraphDef()
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                graph_def.ParseFromString(_member(archive).read())
        else:
            graph_def.ParseFromString(path.read_bytes())
    except (OSError, KeyError, tarfile.TarError, EOFError, message.DecodeError) as error:
        raise NetworkFileError(f"{path} is not a readable Inception graph of 2015-12-05: {error}") from error
    return graph_def


def _member(archive: tarfile.TarFile):
    found: Iterable[tarfile.TarInfo] = (member for member in archive if pathlib.PurePath(member.name).name == _GRAPH)
    for member in found:
        return archive.extractfile(member)
    raise KeyError(f"no {_GRAPH} in the archive")
