"""Frechet distances and inception scores of known distributions, and the networks they are measured in."""

import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from scipy import linalg

from invgan_tf import models
from invgan_tf.evaluation import estimate, frechet, image_networks, inception_score

_RNG = np.random.default_rng(0)
_MIX = _RNG.normal(size=(16, 16)) / 4.0


def _streamed(features, batch=100):
    moments = frechet.StreamedMoments()
    for first in range(0, len(features), batch):
        part = features[first : first + batch]
        moments.add(part, np.arange(first, first + len(part)))
    return moments


def _exactly(mean, covariance, count=500):
    """Features whose sample mean and covariance are these, up to rounding."""
    drawn = np.random.default_rng(1).normal(size=(count, len(mean)))
    drawn -= drawn.mean(axis=0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_streamed_moments_are_numpys_for_features_far_from_zero():
    features = 1e4 + _RNG.normal(size=(997, 5)) @ _RNG.normal(size=(5, 5))
    moments = _streamed(features, 64).moments()
    assert moments.n == 997
    np.testing.assert_allclose(moments.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(features.T), rtol=1e-9)
    left = _streamed(features, 64).moments(without=3)
    np.testing.assert_allclose(left.covariance, np.cov(features[np.arange(997) % 10 != 3].T), rtol=1e-9)


def test_a_set_is_at_distance_zero_of_itself():
    features = (_RNG.normal(size=(400, 16)) @ _MIX).astype(np.float32) + 3.0
    found = frechet.frechet_distance(_streamed(features), _streamed(features, 37))
    assert 0.0 <= found.value < 1e-6 and found.n == 400


@pytest.mark.parametrize("shift", [0.3, 2.0, 50.0])
def test_a_shift_of_the_mean_is_its_square(shift):
    direction = np.ones(16) / 4.0
    features = _RNG.normal(size=(400, 16)) @ _MIX
    found = frechet.frechet_distance(_streamed(features), _streamed(features + shift * direction))
    assert found.value == pytest.approx(shift**2, rel=1e-6)


def test_gaussians_of_known_distance():
    first, second = np.array([1.0, 4.0, 9.0]), np.array([4.0, 9.0, 1.0])  # (1-2)^2 + (2-3)^2 + (3-1)^2 = 6
    means = np.zeros(3), np.array([1.0, 2.0, 2.0])  # 9
    features = [_exactly(mean, np.diag(variance)) for mean, variance in zip(means, (first, second))]
    assert frechet.frechet_distance(*map(_streamed, features)).value == pytest.approx(15.0, rel=1e-9)


def test_distance_is_that_of_the_matrix_square_root():
    sets = [_RNG.normal(size=(300, 16)) @ _RNG.normal(size=(16, 16)) + _RNG.normal(size=16) for _ in range(2)]
    (m1, c1), (m2, c2) = ((features.mean(axis=0), np.cov(features.T)) for features in sets)
    expected = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2.0 * linalg.sqrtm(c1 @ c2).real)
    assert frechet.frechet_distance(*map(_streamed, sets)).value == pytest.approx(expected, rel=1e-9)


def test_interval_covers_the_spread_between_samples():
    """Over fresh samples the distance varies as much as one sample's jackknife tells, within a factor of two."""
    rng = np.random.default_rng(5)
    found = [
        frechet.frechet_distance(_streamed(rng.normal(size=(400, 3))), _streamed(rng.normal(size=(400, 3)) + 1.0))
        for _ in range(40)
    ]
    spread = np.std([one.value for one in found])
    told = np.median([one.ci95[1] - one.value for one in found]) / 2.262
    assert spread / 2 < told < spread * 2


def test_paired_distances_tell_small_differences():
    """Both reconstructions share most of their error: unpaired intervals overlap, the paired difference does not."""
    rng = np.random.default_rng(6)
    real = rng.normal(size=(500, 4))
    noise = rng.normal(size=(500, 4))
    near, far = (real + scale * noise + offset for scale, offset in ((0.5, 1.0), (0.5, 1.02)))
    near, far = (frechet.frechet_distance(_streamed(real), _streamed(drawn)) for drawn in (near, far))
    assert near.ci95[1] > far.ci95[0]
    answer = far.compare(near)
    assert answer.p < 1e-3 and answer.ci95[0] > 0.0
    assert answer.difference == pytest.approx(4 * (1.02**2 - 1.0), rel=0.3)
    assert near.compare(near).p == 1.0


@pytest.mark.parametrize(("count", "message"), [(16, "needs more than 16 images, got 16"), (0, "two or more images")])
def test_too_few_images_are_refused(count, message):
    features = _RNG.normal(size=(count, 16))
    with pytest.raises(ValueError, match=message):
        frechet.frechet_distance(_streamed(features), _streamed(_RNG.normal(size=(100, 16))))


def test_estimates_of_other_images_are_not_compared():
    first, second = (estimate.Estimate.of(1.0, np.arange(10.0), n) for n in (10, 20))
    with pytest.raises(ValueError, match="same images: got 10 and 20"):
        first.compare(second)


def _score(probabilities, batch=7):
    score = inception_score.StreamedScore(len(probabilities))
    for first in range(0, len(probabilities), batch):
        part = probabilities[first : first + batch]
        score.add(part, np.arange(first, first + len(part)))
    return score.score()


def test_inception_score_of_known_probabilities():
    sure = np.tile(np.eye(5), (20, 1))  # every class as often, each image of one for sure: as many as classes
    assert _score(sure).value == pytest.approx(5.0)
    assert _score(np.full((40, 5), 0.2)).value == pytest.approx(1.0)
    probabilities = np.random.default_rng(0).dirichlet(np.full(7, 0.3), 203)
    splits = np.split(probabilities, [-(-203 * k // 10) for k in range(1, 10)])
    expected = [np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(0))), axis=1))) for p in splits]
    found = _score(probabilities)
    np.testing.assert_allclose(found.parts, expected, rtol=1e-9)
    assert found.value == pytest.approx(np.mean(expected)) and found.n == 203
    with pytest.raises(ValueError, match="needs 10 images or more, got 9"):
        inception_score.StreamedScore(9)


def test_a_classifier_describes_images_by_phi_and_softmax():
    classifier = models.build_classifier("E")
    images = _RNG.uniform(size=(23, 28, 28, 1)).astype(np.float32)
    features, probabilities = image_networks.by_classifier(classifier)(images)
    np.testing.assert_allclose(features, classifier.features(images), atol=1e-5)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(classifier(images)), atol=1e-5)
    gathered = image_networks.statistics(image_networks.by_classifier(classifier), images, batch_size=5)
    np.testing.assert_allclose(gathered.moments.moments().mean, np.mean(features, axis=0), rtol=1e-5)
    assert gathered.score.score().n == 23


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A graph under the names of the Inception graph's, of 8 features and 5 classes; and what it computes."""
    kernel = np.random.default_rng(3).normal(size=(3, 3, 3, 8)).astype(np.float32) / 50
    softmax = np.random.default_rng(4).normal(size=(8, 5)).astype(np.float32)
    graph = tf.Graph()
    with graph.as_default():
        decoded = tf.compat.v1.placeholder(tf.float32, (64, 64, 3), name="Cast")
        images = tf.expand_dims(decoded, 0, name="ExpandDims")  # one image, as the real graph has it
        resized = tf.compat.v1.image.resize_bilinear(images, (19, 19), name="ResizeBilinear")
        x = tf.nn.relu(tf.nn.conv2d((resized - 128.0) / 128.0, kernel, 2, "VALID"))
        pooled = tf.nn.avg_pool2d(x, 9, 1, "VALID", name="pool_3")
        logits = tf.linalg.matmul(tf.reshape(pooled, (1, 8)), tf.constant(softmax), name="softmax/logits/MatMul")
        tf.nn.softmax(logits + 1.0, name="softmax")
    path = tmp_path_factory.mktemp("inception") / "classify_image_graph_def.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path, kernel, softmax


def test_inception_sees_uint8_images_resized_in_its_graph(stand_in):
    path, kernel, softmax = stand_in
    images = np.random.default_rng(5).uniform(-1, 1, (12, 32, 32, 3)).astype(np.float32)
    features, probabilities = image_networks.by_inception(path, (-1.0, 1.0))(images)
    pixels = np.rint((images + 1.0) * 127.5)
    resized = tf.compat.v1.image.resize_bilinear(pixels, (19, 19))
    x = tf.nn.relu(tf.nn.conv2d((resized - 128.0) / 128.0, kernel, 2, "VALID"))
    expected = tf.reduce_mean(x, axis=[1, 2]).numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(expected @ softmax), rtol=1e-4)


def test_inception_is_read_from_its_archive(stand_in, tmp_path):
    path, _, _ = stand_in
    archive = tmp_path / "inception-2015-12-05.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in (("./README", b"text"), (f"./{path.name}", path.read_bytes())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    images = np.zeros((10, 32, 32, 3), np.float32)
    expected, found = (image_networks.by_inception(source, (-1.0, 1.0))(images)[0] for source in (path, archive))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("content", [None, b"", b"no graph at all", "empty archive", "truncated"])
def test_other_files_are_not_taken_for_inception(stand_in, tmp_path, content):
    path = tmp_path / "weights"
    if content == "empty archive":
        tarfile.open(path, "w:gz").close()
    elif content == "truncated":
        path.write_bytes(stand_in[0].read_bytes()[:-40])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(image_networks.NetworkFileError, match=str(path)):
        image_networks.by_inception(path, (-1.0, 1.0))


_TEN_THOUSAND = """
import resource, sys
import numpy as np
from invgan_tf import models
from invgan_tf.evaluation import frechet, image_networks
images = np.random.default_rng(0).uniform(-1, 1, (10_000, 32, 32, 3)).astype(np.float32)
if sys.argv[1] == "small":
    describe = image_networks.by_classifier(models.build_classifier("small", (32, 32, 3)))
else:  # as many features and classes as Inception has
    weights = np.random.default_rng(1).normal(size=(3072, 2048)).astype(np.float32)
    classes = np.full((10_000, 1008), 1 / 1008)
    describe = lambda batch: (np.maximum(batch.reshape(len(batch), -1) @ weights, 0), classes[: len(batch)])
found = [image_networks.statistics(describe, part) for part in (images, images[::-1])]
value = frechet.frechet_distance(*[one.moments for one in found]).value
scale = np.trace(found[0].moments.moments().covariance)
assert value < 1e-3 * (1 if sys.argv[1] == "small" else scale), (value, scale)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("network", ["small", "2,048 features"])
def test_ten_thousand_images_take_less_than_two_gibibytes(network):
    done = subprocess.run([sys.executable, "-c", _TEN_THOUSAND, network], capture_output=True, text=True, check=True)
    kibibytes = int(done.stdout.splitlines()[-1])
    print(f"\n10,000 images, {network}: {kibibytes / 2**20:.2f} GiB at most")
    assert kibibytes < 2 * 2**20
