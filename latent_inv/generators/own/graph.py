"""A saved program, run operator by operator: no Python is made of it, so nothing in a file can become code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latent_inv.errors import AssetError

from .operators import is_ignored, is_random, operator_of
from .pt2 import DTYPES, Archive

#: formats that stand for "the program's own": they become the one that is asked for
_OWN = (torch.float16, torch.bfloat16, torch.float32)
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_STRIDED = 7
#: arguments of operators that make tensors from nothing
_MAKERS = ("arange", "eye", "full", "linspace", "ones", "scalar_tensor", "zeros")


@dataclass(frozen=True)
class Value:
    """An earlier result, by its name."""

    name: str


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes:
        results: their names; None: not needed; a list where the call gives one.
        several: does it give more than one result?
        last: names of what nobody needs after it.
    """

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    results: tuple[Any, ...]
    several: bool
    last: tuple[str, ...] = field(default=())


class Graph(nn.Module):
    """A program with its weights: inputs in order, [R, …] -> one tensor, [R, …].

    Gradients and forward mode go through it as through any module. Its own numbers, which are float32, float16 or
    bfloat16 (and float64 where its inputs are), become `dtype`; whole numbers stay.

    Raises:
        AssetError: it uses an operator or an argument that is not known; names it.
    """

    def __init__(self, archive: Archive, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self._file, self._device, self._dtype = archive.name, device, dtype
        signature = archive.signature()
        self._inputs = [form.name for form in signature.inputs]
        double = any(form.kind == "float64" for form in signature.inputs)
        self._own = (*_OWN, torch.float64) if double else _OWN
        self._fixed = archive.constants()
        self._held: dict[str, str] = {}
        for number, (name, tensor) in enumerate(archive.tensors().items()):
            placed = tensor.to(device=device, dtype=self._format(tensor.dtype), copy=True)
            self._held[name] = f"tensor_{number}"
            if placed.is_floating_point():
                self.register_parameter(self._held[name], nn.Parameter(placed, requires_grad=False))
            else:
                self.register_buffer(self._held[name], placed)
        with archive.reading():
            graph = archive.program["graph_module"]["graph"]
            self._output = str(graph["outputs"][0]["as_tensor"]["name"])
            self._steps = self._ended([self._step(node, graph) for node in graph["nodes"] if not _only_states(node)])

    def forward(self, *inputs: Tensor) -> Tensor:
        values: dict[str, Any] = {**self._fixed, **{name: getattr(self, own) for name, own in self._held.items()}}
        values.update(zip(self._inputs, inputs, strict=True))
        for step in self._steps:
            found = step.call(
                *(_filled(one, values) for one in step.arguments),
                **{name: _filled(one, values) for name, one in step.keywords.items()},
            )
            _keep(step.results, found if step.several else (found,), values)
            for name in step.last:
                values.pop(name, None)
        return values[self._output]

    def _step(self, node: Mapping[str, Any], graph: Mapping[str, Any]) -> Step:
        target = str(node["target"])
        call = operator_of(target, self._file)
        given = {str(one["name"]): self._argument(one["arg"]) for one in node["inputs"]}
        positional = [one["name"] for one in node["inputs"] if one.get("kind") != 2]
        keywords = {name: value for name, value in given.items() if name not in positional}
        if _draws(call, given):
            raise is_random(target.split(".")[-2], self._file)
        outputs = node["outputs"]
        named = [_results(one) for one in outputs]
        listed = len(outputs) == 1 and isinstance(named[0], list)
        results = named[0] if listed else named
        self._give_format(call, given, keywords, outputs, graph)
        return Step(call, tuple(given[n] for n in positional), keywords, tuple(results), listed or len(outputs) > 1)

    def _give_format(
        self,
        call: Callable[..., Any],
        given: Mapping[str, Any],
        keywords: dict[str, Any],
        outputs: Sequence[Mapping[str, Any]],
        graph: Mapping[str, Any],
    ) -> None:
        """What is made from nothing has torch's default format if none is named, and would not mix with float64."""
        schema = getattr(call, "_schema", None)
        if schema is None or schema.name.split("::")[-1] not in _MAKERS or given.get("dtype") is not None:
            return
        dtype = DTYPES[graph["tensor_values"][outputs[0]["as_tensor"]["name"]]["dtype"]]
        keywords["dtype"] = self._format(dtype)
        if any(argument.name == "device" for argument in schema.arguments):
            keywords["device"] = self._device

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        reader = _PLAIN.get(kind)
        if reader is not None:
            return reader(value)
        if kind == "as_scalar_type":
            return self._format(DTYPES[value])
        if kind == "as_device":
            return self._device
        if kind == "as_layout" and value == _STRIDED:
            return torch.strided
        raise AssetError(f"{self._file} has an argument of the kind {kind!s:.40}, which is not read")

    def _format(self, dtype: torch.dtype) -> torch.dtype:
        return self._dtype if dtype in self._own else dtype

    def _ended(self, steps: list[Step]) -> tuple[Step, ...]:
        """Say at each step which results nobody needs after it, so that their memory is free."""
        needed = {self._output}
        backwards: list[Step] = []
        for step in reversed(steps):
            used = set(_names((*step.arguments, *step.keywords.values())))
            mine = {name for name in _flat(step.results) if name is not None}
            # What is held by the module itself costs nothing more.
            over = ((used | mine) - needed) - set(self._held)
            needed |= used
            backwards.append(Step(step.call, step.arguments, step.keywords, step.results, step.several, tuple(over)))
        return tuple(reversed(backwards))


def _maybe_value(argument: Mapping[str, Any]) -> Value | None:
    return Value(str(argument["as_tensor"]["name"])) if "as_tensor" in argument else None


def _size(argument: Mapping[str, Any]) -> Any:
    ((kind, value),) = argument.items()
    return Value(str(value)) if kind == "as_name" else value


#: kind of an argument -> what it means, where that depends on nothing else
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "as_none": lambda _: None,
    "as_tensor": lambda one: Value(str(one["name"])),
    "as_tensors": lambda many: [Value(str(one["name"])) for one in many],
    "as_optional_tensor": _maybe_value,
    "as_optional_tensors": lambda many: [_maybe_value(one) for one in many],
    "as_int": int,
    "as_ints": lambda many: [int(one) for one in many],
    "as_float": float,
    "as_floats": lambda many: [float(one) for one in many],
    "as_bool": bool,
    "as_bools": lambda many: [bool(one) for one in many],
    "as_string": str,
    "as_sym_int": _size,
    "as_sym_ints": lambda many: [_size(one) for one in many],
    "as_sym_float": _size,
    "as_sym_floats": lambda many: [_size(one) for one in many],
    "as_sym_bool": _size,
    "as_memory_format": lambda code: _MEMORY_FORMATS[code],
}


def _only_states(node: Mapping[str, Any]) -> bool:
    return is_ignored(str(node["target"]))


def _draws(call: Callable[..., Any], given: Mapping[str, Any]) -> bool:
    if torch.Tag.nondeterministic_seeded not in getattr(call, "tags", ()):
        return False
    # Attention and dropout are so only if they drop something.
    switches = {one.name: one.default_value for one in call._schema.arguments if one.name in ("train", "dropout_p")}  # type: ignore[attr-defined]
    return all(given.get(name, default) for name, default in switches.items())


def _results(output: Mapping[str, Any]) -> Any:
    """Names of a result: one, or a list of them."""
    ((kind, value),) = output.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return str(value["name"])
    if kind == "as_tensors":
        return [str(one["name"]) for one in value]
    return str(value["as_name"]) if isinstance(value, Mapping) and "as_name" in value else None


def _keep(names: Sequence[Any], found: Sequence[Any], values: dict[str, Any]) -> None:
    for name, one in zip(names, found, strict=True):
        if isinstance(name, list):
            _keep(name, one, values)
        elif name is not None:
            values[name] = one


def _filled(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, Value):
        return values[argument.name]
    return [_filled(one, values) for one in argument] if isinstance(argument, list) else argument


def _flat(names: Sequence[Any]) -> list[Any]:
    return [deeper for name in names for deeper in (_flat(name) if isinstance(name, list) else [name])]


def _names(arguments: Sequence[Any]) -> list[str]:
    found: list[str] = []
    for one in arguments:
        if isinstance(one, Value):
            found.append(one.name)
        elif isinstance(one, list):
            found += _names(one)
    return found
