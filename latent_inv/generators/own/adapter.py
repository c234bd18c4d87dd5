"""The adapter of a program and its description: whatever it takes and gives becomes latents by name and pictures."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from latent_inv.errors import LatentsError
from latent_inv.generators.base import Generator, LoadProgress
from latent_inv.types import Latents

from .batches import in_calls
from .description import Description
from .signature import Signature


class Own(Generator):
    """A generator of the user's own. Subclasses say where its network comes from; a class of its own is made for each.

    Attributes:
        file: what messages call it.
        beside: where its description stands, for messages.
    """

    description: ClassVar[Description]
    signature: ClassVar[Signature]
    file: ClassVar[str]
    beside: ClassVar[str]

    @classmethod
    @abstractmethod
    def make_network(cls, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """What is called with the parts in order, [R, …] each.

        Raises:
            AssetError: it cannot be had.
        """

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Own:
        # Torch's forward mode takes half a second to import.
        from .trial import try_out

        cls.check_dtype(str(dtype).removeprefix("torch."))
        generator = cls(cls.make_network(device, dtype), device, dtype)
        try_out(generator)
        return generator

    def picture_size(self, latents: Latents) -> tuple[int, int]:
        """See `Generator.picture_size`; of any size, the first part whose sides follow the picture tells it."""
        if self.size is not None:
            return self.size
        for name, part in self.description.inputs.items():
            sides = [found * -side for side, found in zip(part.shape, latents[name].shape[1:], strict=True) if side < 0]
            if sides:
                return sides[0], sides[1]
        raise LatentsError("no part tells the size of the picture")

    def raw(self, latents: Latents) -> Tensor:
        """What the program gives, as it gives it."""
        inputs = [latents[name] for name in self.description.inputs]
        return in_calls(self.network, inputs, self.signature.least, self.signature.most)

    def _decode(self, latents: Latents) -> Tensor:
        low, high = self.description.bounds
        images = self.raw(latents).to(self.dtype)
        if self.description.channels_last:
            images = images.permute(0, 3, 1, 2)
        if (low, high) != (-1.0, 1.0):
            images = (images - low) * (2 / (high - low)) - 1
        return images.clamp(-1, 1) if self.description.clips else images


def attributes(
    description: Description, signature: Signature, *, name: str, file: str, beside: str, sha256: str, **more: Any
) -> dict[str, Any]:
    """What the class of one generator has of its own."""
    spaces = description.spaces
    return {
        "name": name,
        "title": description.title,
        "spaces": spaces,
        "default_space": next(iter(spaces)),
        "size": description.size,
        "stride": description.stride,
        "differentiable": description.differentiable,
        "forward_mode": description.forward_mode,
        "dtypes": description.dtypes,
        "licence": description.licence,
        "source": description.source,
        "weights_sha256": sha256,
        "description": description,
        "signature": signature,
        "file": file,
        "beside": beside,
        **more,
    }
