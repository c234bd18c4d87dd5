"""The autoencoder of `photos`: a Karhunen-Loève transform of patches, and two residual networks that improve on it.

Step 0 of a training is the transform alone, the best that is linear at this number of latents. What is learnt on top
can only be there because it helps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pixel_shuffle, pixel_unshuffle, silu

#: sides of a patch, and latents of one
PATCH, CHANNELS = 8, 16
#: channels of the networks at 1/4 and at 1/8 of the sides
FINE, COARSE = 64, 128
_FINE_STRIDE = 4


class Block(nn.Module):
    """Two convolutions beside an identity; the second begins at zero, so that the block begins as nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = hidden + self.second(silu(self.first(silu(hidden))))
        return result


class PhotoNetwork(nn.Module):
    """Pictures [R, 3, H, W] in [-1, 1] to latents [R, 16, H/8, W/8] of about unit variance, and back.

    Args:
        blocks: residual blocks of the encoder at 1/4 and 1/8, and of the decoder at 1/8 and 1/4.
    """

    def __init__(self, blocks: tuple[int, int, int, int] = (2, 2, 4, 3)) -> None:
        super().__init__()
        #: rows are the transform's directions in a patch; latents are divided by `scale`
        self.transform = nn.Parameter(torch.zeros(CHANNELS, 3, PATCH, PATCH))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("scale", torch.ones(CHANNELS))
        self.mean: Tensor
        self.scale: Tensor
        self.encoder = nn.Sequential(
            nn.Conv2d(3 * _FINE_STRIDE**2, FINE, 3, padding=1),
            *(Block(FINE) for _ in range(blocks[0])),
            nn.Conv2d(FINE, COARSE, 2, stride=2),
            *(Block(COARSE) for _ in range(blocks[1])),
            nn.SiLU(),
            _zero(nn.Conv2d(COARSE, CHANNELS, 3, padding=1)),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(CHANNELS, COARSE, 3, padding=1),
            *(Block(COARSE) for _ in range(blocks[2])),
            nn.Conv2d(COARSE, 4 * FINE, 1),
            nn.PixelShuffle(2),
            *(Block(FINE) for _ in range(blocks[3])),
            nn.SiLU(),
            _zero(nn.Conv2d(FINE, 3 * _FINE_STRIDE**2, 3, padding=1)),
        )

    def encode(self, images: Tensor) -> Tensor:
        """[R, 3, H, W], sides multiples of 8 -> [R, 16, H/8, W/8]."""
        learnt: Tensor = self.encoder(pixel_unshuffle(images, _FINE_STRIDE))
        return self.transformed(images) + learnt

    def decode(self, latents: Tensor) -> Tensor:
        """[R, 16, h, w] -> [R, 3, 8h, 8w], not yet cut to [-1, 1]."""
        return self.transformed_back(latents) + pixel_shuffle(self.decoder(latents), _FINE_STRIDE)

    def transformed(self, images: Tensor) -> Tensor:
        """`encode` by the transform alone."""
        linear = conv2d(images - self.mean[:, None, None], self.transform, stride=PATCH)
        return linear / self.scale[:, None, None]

    def transformed_back(self, latents: Tensor) -> Tensor:
        """`decode` by the transform alone."""
        linear = conv_transpose2d(latents * self.scale[:, None, None], self.transform, stride=PATCH)
        return linear + self.mean[:, None, None]

    def forward(self, latents: Tensor) -> Tensor:
        """`decode`, cut to [-1, 1]."""
        return self.decode(latents).clamp(-1, 1)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
