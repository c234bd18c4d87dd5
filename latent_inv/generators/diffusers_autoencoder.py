"""`diffusers:MODEL`: any image autoencoder that the library diffusers loads.

Latents of our space are scaled as diffusion models see them: (raw − shift) · factor, of about unit variance. Files of
latents say so, and the library's `latents` in a pipeline are exactly these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from latent_inv.assets import load_checkpoint
from latent_inv.errors import AssetError
from latent_inv.spaces import LatentSpace, Normal, Part
from latent_inv.types import Latents

from .base import Generator, LoadProgress
from .diffusers_files import ModelFiles, find_files, is_on, parse
from .half import HALVES

Config = Mapping[str, Any]


def _halvings(config: Config) -> int:
    """Each block but the last halves the sides."""
    return int(2 ** (len(config.get("block_out_channels", (64,))) - 1))


def _plain(model: Any, raw: Tensor) -> Tensor:
    image: Tensor = model.decode(raw, return_dict=False)[0]
    return image


def _mode(model: Any, images: Tensor) -> Tensor:
    """The most likely latents; a draw would not be the same twice."""
    latents: Tensor = model.encode(images, return_dict=False)[0].mode()
    return latents


def _direct(model: Any, images: Tensor) -> Tensor:
    latents: Tensor = model.encode(images, return_dict=False)[0]
    return latents


def _unquantised(model: Any, raw: Tensor) -> Tensor:
    """Latents before they are rounded to the code book: rounding has no derivative."""
    image: Tensor = model.decode(raw, force_not_quantize=True, return_dict=False)[0]
    return image


@dataclass(frozen=True)
class Kind:
    """One class of autoencoders.

    Attributes:
        title: for people.
        stride: pixels of a side for one latent.
        channels: setting that says how many channels latents have.
        decode, encode: raw latents to pictures in [-1, 1], and back.
        scale: the factor where the configuration has none.
    """

    title: str
    stride: Callable[[Config], int]
    channels: str = "latent_channels"
    decode: Callable[[Any, Tensor], Tensor] = _plain
    encode: Callable[[Any, Tensor], Tensor] = _mode
    scale: float = 1.0


#: class in diffusers -> how it is used. Video and audio are left out: what they decode to is no picture.
KINDS: dict[str, Kind] = {
    "AutoencoderKL": Kind("Variational autoencoder of latent diffusion", _halvings, scale=0.18215),
    "AutoencoderTiny": Kind(
        "Tiny autoencoder",
        lambda config: 2 ** (len(config.get("encoder_block_out_channels", (64,) * 4)) - 1),
        encode=_direct,
    ),
    "AsymmetricAutoencoderKL": Kind(
        "Variational autoencoder with a larger decoder",
        lambda config: 2 ** (len(config.get("down_block_out_channels", (64,))) - 1),
        scale=0.18215,
    ),
    "VQModel": Kind(
        "Autoencoder with a code book, its latents before rounding",
        _halvings,
        decode=_unquantised,
        encode=_direct,
        scale=0.18215,
    ),
    "AutoencoderDC": Kind(
        "Deep compression autoencoder",
        lambda config: 2 ** (len(config.get("encoder_block_out_channels", (128,) * 6)) - 1),
        encode=_direct,
    ),
}


class DiffusersAutoencoder(Generator):
    """Space `spatial`: the scaled latents. Subclasses are made by `open_model`."""

    default_space = "spatial"
    has_encoder = True
    halves = tuple(HALVES)
    kind: ClassVar[Kind]
    files: ClassVar[ModelFiles]
    options: ClassVar[Mapping[str, str]]
    #: one number a channel: scaled = (raw − shift) · factor
    latent_factor: ClassVar[tuple[float, ...]]
    latent_shift: ClassVar[tuple[float, ...]]

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__(network)
        shape = (1, -1, 1, 1)
        self._factor = torch.tensor(self.latent_factor, dtype=self.dtype, device=self.device).reshape(shape)
        self._shift = torch.tensor(self.latent_shift, dtype=self.dtype, device=self.device).reshape(shape)

    @classmethod
    def load(
        cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None
    ) -> DiffusersAutoencoder:
        diffusers = _diffusers()
        tell, size = progress or (lambda *_: None), sum(path.stat().st_size for path in cls.files.weights)
        tell(cls.name, 0, size)
        for path in cls.files.weights:
            if path.suffix == ".bin":
                load_checkpoint(path)  # raises if there is more than tensors in it
        try:
            network, report = getattr(diffusers, str(cls.files.config["_class_name"])).from_pretrained(
                str(cls.files.folder),
                torch_dtype=dtype,
                local_files_only=True,
                use_safetensors=cls.files.weights[0].suffix != ".bin",
                variant="fp16" if ".fp16." in cls.files.weights[0].name else None,
                output_loading_info=True,
            )
        except Exception as error:  # diffusers, safetensors and torch each raise their own
            raise AssetError(
                f"diffusers cannot load {cls.files.origin} ({type(error).__name__}); is it whole?", field="generator"
            ) from error
        wrong = [f"{what} {', '.join(sorted(report[key])[:5])}" for key, what in _REPORT.items() if report.get(key)]
        if wrong:
            raise AssetError(f"the weights of {cls.files.origin} do not fit: {'; '.join(wrong)}", field="generator")
        if is_on(cls.options, "tiled"):
            network.enable_tiling()
        if is_on(cls.options, "sliced"):
            network.enable_slicing()
        attention = diffusers.models.attention_processor
        for module in network.modules():
            if isinstance(module, attention.Attention):
                # torch's fused attention has no forward mode and no second derivative.
                module.set_processor(attention.AttnProcessor())
            # "Up" to float32 is meant for half precision; of float64 it would cut off half of the digits.
            for switch in ("upcast_softmax", "upcast_attention"):
                if dtype == torch.float64 and hasattr(module, switch):
                    setattr(module, switch, False)
        tell(cls.name, size, size)
        return cls(network.to(device))

    def picture_size(self, latents: Latents) -> tuple[int, int]:
        height, width = latents["spatial"].shape[-2:]
        return height * self.stride, width * self.stride

    def encode(self, images: Tensor) -> Latents:
        """Scaled latents in one pass: [R, 3, H, W] in [-1, 1] -> {"spatial": [R, C, H/stride, W/stride]}."""
        raw = self._inside({"": images}, lambda given: {"": self.kind.encode(self.network, given[""])})[""]
        return {"spatial": (raw - self._shift) * self._factor}

    def _before(self, latents: Latents) -> Latents:
        return {"spatial": latents["spatial"] / self._factor + self._shift}

    def _decode(self, latents: Latents) -> Tensor:
        return self.kind.decode(self.network, latents["spatial"]).clamp(-1, 1)


#: what diffusers reports of a loading -> how we call it
_REPORT = {
    "missing_keys": "missing are",
    "unexpected_keys": "there should not be",
    "mismatched_keys": "of another shape are",
}


def open_model(reference: str, name: str) -> type[Generator]:
    """The generator of `diffusers:reference`; reads its settings, and not its weights.

    Args:
        reference: a folder or OWNER/NAME on the hub, then options as in a web address: ?subfolder=vae&revision=main.
    Raises:
        AssetError: it is not there, or is no autoencoder of pictures. SpecError: an unknown option.
    """
    model, options = parse(reference)
    files = find_files(model, options)
    config = files.config
    found = str(config.get("_class_name", ""))
    if found not in KINDS:
        raise AssetError(
            f"{files.origin} is {found or 'of no stated class'}, accepted: {', '.join(KINDS)}", field="generator"
        )
    if config.get("in_channels", 3) != 3 or config.get("out_channels", 3) != 3:
        raise AssetError(f"{files.origin} is for pictures of other than three channels", field="generator")
    kind = KINDS[found]
    try:
        stride, channels = kind.stride(config), int(config.get(kind.channels, 4))
        factor, shift = _scaling(config, kind, channels)
    except (TypeError, ValueError) as error:
        raise AssetError(
            f"the settings of {files.origin} are damaged: {str(error)[:100]}", field="generator"
        ) from error
    return type(
        "OpenedDiffusersAutoencoder",
        (DiffusersAutoencoder,),
        {
            "__doc__": DiffusersAutoencoder.__doc__,
            "name": name,
            "title": f"{kind.title} ({found}), stride {stride}, {channels} channels",
            "spaces": {"spatial": LatentSpace({"spatial": Part((channels, -stride, -stride), Normal())})},
            "stride": stride,
            "kind": kind,
            "files": files,
            "options": options,
            "latent_factor": factor,
            "latent_shift": shift,
            "licence": (
                f"{files.origin}: {files.licence or 'its model card states no licence'}",
                "its training data: see its model card",
                "whether the terms of the data reach the weights",
            ),
            "source": files.origin,
            "weights_sha256": files.sha256,
        },
    )


def _scaling(config: Config, kind: Kind, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Factor and shift of each channel. Some models state mean and deviation of their latents by channel."""
    factor = float(config.get("scaling_factor") or kind.scale)
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean and deviation:
        if len(mean) != channels or len(deviation) != channels:
            raise ValueError(f"latents_mean and latents_std must have {channels} numbers")
        return tuple(factor / float(value) for value in deviation), tuple(map(float, mean))
    return (factor,) * channels, (float(config.get("shift_factor") or 0.0),) * channels


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise AssetError(
            "these models need diffusers: pip install 'latent-inv[diffusers]'", field="generator"
        ) from error
    return diffusers
