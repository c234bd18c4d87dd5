"""`onnx:FILE.onnx`: an ONNX model run by onnxruntime on the CPU, with a text beside it that says what its numbers mean.

It gives no gradient, so its latents are searched without one. A converter to torch would give gradients, but none is
kept up; where the module is at hand, `exported:` has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from latent_inv.errors import AssetError, LatentInvError
from latent_inv.files import read_bytes, sha256_of
from latent_inv.incidents import is_out_of_memory

from .base import Generator
from .own.adapter import Own, attributes
from .own.description import describe, read_table
from .own.signature import BOUNDS, Form, Signature

if TYPE_CHECKING:
    import onnx

#: protobuf can hold no more
_MAX_BYTES = 2**31 - 1
#: operators of the ONNX standard are all that is run
_STANDARD = ("", "ai.onnx")
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
#: onnxruntime's names of the formats of inputs
_FORMATS = {"float32": np.float32, "float64": np.float64, "float16": np.float16}


class OnnxFile(Own):
    """A model in a session of onnxruntime, which computes on the CPU whatever the device."""

    path: ClassVar[Path]
    parts: ClassVar[tuple[Path, ...]]

    @classmethod
    def make_network(cls, device: torch.device, dtype: torch.dtype) -> nn.Module:
        if _digest(cls.path, cls.parts) != cls.weights_sha256:
            raise AssetError(f"{cls.file} is another file than when it was opened; start again")
        return Session(cls.path, cls.signature)

    @property
    def hidden_bytes(self) -> int:
        """The session holds what is in the files."""
        return sum(path.stat().st_size for path in (self.path, *self.parts) if path.exists())


class Session(nn.Module):
    """The model as a module without parameters: inputs in order, [R, …] -> one tensor, [R, …], on their device.

    Raises:
        AssetError: onnxruntime refuses the model.
    """

    def __init__(self, path: Path, signature: Signature) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.use_deterministic_compute = True
        try:
            # By its path, as other files of weights are beside it.
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a dozen kinds of its own
            if is_out_of_memory(error):
                raise
            raise AssetError(f"onnxruntime refuses {path.name}: {_without_folder(error, path)}") from error
        self._file, self._forms = path, signature.inputs

    def forward(self, *inputs: Tensor) -> Tensor:
        fed = {
            form.name: np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=_FORMATS[form.kind])
            for form, tensor in zip(self._forms, inputs, strict=True)
        }
        try:
            (found,) = self._session.run(None, fed)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise AssetError(
                f"onnxruntime could not run {self._file.name}: {_without_folder(error, self._file)}"
            ) from error
        return torch.from_numpy(np.asarray(found)).to(inputs[0].device)


def open_onnx(reference: str, name: str) -> type[Generator]:
    """The class of one model.

    Args:
        reference: path of the file.
        name: what the generator is to be called.
    Raises:
        AssetError: file or text are not there or cannot be used, or onnxruntime is not installed.
    """
    missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise AssetError(f'ONNX models need {" and ".join(missing)}: pip install "latent-inv[onnx]"')
    path = Path(reference).expanduser()
    beside = path.with_suffix(".toml").name
    try:
        data = read_bytes(path, _MAX_BYTES)
    except LatentInvError as error:
        raise AssetError(error.message) from error
    model = _parse(data, path.name)
    parts = _check(model, path)
    signature = _signature(model, path.name)
    can: dict[str, Any] = {"differentiable": False, "dtypes": _computes_in(signature)}
    description = describe({**can, **read_table(path)}, signature, beside, path.stem)
    if description.differentiable or not set(description.dtypes) <= set(can["dtypes"]):
        text = f"{path.name} computes in {' or '.join(can['dtypes'])} and gives no gradient"
        raise AssetError(f"{beside}: leave out differentiable and dtypes, as {text}")
    own = attributes(
        description,
        signature,
        name=name,
        file=path.name,
        beside=beside,
        sha256=_digest(path, parts),
        path=path.absolute(),
        parts=parts,
    )
    return type("OnnxFile", (OnnxFile,), own)


def _parse(data: bytes, file: str) -> onnx.ModelProto:
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf has several kinds
        raise AssetError(f"{file} is cut off, damaged, or no ONNX model") from error
    if not model.graph.node or not model.graph.output:
        raise AssetError(f"{file} is cut off, damaged, or no ONNX model")
    return model


def _check(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Refuse what is not of the standard; the files of weights beside it."""
    for node in _nodes(model):
        if node.domain not in _STANDARD and not any(one.domain == node.domain for one in model.functions):
            shown = f"{node.domain}.{node.op_type}".encode("ascii", "replace").decode()
            text = f'{path.name} uses the operator "{shown:.80}", which is none of the ONNX standard'
            raise AssetError(f"{text}; libraries of further operators are never loaded")
        if node.domain in _STANDARD and node.op_type in _RANDOM:
            text = f"{path.name} draws random numbers ({node.op_type}), and a picture must depend on its latents alone"
            raise AssetError(f"{text}; make the noise an input")
    parts: set[Path] = set()
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                parts.add(_beside(path, entry.value))
    return tuple(sorted(parts))


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    waiting = [list(model.graph.node), *(list(function.node) for function in model.functions)]
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                waiting += [list(graph.node) for graph in (attribute.g, *attribute.graphs)]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph]
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            graphs += [attribute.g, *attribute.graphs]
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def _beside(path: Path, location: str) -> Path:
    """A file of weights, which must be in the model's own folder."""
    plain = PurePosixPath(location)
    part = path.parent / location
    if "\\" in location or plain.is_absolute() or len(plain.parts) != 1 or plain.name in ("", ".."):
        raise AssetError(f'{path.name} has weights in "{location:.80}"; they must lie in the same folder')
    if part.is_symlink() or not part.is_file():
        raise AssetError(f'{path.name} needs the file "{location:.80}" beside it, and there is none')
    return part.absolute()


def _signature(model: onnx.ModelProto, file: str) -> Signature:
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    if len(graph.output) != 1:
        raise AssetError(f"{file} gives {len(graph.output)} results; export a module that gives the picture alone")
    values = [*inputs, graph.output[0]]
    if any(not value.type.tensor_type.shape.dim for value in inputs):
        raise AssetError(f"{file} has an input without rows; its first side must be the batch")
    firsts = [value.type.tensor_type.shape.dim[0] for value in values if value.type.tensor_type.shape.dim]
    fixed = {first.dim_value for first in firsts if first.HasField("dim_value")}
    if len(fixed) > 1 or min(fixed, default=1) < 1:
        raise AssetError(f"{file} has inputs and result with {sorted(fixed)} rows; they must have the same")
    # A free first side of the result is often just not worked out: what inputs need is what counts.
    rows = fixed.pop() if fixed else None
    last = next((node for node in graph.node if graph.output[0].name in node.output), None)
    picture = _form(graph.output[0])
    return Signature(
        inputs=tuple(_form(value) for value in inputs),
        picture=picture if picture.shape else None,
        least=rows or 1,
        most=rows,
        bounds=BOUNDS.get(last.op_type.lower()) if last is not None and last.domain in _STANDARD else None,
    )


def _computes_in(signature: Signature) -> list[str]:
    """Formats that the model itself computes in; float32 stands for float16, too."""
    return ["float32", "float64"] if all(form.kind == "float64" for form in signature.inputs) else ["float32"]


def _form(value: onnx.ValueInfoProto) -> Form:
    import onnx

    kind = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    except KeyError:
        dtype = "no plain number format"
    sides = [side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None for side in kind.shape.dim]
    return Form(value.name, tuple(sides[1:]), dtype, dtype in _FORMATS)


def _digest(path: Path, parts: tuple[Path, ...]) -> str:
    """SHA-256 of the file; with weights beside it, of all their hashes."""
    try:
        own = [sha256_of(one) for one in (path, *parts)]
    except OSError as error:
        raise AssetError(f'cannot read "{path.name}" or its weights: {error.strerror}') from error
    return own[0] if not parts else hashlib.sha256("".join(own).encode()).hexdigest()


def _without_folder(error: Exception, path: Path) -> str:
    return " ".join(str(error).replace(f"{path.parent.absolute()}/", "").split())[:300]


__all__ = ["OnnxFile", "Session", "open_onnx"]
