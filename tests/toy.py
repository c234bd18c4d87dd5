"""A small generator with everything that real ones have and `faces` has not.

It is conditional, makes pictures of any size, has bounded latents, several spaces and parts, and needs no weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latent_inv.constraints import Box, Simplex
from latent_inv.generators.base import Generator, LoadProgress
from latent_inv.generators.half import HALVES
from latent_inv.generators.staged import PICTURE, Staged, layer_routes, layer_spaces
from latent_inv.measured import LayerSpace, Measured
from latent_inv.spaces import Categorical, LatentSpace, Normal, Part, Uniform
from latent_inv.types import Latents

STRIDE = 8
CHANNELS = 4
CLASSES = 5


class ToyNetwork(nn.Module):
    """Codes at 1/8 of the size, modulated by the class, upsampled and convolved; smooth, so that it has a Hessian."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(CLASSES, 16)
        self.first = nn.Conv2d(CHANNELS, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 12, STRIDE, STRIDE)
        self.last = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, code: Tensor, classes: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(code) * (1 + self.scale(classes))[:, :, None, None])
        return torch.tanh(self.last(torch.tanh(self.up(hidden))))


def _code() -> Part:
    return Part((CHANNELS, -STRIDE, -STRIDE), Uniform(-1, 1), Box(-1, 1))


class Toy(Generator):
    """Spaces: `code` (class fixed), `code+class` (class searched on the simplex), as parts of one decoder."""

    name = "toy"
    title = "A toy of any size"
    spaces = {
        "code": LatentSpace({"code": _code(), "class": Part((CLASSES,), Categorical(), Simplex(), role="fixed")}),
        "code+class": LatentSpace({"code": _code(), "class": Part((CLASSES,), Categorical(), Simplex())}),
    }
    default_space = "code"
    stride = STRIDE
    weights_sha256 = "0" * 64
    licence = ("made here", "no data", "nothing")
    source = "tests"

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Toy:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            network = ToyNetwork()
        return cls(network.to(device=device, dtype=dtype))

    def picture_size(self, latents: Latents) -> tuple[int, int]:
        height, width = latents["code"].shape[-2:]
        return height * STRIDE, width * STRIDE

    def _decode(self, latents: Latents) -> Tensor:
        return self.network(latents["code"], latents["class"])


class Smooth(Generator):
    """A vector of 12 normal numbers, 32 × 32: quick, for the laws of the engine."""

    name = "smooth"
    title = "A toy of a fixed size"
    weights_sha256 = "1" * 64
    licence = ("made here", "no data", "nothing")
    source = "tests"
    spaces = {"z": LatentSpace({"z": Part((12,), Normal())})}
    default_space = "z"
    size = (32, 32)
    halves = tuple(HALVES)

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Smooth:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            network = nn.Sequential(
                nn.Linear(12, 8 * 8 * 8),
                nn.Unflatten(1, (8, 8, 8)),
                nn.Tanh(),
                nn.ConvTranspose2d(8, 8, 4, 2, 1),
                nn.BatchNorm2d(8),
                nn.Tanh(),
                nn.ConvTranspose2d(8, 3, 4, 2, 1),
                nn.Tanh(),
            )
        return cls(network.to(device=device, dtype=dtype))

    def _decode(self, latents: Latents) -> Tensor:
        return self.network(latents["z"])


class Times(nn.Module):
    """Multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Loud(Smooth):
    """As `smooth`, through numbers that are beyond float16 where a latent is beyond 3."""

    name = "loud"
    has_encoder = True

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Loud:
        loud = 65504 / 3
        smooth = super().load(device, dtype).network
        return cls(nn.Sequential(Times(loud), Times(1 / loud), *smooth.children()))

    def encode(self, images: Tensor) -> Latents:
        """Means of twelve parts of the picture, twelve-fold, through the same numbers."""
        parts = images.flatten(1).unflatten(1, (12, -1)).mean(dim=2)
        return self._inside({"z": parts}, lambda given: {"z": self.network[1](self.network[0](given["z"] * 12))})


class Dead(Smooth):
    """ReLUs that are dead at the mean of the prior: a zero gradient there."""

    name = "dead"

    def _decode(self, latents: Latents) -> Tensor:
        z = latents["z"]
        return self.network(torch.relu(z - 0.01) + torch.relu(-z - 0.01))


class Blind(Smooth):
    """Makes the same picture of any latents: nothing can be found."""

    name = "blind"

    def _decode(self, latents: Latents) -> Tensor:
        return self.network(latents["z"] * 0)


class Broken(Smooth):
    """Not a number for every latent, and an error in every log."""

    name = "broken"

    def _decode(self, latents: Latents) -> Tensor:
        return self.network(latents["z"]) / (latents["z"].sum() * 0)


class Raises(Smooth):
    """Fails with a text that no client may see."""

    name = "raises"

    def _decode(self, latents: Latents) -> Tensor:
        raise RuntimeError("secret /path/to/x")


class Frozen(Smooth):
    """Gives no gradient."""

    name = "frozen"
    differentiable = False
    forward_mode = False

    def _decode(self, latents: Latents) -> Tensor:
        return super()._decode(latents).detach()


class Backward(Smooth):
    """Has operations without a forward mode, it says."""

    name = "backward"
    forward_mode = False


def _noise() -> Part:
    return Part((8, 8), Normal(), role="fixed")


class Layered(Staged):
    """Smooth in three segments, with noise that only the second one sees, and a skip beside the second cut."""

    name = "layered"
    title = "A toy of stages"
    weights_sha256 = "2" * 64
    licence = ("made here", "no data", "nothing")
    source = "tests"
    stages = ("layer:1", "layer:2")
    spaces = {
        "z": LatentSpace({"z": Part((12,), Normal()), "noise": _noise()}),
        "layer:1": LayerSpace({"layer:1": Part((8, 8, 8), Measured(), Box(-1, 1)), "noise": _noise()}),
        **layer_spaces({"layer:2": {"layer:2": (8, 16, 16), "skip:2": (3, 1, 1)}}, by="channel"),
    }
    default_space = "z"
    routes = layer_routes(("z",), stages)
    size = (32, 32)
    measured_draws = 60

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Layered:
        network = Smooth.load(device, dtype).network
        # The last convolution makes three channels of eight; a skip is added to these.
        return cls(network)

    def _segment(self, index: int, latents: Latents) -> dict[str, Tensor]:
        layers = list(self.network.children())
        if index == 0:
            return {"layer:1": nn.Sequential(*layers[:3])(latents["z"]), "noise": latents["noise"]}
        if index == 1:
            hidden = latents["layer:1"]
            noisy = nn.Sequential(*layers[3:6])(hidden + 0.1 * latents["noise"][:, None])
            return {"layer:2": noisy, "skip:2": hidden[:, :3].mean(dim=(2, 3), keepdim=True)}
        return {PICTURE: torch.tanh(layers[6](latents["layer:2"]) + latents["skip:2"])}


LAYERS, STYLE = 3, 8


class StyledNetwork(nn.Module):
    """z to w, and one affine layer of w for each of three layers of features."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Linear(STYLE, STYLE)
        self.start = nn.Parameter(torch.randn(1, 6, 8, 8))
        self.styles = nn.ModuleList(nn.Linear(STYLE, 6) for _ in range(LAYERS))
        self.convolutions = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(LAYERS))
        self.last = nn.ConvTranspose2d(6, 3, 4, 4)

    def forward(self, w: Tensor) -> Tensor:
        x = self.start.expand(w.shape[0], -1, -1, -1)
        for layer, (style, convolution) in enumerate(zip(self.styles, self.convolutions, strict=True)):
            x = torch.tanh(convolution(x) * (1 + style(w[:, layer]))[:, :, None, None])
        return torch.tanh(self.last(x))


class Styled(Generator):
    """Spaces `z`, `w` and `w+`, as style-based generators have them."""

    name = "styled"
    title = "A toy with styles"
    weights_sha256 = "4" * 64
    licence = ("made here", "no data", "nothing")
    source = "tests"
    spaces = {
        "z": LatentSpace({"z": Part((STYLE,), Normal())}),
        "w": LatentSpace({"w": Part((STYLE,), Normal())}),
        "w+": LatentSpace({"w+": Part((LAYERS, STYLE), Normal())}),
    }
    default_space = "z"
    size = (32, 32)

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Styled:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            network = StyledNetwork()
        return cls(network.to(device=device, dtype=dtype))

    def _decode(self, latents: Latents) -> Tensor:
        if "w+" in latents:
            return self.network(latents["w+"])
        w = latents["w"] if "w" in latents else torch.tanh(self.network.mapping(latents["z"]))
        return self.network(w[:, None].expand(-1, LAYERS, -1))


class Scaled(Generator):
    """A decoder of scaled latents, with a factor and a shift a channel, for pictures of any size."""

    name = "scaled"
    title = "A toy with scaled latents"
    weights_sha256 = "3" * 64
    licence = ("made here", "no data", "nothing")
    source = "tests"
    spaces = {"spatial": LatentSpace({"spatial": Part((2, -4, -4), Normal())})}
    default_space = "spatial"
    stride = 4
    latent_factor = (0.5, 0.36)
    latent_shift = (0.1, -0.2)

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Scaled:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(6)
            network = nn.Sequential(nn.ConvTranspose2d(2, 6, 4, 4), nn.Tanh(), nn.Conv2d(6, 3, 3, padding=1), nn.Tanh())
        return cls(network.to(device=device, dtype=dtype))

    def picture_size(self, latents: Latents) -> tuple[int, int]:
        height, width = latents["spatial"].shape[-2:]
        return height * 4, width * 4

    def _decode(self, latents: Latents) -> Tensor:
        factor, shift = (
            torch.tensor(numbers, dtype=self.dtype, device=self.device).reshape(1, -1, 1, 1)
            for numbers in (self.latent_factor, self.latent_shift)
        )
        return self.network(latents["spatial"] / factor + shift)


_ALL = (Toy, Smooth, Loud, Dead, Blind, Broken, Raises, Frozen, Backward, Layered, Styled, Scaled)
TOYS: dict[str, type[Generator]] = {kind.name: kind for kind in _ALL}
