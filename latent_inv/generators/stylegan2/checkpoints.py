"""From public checkpoints of StyleGAN2 to weights by name: pickles with records, and state dictionaries in `.pt`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latent_inv.assets import load_checkpoint
from latent_inv.errors import AssetError, InputError
from latent_inv.files import read_bytes

from .architecture import Architecture
from .network import StyleGAN2
from .pickles import MAX_BYTES, PERSISTENT, Record, read_pickle
from .records import as_number, as_tensor

Weights = dict[str, Tensor]
#: names of networks in a file, the first one that is there is taken: G_ema is the mean over the training
_NETWORKS = ("G_ema", "G")
#: modules in modules; a network of 1024 × 1024 has 5
_MAX_DEPTH = 12
_MAX_SIDE, _MAX_BLOCKS, _MAX_MAPPING = 16384, 11, 32


def read_checkpoint(path: Path) -> tuple[Architecture, Weights]:
    """Weights with our names, complete and of the right shapes, and what they are for.

    Raises:
        InputError: damaged, of another kind, or with missing or unknown weights, which are listed.
    """
    with open(path, "rb") if path.is_file() else _absent(path) as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        try:
            # Training scripts keep their options beside the weights.
            content: Any = load_checkpoint(path, containers=[argparse.Namespace])
        except AssetError as error:
            raise InputError(error.message, field="checkpoint") from error
    else:
        content = read_pickle(read_bytes(path, MAX_BYTES))
    if not isinstance(content, dict):
        raise InputError(f"the file holds a {type(content).__name__}, expected networks by name", field="checkpoint")
    settings: dict[str, Any] = {}
    if "g_ema" in content and isinstance(content["g_ema"], dict):
        weights = _renamed(_tensors_of(content["g_ema"]))
    else:
        name = next((name for name in _NETWORKS if isinstance(content.get(name), Record)), None)
        if name is None:
            raise InputError(
                f"no G_ema, G or g_ema is in the file, found {', '.join(map(str, list(content)[:8])) or 'nothing'}",
                field="checkpoint",
            )
        weights, settings = _network(content[name])
    shape = architecture(weights, settings)
    check(shape, weights)
    return shape, weights


def _absent(path: Path) -> Any:
    raise InputError(f'there is no file "{path.name}"', field="checkpoint")


# ---- pickles -------------------------------------------------------------------------------------


def _network(record: Record) -> tuple[Weights, dict[str, Any]]:
    """All tensors of a persistent object by name, and the settings that decide what it computes."""
    weights: Weights = {}
    settings: dict[str, Any] = {}

    def visit(item: Any, prefix: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise InputError("modules are nested too deeply", field="checkpoint")
        state = _state(item)
        for kind in ("_parameters", "_buffers"):
            for name, value in _dictionary(state, kind).items():
                tensor = as_tensor(value, f"{prefix}{name}")
                if tensor is not None:
                    weights[f"{prefix}{name}"] = tensor
        for setting in ("architecture", "activation", "conv_clamp", "lr_multiplier", "bias_gain", "use_noise"):
            if setting in state:
                settings[f"{prefix}{setting}"] = as_number(state[setting])
        for name, module in _dictionary(state, "_modules").items():
            if module is not None:
                visit(module, f"{prefix}{name}.", depth + 1)

    visit(record, "", 0)
    return weights, settings


def _state(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Record) and item.name == PERSISTENT and len(item.args) == 1:
        meta = item.args[0]
        if isinstance(meta, dict) and meta.get("type") == "class" and isinstance(meta.get("state"), dict):
            state: Mapping[str, Any] = meta["state"]
            return state
    raise InputError("a module of the network is no persistent object with a state", field="checkpoint")


def _dictionary(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = state.get(name) or {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InputError(f"{name} of a module are not by name", field="checkpoint")
    return found


# ---- state dictionaries --------------------------------------------------------------------------

#: names of the other public implementation -> ours; {n} counts its convolutions after the first
_LAYER = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "conv.blur.kernel": "resample_filter",
    "bias": "bias",
    "upsample.kernel": "resample_filter",
}


def _tensors_of(state: Mapping[str, Any]) -> Weights:
    found: Weights = {}
    for name, value in state.items():
        tensor = value if isinstance(value, Tensor) else as_tensor(value, str(name))
        if tensor is None:
            raise InputError(f"{name!s:.80} of g_ema is no tensor", field="checkpoint")
        found[str(name)] = tensor.float()
    return found


def _renamed(state: Weights) -> Weights:
    """A state dictionary of that implementation, with our names and scales."""
    weights: Weights = {}
    for name, value in state.items():
        new = _new_name(name)
        if new.endswith("resample_filter"):
            value = value / 4  # theirs has the gain of doubling in it
        elif new.endswith("noise_const"):
            value = value.reshape(value.shape[-2:])
        elif new.endswith("noise_strength"):
            value = value.reshape(())
        elif new.endswith(".bias"):
            value = value.reshape(-1)
        elif re.search(r"(conv\d|torgb)\.weight$", new) and value.dim() == 5:
            value = value[0]
            if not new.endswith("torgb.weight"):
                # Theirs is scaled before it is demodulated, which matters to the small number under the root.
                value = value / float(value[0].numel()) ** 0.5
        elif new == "synthesis.b4.const":
            value = value[0]
        weights[new] = value
    for name in [name for name in weights if name.endswith("conv0.weight")]:
        # One filter a layer there and here, one more for pictures, and here also where nothing is doubled.
        block = name.removesuffix("conv0.weight")
        taps = weights.get(f"{block}conv0.resample_filter")
        if taps is not None:
            for place in (f"{block}conv1", block[:-1], "synthesis.b4.conv1", "synthesis.b4"):
                weights.setdefault(f"{place}.resample_filter", taps)
    if "mapping.w_avg" not in weights and "mapping.fc0.weight" in weights:
        weights["mapping.w_avg"] = torch.zeros(weights["mapping.fc0.weight"].shape[0])
    return weights


def _new_name(name: str) -> str:
    if name == "latent_avg":
        return "mapping.w_avg"
    if name == "input.input":
        return "synthesis.b4.const"
    if found := re.fullmatch(r"style\.(\d+)\.(weight|bias)", name):
        return f"mapping.fc{int(found[1]) - 1}.{found[2]}"
    if found := re.fullmatch(r"noises\.noise_(\d+)", name):
        return f"synthesis.{_convolution(int(found[1]))}.noise_const"
    if found := re.fullmatch(r"(conv1|convs\.(\d+)|to_rgb1|to_rgbs\.(\d+))\.(.+)", name):
        place = (
            "b4.conv1"
            if found[1] == "conv1"
            else "b4.torgb"
            if found[1] == "to_rgb1"
            else _convolution(int(found[2]) + 1)
            if found[2]
            else f"b{8 << int(found[3])}.torgb"
        )
        if found[4] in _LAYER:
            new = _LAYER[found[4]]
            return f"synthesis.{place.removesuffix('.torgb') if found[4] == 'upsample.kernel' else place}.{new}"
    return name


def _convolution(index: int) -> str:
    return "b4.conv1" if index == 0 else f"b{4 << (index + 1) // 2}.conv{(index + 1) % 2}"


# ---- shapes --------------------------------------------------------------------------------------


def architecture(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Architecture:
    """What a network with these weights is.

    Raises:
        InputError: it is no StyleGAN2 that we know.
    """
    for name, value in settings.items():
        kind = name.rpartition(".")[2]
        if kind == "architecture" and value != "skip":
            raise InputError(f'the architecture "{value!s:.40}" is not supported, accepted: skip', field="checkpoint")
        if kind == "activation" and value not in ("lrelu", "linear"):
            raise InputError(f'the activation "{value!s:.40}" is not supported, accepted: lrelu', field="checkpoint")
        if kind == "use_noise" and value is False:
            raise InputError("a generator without noise inputs is not supported", field="checkpoint")
    clamps = {value for name, value in settings.items() if name.endswith("conv_clamp")}
    rates = {value for name, value in settings.items() if re.search(r"fc\d+\.bias_gain$", name)}
    if len(clamps) > 1 or len(rates) > 1:
        raise InputError("layers of one network with different clamps or learning rates", field="checkpoint")
    blocks = 0
    while f"synthesis.b{4 << blocks}.conv1.weight" in weights:
        blocks += 1
    depth = 0
    while f"mapping.fc{depth}.weight" in weights:
        depth += 1
    try:
        const = weights["synthesis.b4.const"]
        first, last = weights["mapping.fc0.weight"], weights[f"mapping.fc{depth - 1}.weight"]
        embed = weights.get("mapping.embed.weight")
        embedded, classes = embed.shape if embed is not None else (0, 0)
        taps = weights["synthesis.b4.conv1.resample_filter"].shape[0]
        clamp = next(iter(clamps), None)
        found = Architecture(
            z=first.shape[1] - embedded,
            classes=classes,
            w=last.shape[0],
            embedded=embedded,
            hidden=first.shape[0] if depth > 1 else last.shape[0],
            depth=depth,
            base=(const.shape[1], const.shape[2]),
            channels=tuple(weights[f"synthesis.b{4 << n}.conv1.weight"].shape[0] for n in range(blocks)),
            taps=taps,
            rate=float(next(iter(rates), 0.01)),
            clamp=None if clamp is None else float(clamp),
        )
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(f"this is no StyleGAN2: {error!s:.80} is missing or damaged", field="checkpoint") from error
    if (
        not 1 <= blocks <= _MAX_BLOCKS
        or not 1 <= depth <= _MAX_MAPPING
        or max(found.size) > _MAX_SIDE
        or found.z < 1
        or taps % 2
        or taps < 2
    ):
        raise InputError(
            f"a generator of {found.size[0]} × {found.size[1]} with {depth} layers of mapping and a filter of {taps} "
            "taps is not supported",
            field="checkpoint",
        )
    return found


def check(shape: Architecture, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of a network of this shape.

    Raises:
        InputError: what is missing, what should not be there, and what has another shape.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in StyleGAN2(shape).state_dict().items()}
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    other = [name for name in expected.keys() & weights.keys() if weights[name].shape != expected[name]]
    said = [
        f"{what} {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
        for what, names in (("missing are", missing), ("there should not be", extra), ("of another shape are", other))
        if names
    ]
    if said:
        raise InputError(f"the weights do not fit a StyleGAN2: {'; '.join(said)}", field="checkpoint")
    bad = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise InputError(f"{bad[0]} holds numbers that are not finite", field="checkpoint")
