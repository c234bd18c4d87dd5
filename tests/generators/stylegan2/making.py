"""Small networks, and checkpoints in the layouts of the public ones."""

from __future__ import annotations

import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from latent_inv.generators.stylegan2.architecture import Architecture
from latent_inv.generators.stylegan2.network import StyleGAN2

SMALL = Architecture(z=8, classes=0, w=6, embedded=0, hidden=7, depth=3, base=(4, 4), channels=(6, 5, 4))
CLASSES = Architecture(
    z=8, classes=3, w=6, embedded=6, hidden=6, depth=2, base=(2, 4), channels=(5, 4), clamp=256.0, rate=0.02
)


def network(shape: Architecture = SMALL, seed: int = 0) -> StyleGAN2:
    """Random weights; nothing that a mistake could hide behind is 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = StyleGAN2(shape)
        for name, parameter in made.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.data += 0.3 * torch.randn_like(parameter)
            if name.endswith("torgb.weight"):
                parameter.data *= 0.2
        made.mapping.w_avg.copy_(torch.randn(shape.w))
    return made.eval().requires_grad_(False)


def _persistent(*_: Any) -> None:
    raise AssertionError("ran")


def _easy(*_: Any) -> None:
    raise AssertionError("ran")


class _Persistent:
    """What a module of the public code becomes in a pickle: a call with a dictionary."""

    def __init__(self, name: str, state: dict[str, Any]) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit('the source of the file was run')",
            "class_name": name,
            "state": state,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,), None)


def persistent(module: torch.nn.Module, shape: Architecture, name: str = "") -> _Persistent:
    """A module as the public code keeps it."""
    state: dict[str, Any] = {
        "training": False,
        "_parameters": OrderedDict(
            (n, torch.nn.Parameter(p.clone())) for n, p in module._parameters.items() if p is not None
        ),
        "_buffers": OrderedDict((n, b.clone()) for n, b in module._buffers.items() if b is not None),
        "_modules": OrderedDict(
            (n, persistent(m, shape, f"{name}.{n}")) for n, m in module._modules.items() if m is not None
        ),
        "_backward_hooks": OrderedDict(),
        "init_kwargs": sys.modules["dnnlib.util"].EasyDict(z_dim=shape.z),
    }
    kind = type(module).__name__
    if kind == "Dense":
        state |= {"activation": "lrelu" if ".fc" in name else "linear", "bias_gain": module.rate}
    if kind in ("Convolution", "Colours"):
        state["conv_clamp"] = shape.clamp
    if kind == "Convolution":
        state |= {"use_noise": True, "activation": "lrelu"}
    if kind == "Block":
        state["architecture"] = "skip"
    return _Persistent(kind, state)


@contextmanager
def public_modules() -> Iterator[None]:
    """Modules with the names of the public code, there while a pickle is written and gone when it is read."""
    persistence, util = ModuleType("torch_utils.persistence"), ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(_meta: Any) -> None:
        raise AssertionError("the pickle was run")

    _reconstruct_persistent_obj.__module__ = persistence.__name__
    _reconstruct_persistent_obj.__qualname__ = _reconstruct_persistent_obj.__name__
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    easy = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    util.EasyDict = easy  # type: ignore[attr-defined]
    names = {"torch_utils": ModuleType("torch_utils"), persistence.__name__: persistence}
    names |= {"dnnlib": ModuleType("dnnlib"), util.__name__: util}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def pickled(made: StyleGAN2, protocol: int = 4, **more: Any) -> bytes:
    """A `.pkl` as the public training code writes it."""
    with public_modules():
        content = {"training_set_kwargs": sys.modules["dnnlib.util"].EasyDict(), "G": None, "D": None, **more}
        content["G_ema"] = persistent(made, made.shape)
        return pickle.dumps(content, protocol)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def state_dictionary(made: StyleGAN2) -> dict[str, Tensor]:
    """The same network with the names and scales of the other public implementation."""
    state: dict[str, Tensor] = {"latent_avg": made.mapping.w_avg, "input.input": made.synthesis.b4.const[None]}
    for index in range(made.shape.depth):
        for kind in ("weight", "bias"):
            state[f"style.{index + 1}.{kind}"] = getattr(made.mapping.get_submodule(f"fc{index}"), kind)
    for number, layer in enumerate(made.shape.layers):
        conv = made.synthesis.get_submodule(layer)
        name = "conv1" if number == 0 else f"convs.{number - 1}"
        state[f"{name}.conv.weight"] = conv.weight[None] * conv.weight[0].numel() ** 0.5
        state[f"{name}.conv.modulation.weight"] = conv.affine.weight
        state[f"{name}.conv.modulation.bias"] = conv.affine.bias
        state[f"{name}.noise.weight"] = conv.noise_strength.reshape(1)
        state[f"{name}.activate.bias"] = conv.bias
        state[f"noises.noise_{number}"] = conv.noise_const[None, None]
        if conv.up:
            state[f"{name}.conv.blur.kernel"] = conv.resample_filter * 4
    for number, block in enumerate(made.shape.blocks):
        colours = made.synthesis.get_submodule(f"{block}.torgb")
        name = "to_rgb1" if number == 0 else f"to_rgbs.{number - 1}"
        state[f"{name}.conv.weight"] = colours.weight[None]
        state[f"{name}.conv.modulation.weight"] = colours.affine.weight
        state[f"{name}.conv.modulation.bias"] = colours.affine.bias
        state[f"{name}.bias"] = colours.bias.reshape(1, 3, 1, 1)
        if number:
            state[f"{name}.upsample.kernel"] = made.synthesis.get_submodule(block).resample_filter * 4
    return {name: tensor.clone() for name, tensor in state.items()}


def saved(content: Any, zipped: bool = True) -> bytes:
    """Bytes of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()
