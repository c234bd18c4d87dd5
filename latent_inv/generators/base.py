"""The contract of a generator: frozen weights, latents by name in, pictures in [-1, 1] out."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from latent_inv.asset_table import ENCODERS
from latent_inv.errors import InternalError, LatentsError, SpecError, UnsupportedError, unknown_name
from latent_inv.images import Picture
from latent_inv.result import GeneratorInfo
from latent_inv.scaling import Scaling
from latent_inv.seeding import stream
from latent_inv.spaces import LatentSpace
from latent_inv.types import Latents

from .folding import fold_norms
from .half import HALVES, GradientScale, watched

#: called as progress(what, bytes done, bytes in all or None)
LoadProgress = Callable[[str, int, int | None], None]


class Generator(ABC):
    """A pretrained generator G with frozen weights and no state of any job inside.

    Subclasses give the class attributes, `load` and `_decode`; everything else has a default.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    spaces: Mapping[str, LatentSpace]
    default_space: ClassVar[str]
    size: ClassVar[tuple[int, int] | None] = None  # (height, width); None: any
    stride: ClassVar[int] = 1  # sides must be multiples of it
    stages: ClassVar[Sequence[str]] = ()  # cuts inside it that are spaces, too; see `staged.Staged`
    #: space -> spaces whose latents `lift` takes there, in the order in which a search goes through them
    routes: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    differentiable: ClassVar[bool] = True
    forward_mode: ClassVar[bool] = True
    dtypes: ClassVar[Sequence[str]] = ("float32", "float64")  # number formats that it can compute in
    halves: ClassVar[Sequence[str]] = ()  # names in `HALVES` that its network can compute in, too
    roundable: ClassVar[bool] = False  # are its derivatives good enough in bfloat16 to point the way?
    has_encoder: ClassVar[bool] = False  # one of its own, in `encode`; trained ones stand in `asset_table.ENCODERS`
    #: where latents of its model come in two conventions, scaled = (raw − shift) · factor: a number, or one a channel
    latent_factor: ClassVar[tuple[float, ...]] = ()
    latent_shift: ClassVar[tuple[float, ...]] = (0.0,)
    latents_scaled: ClassVar[bool] = True  # which of the two `__call__` takes
    licence: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""
    weights_sha256: ClassVar[str] = ""

    def __init__(
        self, network: nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Freeze `network`; `device` and `dtype` are those of its first parameter where it has any."""
        self.network = network.eval().requires_grad_(False)
        parameter = next(network.parameters(), None)
        if parameter is not None:
            device, dtype = device or parameter.device, dtype or parameter.dtype
        if device is None or dtype is None:
            raise InternalError(f"{type(self).__name__} has no parameters and must say where it computes, and in what")
        self.device, self.dtype = device, dtype
        #: number format of the network; `dtype` is that of latents and pictures
        self.network_dtype = dtype
        self._full: Generator | None = None

    @classmethod
    @abstractmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Generator:
        """Fetch and check the weights, and put them on `device`.

        Raises:
            AssetError: the weights cannot be had; the message says how to get them.
        """

    @classmethod
    def check_dtype(cls, dtype: str) -> None:
        """Raises: UnsupportedError: a number format that it cannot compute in."""
        if dtype not in cls.dtypes:
            raise UnsupportedError(f"{cls.name} computes in {' or '.join(cls.dtypes)}, found {dtype}", field="dtype")

    @classmethod
    def check_precision(cls, precision: str) -> None:
        """Raises: UnsupportedError: half precision, in which its network cannot compute."""
        if precision in HALVES and precision not in cls.halves:
            accepted = " or ".join(("float32", *cls.halves))
            raise UnsupportedError(f"{cls.name} computes in {accepted}, found {precision}", field="precision")

    @abstractmethod
    def _decode(self, latents: Latents) -> Tensor:
        """The mathematics of `__call__`; latents are checked already."""

    def __call__(self, latents: Latents) -> Tensor:
        """Decode.

        Args:
            latents: part -> [R, …] of one of the spaces, on the generator's device.
        Returns:
            [R, 3, H, W] in [-1, 1].
        Raises:
            LatentsError, ShapeError: they are of none of the spaces.
        """
        space = self.spaces[self.space_of(latents)]
        space.check_dimensions(latents)
        space.check(latents, self.picture_size(latents))
        return self._inside(self._before(latents), lambda given: {"": self._decode(given)})[""]

    def _before(self, latents: Latents) -> Latents:
        """What `_decode` is given: whatever must be computed with all digits, though the network has fewer."""
        return latents

    def encode(self, images: Tensor) -> Latents | None:
        """Latents of the default space in one pass: [R, 3, H, W] in [-1, 1] -> part -> [R, …]; None: no encoder."""
        return None

    def lift(self, latents: Latents, space: str) -> dict[str, Tensor]:
        """Latents of `space` that make the same picture; it can be reached from all spaces in `routes`, and itself.

        Args:
            latents: part -> [R, …], all parts of their space.
        Raises:
            LatentsError: there is no way from their space to this one.
        """
        if space in self.spaces and set(self.spaces[space].parts) == set(latents):
            return dict(latents)  # spaces may share their parts, and differ in which are searched
        source = self.space_of(latents)
        if source not in self.routes.get(space, ()):
            ways = ", ".join(self.routes.get(space, ())) or "no other space"
            raise LatentsError(f"latents of {source} cannot become latents of {space}; {ways} can")
        return self._inside(latents, lambda given: self._lift(given, source, space))

    def _lift(self, latents: Latents, source: str, space: str) -> dict[str, Tensor]:
        """The mathematics of `lift`; there is a route."""
        raise NotImplementedError(f"{type(self).__name__} has routes and does not say how to go there")

    def picture_size(self, latents: Latents) -> tuple[int, int]:
        """Height and width of the picture that these latents decode to."""
        if self.size is None:
            raise NotImplementedError(f"{type(self).__name__} has no fixed size and must say how to tell it")
        return self.size

    def space_of(self, latents: Latents) -> str:
        """Name of the space that has exactly these parts.

        Raises:
            LatentsError: there is none.
        """
        for name, space in self.spaces.items():
            if set(space.parts) == set(latents):
                return name
        accepted = "; ".join(f"{name}: {', '.join(space.parts)}" for name, space in self.spaces.items())
        raise LatentsError(f"no space of {self.name} has the parts {sorted(latents)}, accepted: {accepted}")

    def resolve_space(self, name: str) -> str:
        """`name`, or the default space for an empty one.

        Raises:
            SpecError: there is no such space.
        """
        if not name:
            return self.default_space
        if name not in self.spaces:
            raise unknown_name("space", name, list(self.spaces), field="space")
        return name

    def resolve_size(self, height: int, width: int) -> tuple[int, int]:
        """The picture size for a request, 0 meaning "your own".

        Raises:
            SpecError: the generator cannot make that size.
        """
        own = self.size or (max(64, self.stride), max(64, self.stride))
        size = (height or own[0], width or own[1])
        if self.size and size != self.size:
            raise SpecError(f"{self.name} makes {own[0]} × {own[1]}, found {size[0]} × {size[1]}", field="height")
        if size[0] % self.stride or size[1] % self.stride:
            raise SpecError(f"must be multiples of {self.stride}, found {size[0]} × {size[1]}", field="height")
        return size

    def sample(self, seeds: Sequence[int], space: str = "", size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """Draw latents from the prior, one seed a row; a row depends on its own seed alone.

        Returns:
            part -> [len(seeds), …] on the generator's device.
        """
        chosen = self.spaces[self.resolve_space(space)]
        size = size or self.resolve_size(0, 0)
        rows = [chosen.sample(size, stream(seed, "sample")) for seed in seeds]
        return {name: self.place(torch.cat([row[name] for row in rows])) for name in chosen.parts}

    def place(self, tensor: Tensor) -> Tensor:
        """`tensor` on the generator's device and in its number format."""
        return tensor.to(device=self.device, dtype=self.dtype)

    def place_picture(self, picture: Picture) -> tuple[Tensor, Tensor | None]:
        """A picture of the generator's size as [1, 3, H, W], and its weight as [1, 1, H, W] or None, both placed."""
        weight = None if picture.weight is None else self.place(torch.from_numpy(picture.weight.copy()))[None, None]
        return self.place(torch.from_numpy(picture.pixels.copy()))[None], weight

    @property
    def precision(self) -> str:
        """Name of the number format of the network."""
        return str(self.network_dtype).removeprefix("torch.")

    @property
    def is_half(self) -> bool:
        """Has the network fewer digits than `full` has?"""
        return self._full is not None

    @property
    def hidden_bytes(self) -> int:
        """Memory that it takes beside the tensors of its network."""
        return 0

    @property
    def full(self) -> Generator:
        """The same generator with all digits; itself, unless it was made by `rounded`."""
        return self._full or self

    def rounded(self, dtype: torch.dtype) -> Generator:
        """The same generator with a network in `dtype`, which has fewer digits; latents and pictures stay as they are.

        What it makes of a row is not a number wherever its network had a value that is not finite.
        """
        half = copy.copy(self)
        # By torch's own method: networks of diffusers have one that complains. Channels last is what kernels of such
        # formats are written for.
        narrowed = nn.Module.to(fold_norms(copy.deepcopy(self.network)), dtype)
        half.network = nn.Module.to(narrowed, memory_format=torch.channels_last)
        half.network_dtype, half._full = dtype, self.full
        return half

    def _inside(self, given: Latents, compute: Callable[[Latents], dict[str, Tensor]]) -> dict[str, Tensor]:
        """`compute` of what is given, in the number format of the network; name -> [R, …] both."""
        if self.network_dtype == self.dtype:
            return compute(given)
        if self.network_dtype != torch.float16:
            made = compute({name: tensor.to(self.network_dtype) for name, tensor in given.items()})
            return {name: tensor.to(self.dtype) for name, tensor in made.items()}
        scale = GradientScale()
        entered = {name: scale.enter(tensor).to(self.network_dtype) for name, tensor in given.items()}
        with watched(self.network, next(iter(given.values())).shape[0]) as overflow:
            made = compute(entered)
        return {name: overflow.spoil(scale.leave(tensor.to(self.dtype))) for name, tensor in made.items()}

    @classmethod
    def scaling(cls) -> Scaling | None:
        """Of the latents that it takes; None where there is but one convention."""
        return Scaling(cls.latent_factor, cls.latent_shift, cls.latents_scaled) if cls.latent_factor else None

    @classmethod
    def info(cls) -> GeneratorInfo:
        """What it offers, without loading anything."""
        return GeneratorInfo(
            name=cls.name,
            title=cls.title,
            size=cls.size,
            stride=cls.stride,
            spaces={name: space.describe() for name, space in cls.spaces.items()},
            default_space=cls.default_space,
            stages=tuple(cls.stages),
            differentiable=cls.differentiable,
            forward_mode=cls.forward_mode,
            has_encoder=cls.has_encoder or cls.name in ENCODERS,
            weights_sha256=cls.weights_sha256,
            licence=cls.licence,
            source=cls.source,
            scaling=cls.scaling(),
            halves=tuple(cls.halves),
        )
