"""`onnx:`: models run by onnxruntime, and files that must not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv.errors import AssetError
from latent_inv.files import sha256_of
from tests import own

try:
    import onnx
    import onnxruntime
except ImportError:  # each test says so, see below
    onnx = onnxruntime = None

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _with_onnx() -> None:
    own.require_onnx()


def load(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    return own.opened("onnx", path).load(CPU, dtype)


@pytest.mark.parametrize("rows", [None, 1, 2, 3])
def test_a_picture_is_that_of_the_model(rows: int | None, tmp_path: Path) -> None:
    path = own.write_onnx(tmp_path / "a.onnx", rows)
    generator = load(path)
    assert generator.weights_sha256 == sha256_of(path)
    assert not generator.differentiable
    assert not generator.forward_mode
    latents = generator.sample(range(5))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    z = latents["z"].numpy()
    width = rows or 1
    expected = [session.run(None, {"z": np.repeat(z[row : row + 1], width, axis=0)})[0][0] for row in range(5)]
    torch.testing.assert_close(generator(latents), torch.from_numpy(np.stack(expected)), atol=1e-5, rtol=0)


def test_float64_where_the_model_is(tmp_path: Path) -> None:
    """onnxruntime has no transposed convolution in float64, so this one is a product."""
    helper = onnx.helper
    limits = [
        helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.array([value])))
        for name, value in (("from", 0), ("to", 3), ("axis", 1))
    ]
    nodes = [
        helper.make_node("Gemm", ["z", "linear", "bias"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["square"]),
        *limits,
        helper.make_node("Slice", ["square", "from", "to", "axis"], ["colours"]),
        helper.make_node("Tanh", ["colours"], ["picture"]),
    ]
    path = own.write_onnx(tmp_path / "a.onnx", kind=np.float64, nodes=nodes, sides=["batch", 3, 6, 6])
    kind = own.opened("onnx", path)
    assert kind.dtypes == ("float32", "float64")
    single, double = kind.load(CPU, torch.float32), kind.load(CPU, torch.float64)
    images = double(double.sample((1, 2)))
    assert images.dtype == torch.float64
    torch.testing.assert_close(single(single.sample((1, 2))).double(), images, atol=1e-6, rtol=0)


def test_weights_beside(tmp_path: Path) -> None:
    path = own.write_onnx(tmp_path / "a.onnx", beside=True)
    assert (tmp_path / "a.data").exists()
    kind = own.opened("onnx", path)
    generator = kind.load(CPU, torch.float32)
    (tmp_path / "other").mkdir()
    one = load(own.write_onnx(tmp_path / "other" / "a.onnx"))
    latents = generator.sample((1,))
    torch.testing.assert_close(generator(latents), one(latents), atol=1e-6, rtol=0)
    # What lies beside is part of the weights.
    data = bytearray((tmp_path / "a.data").read_bytes())
    data[7] ^= 1
    (tmp_path / "a.data").write_bytes(bytes(data))
    assert own.opened("onnx", path).weights_sha256 != kind.weights_sha256
    with pytest.raises(AssetError, match="another file than when it was opened"):
        kind.load(CPU, torch.float32)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../secret", "must lie in the same folder"),
        ("/etc/passwd", "must lie in the same folder"),
        ("deeper/a.data", "must lie in the same folder"),
        ("..\\secret", "must lie in the same folder"),
        ("..", "must lie in the same folder"),
        ("", "must lie in the same folder"),
        ("gone.data", "beside it, and there is none"),
        ("link.data", "beside it, and there is none"),
    ],
)
def test_weights_elsewhere(location: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 100_000)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.data").symlink_to(tmp_path / "secret")
    path = own.write_onnx(folder / "a.onnx", beside=True)
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(AssetError, match=said):
        own.opened("onnx", path)


def changed(path: Path, **more: Any) -> Path:
    helper = onnx.helper
    ending = helper.make_node("Tanh", ["wide"], ["picture"])
    nodes = [
        helper.make_node("Gemm", ["z", "linear", "bias"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["square"]),
        helper.make_node("ConvTranspose", ["square", "up"], ["wide"], strides=[4, 4]),
        *more.pop("last", [ending]),
    ]
    return own.write_onnx(path, nodes=nodes, **more)


def test_operators_of_a_library(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Decode", ["wide"], ["picture"], domain="com.example")
    path = changed(tmp_path / "a.onnx", last=[node], domains=("com.example",))
    with pytest.raises(AssetError, match=r'"com\.example\.Decode", which is none of the ONNX standard'):
        own.opened("onnx", path)


def test_operators_of_a_library_deep_inside(tmp_path: Path) -> None:
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    inner = helper.make_graph(
        [helper.make_node("Decode", ["wide"], ["out"], domain="com.example")],
        "inner",
        [],
        [helper.make_tensor_value_info("out", float32, None)],
    )
    truth = helper.make_node("Constant", [], ["truth"], value=onnx.numpy_helper.from_array(np.array(True)))
    branch = helper.make_node("If", ["truth"], ["picture"], then_branch=inner, else_branch=inner)
    path = changed(tmp_path / "a.onnx", last=[truth, branch], domains=("com.example",))
    with pytest.raises(AssetError, match="none of the ONNX standard"):
        own.opened("onnx", path)


def test_random_numbers(tmp_path: Path) -> None:
    noise = onnx.helper.make_node("RandomNormalLike", ["wide"], ["noise"])
    last = [
        noise,
        onnx.helper.make_node("Add", ["wide", "noise"], ["sum"]),
        onnx.helper.make_node("Tanh", ["sum"], ["picture"]),
    ]
    with pytest.raises(AssetError, match=r"draws random numbers \(RandomNormalLike\)"):
        own.opened("onnx", changed(tmp_path / "a.onnx", last=last))


def test_what_is_no_model(tmp_path: Path) -> None:
    path = own.write_onnx(tmp_path / "a.onnx")
    data = path.read_bytes()
    for content in (b"", b"no model", data[: len(data) // 2], data[:40]):
        path.write_bytes(content)
        with pytest.raises(AssetError, match="cut off, damaged, or no ONNX model"):
            own.opened("onnx", path)
    with pytest.raises(AssetError, match=r'no file "no\.onnx"'):
        own.opened("onnx", tmp_path / "no.onnx")
    with pytest.raises(AssetError, match="folder"):
        own.opened("onnx", tmp_path)


def test_what_onnxruntime_refuses(tmp_path: Path) -> None:
    """An operator of the standard that there is not; found when the model is loaded."""
    path = changed(tmp_path / "a.onnx", last=[onnx.helper.make_node("Tangent", ["wide"], ["picture"])])
    path.with_suffix(".toml").write_text("range = [-1, 1]")
    with pytest.raises(AssetError, match=r"onnxruntime refuses a\.onnx: .*Tangent") as caught:
        load(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("sides", "text", "said"),
    [
        (["batch", 1, 24, 24], "", r"gives \[rows, 1, 24, 24\], and a picture is"),
        (["batch", 3, "h", "w"], "", r"size is missing.*size = \[64, 64\]"),
        (["batch", 3, "h", "w"], "size = [32, 32]", r"gives \[3, 3, 24, 24\] for three rows, expected .*32, 32\]"),
        ([3, 3, 24, 24], "range = [0, 1]", "expected .0, 1.; set `range` in a.toml"),
        (["batch", 3, 24, 24], "[latents.w]", '"latents.w" is not known, accepted: z'),
        (["batch", 3, 24, 24], "differentiable = true", "leave out differentiable.*gives no gradient"),
        (["batch", 3, 24, 24], 'dtypes = ["float64"]', "leave out differentiable and dtypes.*computes in float32"),
    ],
)
def test_a_text_that_does_not_fit(sides: list[Any], text: str, said: str, tmp_path: Path) -> None:
    path = own.write_onnx(tmp_path / "a.onnx", sides[0] if isinstance(sides[0], int) else None, sides=sides)
    path.with_suffix(".toml").write_text(text)
    with pytest.raises(AssetError, match=said):
        load(path)


def test_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from latent_inv.generators import onnx_file

    path = own.write_onnx(tmp_path / "a.onnx")
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match=r'pip install "latent-inv\[onnx\]"'):
        own.opened("onnx", path)


def test_the_library_is_not_imported_for_nothing() -> None:
    import subprocess
    import sys

    code = "import sys, latent_inv.generators; sys.exit(any(m in sys.modules for m in ('onnx', 'onnxruntime')))"
    subprocess.run([sys.executable, "-c", code], check=True)
