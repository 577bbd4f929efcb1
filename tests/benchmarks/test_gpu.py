"""`benchmarks/gpu.py` runs, small, and what was done is recorded whatever comes after."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    return gpu


def test_a_part_is_recorded_with_date_and_device(gpu, tmp_path, capsys):
    """Sets that are not there, and parts for which there is no time, are left out in a line."""
    path = tmp_path / "record.json"
    chosen = ["--tiny", "--json", str(path), "--data", str(tmp_path)]
    gpu.main([*chosen, "--parts", "ceilings,fashion"])
    found = json.loads(path.read_text())
    assert found["device"].endswith(f"({jax.devices()[0].platform})")
    assert {"date", "commit", "versions", "minutes"} <= set(found)
    assert found["done"] == ["ceilings"]
    assert found["ceilings"]["product"]["gflops"] > 0
    assert found["ceilings"]["sweep"]["gigabytes_per_second"] > 0
    assert "fashion_mnist.npz is not there" in found["left_out"]["fashion"]
    assert "fashion is left out" in capsys.readouterr().out
    late = gpu.main([*chosen, "--parts", "gradients", "--minutes", "0.1"])
    assert late["left_out"] == {"gradients": "the time was over"}


def test_what_was_done_is_kept_when_a_part_fails(gpu, tmp_path, monkeypatch):
    """And the next part goes on."""

    def fails(keep, **_):
        keep("first", 1.0)
        raise RuntimeError("the device has gone")

    monkeypatch.setitem(gpu.SPEED, "ceilings", fails)
    path = tmp_path / "record.json"
    monkeypatch.setitem(gpu.SPEED, "gradients", lambda keep, **_: keep("second", 2.0))
    gpu.main(["--tiny", "--json", str(path), "--parts", "ceilings,gradients"])
    found = json.loads(path.read_text())
    assert found["ceilings"] == {"first": 1.0}
    assert found["left_out"] == {"ceilings": "RuntimeError: the device has gone"}
    assert found["failed"] == ["ceilings"]
    assert found["done"] == ["gradients"]


def test_the_work_of_products_is_counted(gpu):
    """By hand: forward, and back to both factors; the twin counts a product as one of halves."""
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))

    def loss(a, b):
        return jnp.sum(jnp.tanh(jax.jit(jnp.matmul)(a, b)))

    products = gpu.gpu_speed.products
    forward = products(jax.make_jaxpr(loss)(a, b).jaxpr)
    assert forward == {"default": (120, 4 * (12 + 20 + 15)), "full": (0, 0)}
    both = products(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(a, b).jaxpr)
    assert both["default"][0] == 360
    assert products(jax.make_jaxpr(loss)(a[:, :2], b[:2]).jaxpr)["default"][0] == 60
    with jax.default_matmul_precision("highest"):
        assert products(jax.make_jaxpr(loss)(a, b).jaxpr)["full"][0] == 120


@pytest.mark.slow
def test_all_of_it_small(gpu, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3_000, 1, 1)) * np.linspace(0, 1, 16)[:, None] * np.ones(16)
    images = (images + rng.uniform(0, 8, images.shape)).clip(0, 255).astype(np.uint8)
    jpegs, ends = [], [0]
    for image in images[:2_400]:
        jpegs.append(as_jpeg(np.stack([image] * 3, axis=-1)))
        ends.append(ends[-1] + len(jpegs[-1]))
    data = np.frombuffer(b"".join(jpegs), np.uint8)
    np.savez(tmp_path / "fashion_mnist.npz", x_train=images[:2_500], x_test=images[2_500:])
    np.savez(tmp_path / "cifar10_jpeg.npz", jpeg_train=data, offset_train=np.asarray(ends))
    found = gpu.main(["--tiny", "--data", str(tmp_path), "--out", str(tmp_path / "results")])
    assert found["done"] == list(gpu.PARTS)
    assert "JPEG" in found["cifar"]["note"]
    for part in ("fashion", "cifar"):
        told = found[part]
        assert 0 < told["backbone"]["bpd"] < 9
        assert abs(told["tilted"]["bpd"] - told["backbone"]["bpd"]) < 1
        assert sum(told["rhat u"]["counts"].values()) == np.prod(told["images"]["shape"])
        assert told["autocorrelation latent"]["f"][0] == pytest.approx(1)
        assert told["tilt"]["steps_per_second"] > 0
    (record,) = (tmp_path / "results").iterdir()
    assert json.loads(record.read_text())["done"] == found["done"]


def as_jpeg(image):
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG")
    return stream.getvalue()
