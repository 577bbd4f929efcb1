"""The embedded classifier: its weights are what their header says, and its features see faults."""

from itertools import pairwise

import numpy as np
import pytest
import safetensors.numpy
from scipy.ndimage import gaussian_filter
from shared_data import shared

from tiltflow.errors import InputError
from tiltflow.evaluation.quality import classifier, fashion_mnist, quality, suited, train_classifier
from tiltflow.evaluation.quality.train_classifier import TrainSettings, accuracy, main, train
from tiltflow.runs import reading

ROWS = 1_000


@pytest.fixture(scope="module")
def images():
    return reading.read_arrays(shared("fashion_mnist.npz"))


@pytest.fixture(scope="module")
def floor(images):
    return quality(images["x_train"][:ROWS], images["x_test"][:ROWS], fashion_mnist())


def compared(faulty, images):
    return quality(faulty, images["x_test"][:ROWS], fashion_mnist())


def test_weights_are_small_and_say_where_they_are_from():
    assert classifier.WEIGHTS.stat().st_size < 500_000
    told = classifier.about()
    assert float(told["accuracy"]) > 0.91
    assert {"data", "images", "seed", "epochs"} <= set(told)


@pytest.mark.slow
def test_accuracy_is_what_the_header_says(images):
    found = accuracy(classifier.load(), images["x_test"], images["y_test"])
    assert found == pytest.approx(float(classifier.about()["accuracy"]), abs=0.002)


def test_the_floor_falls_with_rows_and_classes_are_even(floor):
    values = [value for _, value in floor.frechet.by_size]
    assert values == sorted(values, reverse=True)
    assert abs(floor.frechet.extrapolated) < 4 * floor.frechet.standard_error
    assert abs(floor.kernel.value) < 4 * floor.kernel.standard_error
    assert floor.neighbours.precision.value > 0.85
    assert floor.neighbours.recall.value > 0.85
    assert floor.classes.smallest[1] > 0.07
    assert floor.classes.largest[1] < 0.13


def test_faults_are_ranked_as_they_must(images, floor):
    real = images["x_train"][:ROWS].astype(np.float32)
    labels = images["y_train"]
    without_boots = images["x_train"][labels != 9][:ROWS]
    shuffled = np.random.default_rng(0).permuted(real.reshape(ROWS, -1), axis=1)
    gone = compared(without_boots, images)
    soft, softer = (compared(gaussian_filter(real, (0, s, s)), images) for s in (1, 2))
    noise = compared(shuffled.reshape(real.shape), images)
    ranked = [floor, gone, softer, noise]
    for nearer, farther in pairwise(ranked):
        apart = farther.frechet.value - nearer.frechet.value
        assert apart > 4 * np.hypot(farther.frechet.standard_error, nearer.frechet.standard_error)
    assert floor.frechet.value < soft.frechet.value < softer.frechet.value
    kernels = [found.kernel.value for found in ranked]
    assert kernels == sorted(kernels)
    assert noise.neighbours.coverage.value < softer.neighbours.coverage.value
    assert softer.neighbours.coverage.value < floor.neighbours.coverage.value
    assert gone.classes.smallest[0] == "boot"
    assert gone.classes.smallest[1] < 0.02


def test_features_need_images_of_their_size_and_scale(images):
    features = fashion_mnist()
    with pytest.raises(InputError, match="expect"):
        features(np.zeros((3, 8, 8)))
    with pytest.raises(InputError, match="multiply by 255"):
        features(images["x_test"][:3] / 255)
    assert features(images["x_test"][:3]).shape == (3, classifier.FEATURES)
    assert suited(images["x_test"][:3]).name == features.name
    assert suited(images["x_test"][:3] // 128).name != features.name  # no bytes


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "head.bias"}, "another network"),
        (lambda a: a | {"head.bias": a["head.bias"][:3]}, "another network"),
        (lambda a: a | {"head.bias": a["head.bias"] * np.nan}, "not finite"),
    ],
)
def test_damaged_weights_are_refused(damage, words, tmp_path):
    path = tmp_path / "weights.safetensors"
    arrays = safetensors.numpy.load_file(classifier.WEIGHTS)
    path.write_bytes(safetensors.numpy.save(damage(arrays)))
    with pytest.raises(InputError, match=words):
        classifier.load(path)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="damaged"):
        classifier.load(path)


def test_training_learns_and_writes_what_load_reads(tmp_path, monkeypatch, capsys):
    """Bright and dark squares, two classes of ten, told apart after a moment."""
    import jax.random as jr

    labels = np.arange(200) % 2
    x = np.random.default_rng(0).integers(0, 60, (200, 28, 28)) + 150 * labels[:, None, None]
    x = x.astype(np.uint8)
    settings = TrainSettings(epochs=4, batch=20, average=0.5)
    found = train(x, labels, settings, key=jr.key(0))
    assert accuracy(found, x, labels) > 0.95

    def trained(images, labels, settings, *, key, listen):
        """What was learned above, in the place of another training."""
        listen(settings.epochs, 0.5)
        return found

    monkeypatch.setattr(train_classifier, "train", trained)
    data, out = tmp_path / "data.npz", tmp_path / "weights.safetensors"
    np.savez(data, x_train=x, y_train=labels, x_test=x, y_test=labels)
    main(data=data, out=out, seed=1, epochs=1)
    told = capsys.readouterr().out
    assert "epoch 1  loss 0.5000" in told
    assert "of the test images" in told
    assert classifier.about(out)["seed"] == "1"
    assert classifier.load(out).head.bias.shape == (10,)
    np.savez(data, x_train=x)
    with pytest.raises(InputError, match="not Fashion-MNIST"):
        main(data=data, out=out)
