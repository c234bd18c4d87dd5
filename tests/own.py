"""Files of generators of one's own, as users make them: tiny decoders, exported, converted or made by a factory."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latent_inv.generators import FAMILIES, Generator
from tests.conftest import require

DIMENSIONS = 6
CLASSES = 5


class Vector(nn.Module):
    """[R, 6] -> [R, 3, 24, 24] in [-1, 1]: smooth, with constants, formats and an operation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(DIMENSIONS, 8 * 6 * 6)
        self.middle = nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.last = nn.ConvTranspose2d(6, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(z * torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6, 0.5]))).view(-1, 8, 6, 6)
        hidden = self.drop(torch.tanh_(self.norm(self.middle(hidden)))).to(z.dtype)
        ramp = torch.linspace(-1, 1, 12) @ torch.ones(12, 12)
        return torch.tanh(self.last(hidden + 0.1 * ramp))


class AnySize(nn.Module):
    """[R, 4, H/8, W/8] and a class [R, 5] -> [R, H, W, 3] in [0, 255]."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(CLASSES, 8)
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 8, 8)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, code: Tensor, kind: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(code) * (1 + self.scale(kind))[:, :, None, None])
        picture = torch.sigmoid(self.last(torch.tanh(self.up(hidden))))
        return 255 * picture.permute(0, 2, 3, 1)


ANY_SIZE = """
title = "Any size"
range = [0, 255]
layout = "channels_last"
licence = ["made here", "no data", "nothing"]
source = "tests"

[latents.code]
shape = [4, "height / 8", "width/8"]
prior = "uniform"

[latents.kind]
prior = "categorical"
role = "fixed"
"""


def seeded(kind: type[nn.Module]) -> nn.Module:
    """A module with the same weights every time, ready for use."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return kind().eval()


def export(
    path: Path, module: nn.Module, inputs: tuple[Tensor, ...], shapes: Any = None, *, decompose: bool = False
) -> Path:
    """Write what `torch.export.save` writes."""
    program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions() if decompose else program, path)
    return path


def export_vector(path: Path, rows: int | None = None, **more: Any) -> Path:
    """`Vector` for so many rows a call; None: any."""
    shapes = {"z": {0: torch.export.Dim("batch")}} if rows is None else None
    return export(path, seeded(Vector), (torch.zeros(rows or 2, DIMENSIONS),), shapes, **more)


def export_any_size(path: Path) -> Path:
    """`AnySize`, with the text beside it."""
    free = torch.export.Dim.DYNAMIC
    shapes = {"code": {0: free, 2: free, 3: free}, "kind": {0: free}}
    export(path, seeded(AnySize), (torch.zeros(2, 4, 3, 5), torch.zeros(2, CLASSES)), shapes)
    path.with_suffix(".toml").write_text(ANY_SIZE, encoding="utf-8")
    return path


def require_onnx() -> None:
    """Skip the test where there is no onnxruntime."""
    found = all(find_spec(package) is not None for package in ("onnx", "onnxruntime"))
    require("onnx", found, "pip install 'latent-inv[onnx]'")


def write_onnx(path: Path, rows: int | None = None, *, beside: bool = False, **more: Any) -> Path:
    """A linear layer, a transposed convolution and tanh: [R, 6] -> [R, 3, 24, 24].

    Args:
        beside: put the weights into a file of their own.
        more: further nodes, initial values or domains, for what must be refused.
    """
    require_onnx()
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(5)
    weights = {
        "linear": random.normal(size=(DIMENSIONS, 8 * 6 * 6)) / 3,
        "bias": random.normal(size=(8 * 6 * 6)) / 3,
        "up": random.normal(size=(8, 3, 4, 4)) / 3,
    }
    kind = more.get("kind", np.float32)
    tensors = [numpy_helper.from_array(value.astype(kind), name) for name, value in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([-1, 8, 6, 6]), "shape"))
    nodes = more.get("nodes") or [
        helper.make_node("Gemm", ["z", "linear", "bias"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["square"]),
        helper.make_node("ConvTranspose", ["square", "up"], ["wide"], strides=[4, 4]),
        helper.make_node("Tanh", ["wide"], ["picture"]),
    ]
    batch = "batch" if rows is None else rows
    number = TensorProto.FLOAT if kind == np.float32 else TensorProto.DOUBLE
    picture = helper.make_tensor_value_info("picture", number, more.get("sides", [batch, 3, 24, 24]))
    z = helper.make_tensor_value_info("z", number, [batch, DIMENSIONS])
    graph = helper.make_graph(nodes, "decoder", [z], [picture], tensors)
    imports = [helper.make_opsetid("", 21), *(helper.make_opsetid(one, 1) for one in more.get("domains", ()))]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    if beside:
        onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.stem}.data", size_threshold=256)
    else:
        onnx.save_model(model, str(path))
    return path


def described_module() -> tuple[nn.Module, dict[str, Any]]:
    """What an entry `python:tests.own:described_module` returns."""
    return seeded(Vector), {"range": [-1.0, 1.0], "size": [24, 24], "latents": {"z": {"shape": [DIMENSIONS]}}}


def opened(family: str, reference: Path | str, name: str = "own") -> type[Generator]:
    """The class of a reference."""
    return FAMILIES[family](str(reference), name)
