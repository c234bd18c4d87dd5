"""Where the files of a diffusers model are: a folder of this machine, or a repository of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from latent_inv.errors import AssetError, SpecError, unknown_name
from latent_inv.files import sha256_of

#: what may follow a reference after "?", and what it is for
OPTIONS: Mapping[str, str] = {
    "subfolder": "folder inside of the model's, e.g. vae of a whole pipeline",
    "revision": "branch, tag or commit of a hub repository",
    "local": "1: only files that are on this disk already",
    "tiled": "1: large pictures go through in tiles, which takes less memory and leaves faint seams",
    "sliced": "1: rows go through one by one, which takes less memory",
}
_CONFIG = "config.json"
_PIPELINE = "model_index.json"
_MAX_CONFIG_BYTES = 2**20
_SAFE = "diffusion_pytorch_model.safetensors"
#: in the order in which they are looked for
_WEIGHTS = (_SAFE, f"{_SAFE}.index.json", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")
_NO = ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class ModelFiles:
    """A model on this disk.

    Attributes:
        folder: where `config` and weights lie.
        weights: the files of its weights, in order.
        origin: where it comes from, in one line without a path.
        licence: what its own model card states; empty: nothing.
    """

    folder: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    origin: str
    licence: str

    @property
    def sha256(self) -> str:
        """Of the weights: that of the file, or of the hashes of several."""
        hashes = [sha256_of(path) for path in self.weights]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def parse(reference: str) -> tuple[str, dict[str, str]]:
    """`model?key=value&…` as the model and its options.

    Raises:
        SpecError: an option that does not exist.
    """
    model, _, query = reference.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in OPTIONS:
            raise unknown_name("option of a diffusers model", name, list(OPTIONS), field="generator")
    if not model:
        raise SpecError("must name a folder or a hub repository after diffusers:", field="generator")
    return model, options


def is_on(options: Mapping[str, str], name: str) -> bool:
    """Is this option switched on?"""
    return options.get(name, "").lower() not in _NO


def find_files(model: str, options: Mapping[str, str]) -> ModelFiles:
    """The files of `model`; those of a hub repository are downloaded if need be.

    The token for private repositories is read by huggingface_hub itself, from HF_TOKEN or its login.

    Raises:
        AssetError: they are not there, or are not those of a diffusers model; the message says what to do.
    """
    subfolder = options.get("subfolder", "")
    root = Path(model).expanduser()
    local = root.is_dir()
    if not local:
        if root.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
            raise _bad(f"there is no folder {root.name}, and a hub repository is OWNER/NAME")
        root = _download(model, options)
    if not subfolder and not (root / _CONFIG).exists() and (root / _PIPELINE).exists() and (root / "vae").is_dir():
        subfolder = "vae"  # of a whole pipeline, it is the autoencoder that makes pictures of latents
    folder = (root / subfolder).resolve()
    if not folder.is_relative_to(root.resolve()):
        raise SpecError("the subfolder must lie inside of the model", field="generator")
    config = _read_config(folder, root)
    origin = f"folder {root.name}" if local else f"hub {model}@{options.get('revision', 'main')}"
    origin += f", {subfolder}" if subfolder else ""
    return ModelFiles(folder, config, _weights(folder), origin, _licence(root))


def _read_config(folder: Path, root: Path) -> Mapping[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        inside = sorted(item.parent.name for item in root.glob(f"*/{_CONFIG}")) if root.is_dir() else []
        hint = f"; subfolders that have one: {', '.join(inside)} (?subfolder=…)" if inside else ""
        raise _bad(f"{folder.name} has no {_CONFIG}{hint}")
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise _bad(f"{_CONFIG} of {folder.name} has more than {_MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _bad(f"{_CONFIG} of {folder.name} is not JSON") from error
    if not isinstance(config, dict):
        raise _bad(f"{_CONFIG} of {folder.name} holds no settings")
    return config


def _weights(folder: Path) -> tuple[Path, ...]:
    for name in _WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        if not name.endswith(".json"):
            return (path,)
        try:
            shards = sorted(set(json.loads(path.read_text("utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise _bad(f"{name} of {folder.name} is damaged") from error
        found = tuple(folder / str(shard) for shard in shards)
        for shard in found:
            if shard.parent != folder or not shard.is_file():
                raise _bad(f"{folder.name} lacks {shard.name}, a part of its weights; download it again")
        return found
    raise _bad(f"{folder.name} has no weights; one of {', '.join(_WEIGHTS)} is expected")


def _download(model: str, options: Mapping[str, str]) -> Path:
    offline = is_on(options, "local") or os.environ.get("LATENT_INV_OFFLINE", "").lower() not in _NO
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise _bad("hub models need huggingface_hub: pip install 'latent-inv[diffusers]'") from error
    inside = options.get("subfolder", "")
    names = [_PIPELINE, "README.md"]
    for folder in [inside] if inside else ["", "vae"]:
        names += [f"{folder}/{name}".lstrip("/") for name in (_CONFIG, "diffusion_pytorch_model*")]
    try:
        path = snapshot_download(
            model, revision=options.get("revision"), allow_patterns=names, local_files_only=offline
        )
    except Exception as error:  # the hub's own, requests' or httpx's, by version
        if offline:
            text = f"{model} is not on this disk, and the network is switched off; without ?local=1 it is downloaded"
        else:
            # Its text may hold addresses with tokens.
            text = (
                f"{model} cannot be had from the hub ({type(error).__name__}): check its name, the network, "
                "and HF_TOKEN if it is private; or download it elsewhere and give the folder"
            )
        raise _bad(text) from error
    return Path(path)


def _licence(root: Path) -> str:
    """The line "license: …" at the head of a model card."""
    try:
        text = (root / "README.md").read_text("utf-8", errors="replace")[:20_000]
    except OSError:
        return ""
    if not text.startswith("---"):
        return ""
    for line in text.split("---")[1].splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("license", "license_name"):
            return value.strip()[:100]
    return ""


def _bad(text: str) -> AssetError:
    return AssetError(text, field="generator")
