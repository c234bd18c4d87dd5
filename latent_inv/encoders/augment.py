"""What happens to pictures on their way to a user: noise, blur, JPEG, other colours, a little shift, holes.

An encoder that has seen samples alone is lost on anything else.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

#: share of pictures that stay as they are
CLEAN = 0.5


def augment(images: Tensor, stream: torch.Generator) -> Tensor:
    """Spoil half of the pictures, each in one or two ways.

    Args:
        images: [R, 3, H, W] in [-1, 1], on the CPU.
        stream: all randomness.
    Returns:
        a new tensor of the same shape, in [-1, 1].
    """
    spoilt = images.clone()
    for row in range(images.shape[0]):
        if _uniform(stream) < CLEAN:
            continue
        for _ in range(1 + int(_uniform(stream) < 0.3)):
            way = WAYS[int(_uniform(stream) * len(WAYS))]
            spoilt[row] = way(spoilt[row], stream)
    return spoilt.clamp_(-1, 1)


def _uniform(stream: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=stream))


def noise(image: Tensor, stream: torch.Generator) -> Tensor:
    """Gaussian noise, deviation up to 0.3."""
    return image + _uniform(stream, 0.01, 0.3) * torch.randn(image.shape, generator=stream)


def blur(image: Tensor, stream: torch.Generator) -> Tensor:
    """Gaussian blur, deviation up to 1/40 of the shorter side."""
    sigma = _uniform(stream, 0.3, max(0.4, min(image.shape[1:]) / 40))
    radius = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    x = F.pad(image[None], (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(x, kernel, groups=3), kernel.transpose(2, 3), groups=3)[0]


def jpeg(image: Tensor, stream: torch.Generator) -> Tensor:
    """JPEG of quality 10 to 95."""
    return jpeg_of(image, int(_uniform(stream, 10, 95)))


def jpeg_of(image: Tensor, quality: int) -> Tensor:
    """A picture as it comes out of a JPEG file: [3, H, W] in [-1, 1]."""
    levels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    file = io.BytesIO()
    Image.fromarray(levels.numpy()).save(file, "JPEG", quality=quality)
    back = torch.from_numpy(np.array(Image.open(file), dtype=np.uint8)).permute(2, 0, 1)
    return back.to(image.dtype) / 127.5 - 1


def colour(image: Tensor, stream: torch.Generator) -> Tensor:
    """Another gain and offset for each channel, and another contrast."""
    gains = 1 + 0.15 * torch.randn(3, 1, 1, generator=stream)
    return image * gains + 0.1 * torch.randn(3, 1, 1, generator=stream)


def shift(image: Tensor, stream: torch.Generator) -> Tensor:
    """Another crop: up to 5 % moved and 8 % larger or smaller, edges repeated."""
    zoom = _uniform(stream, 0.92, 1.08)
    across, down = _uniform(stream, -0.1, 0.1), _uniform(stream, -0.1, 0.1)
    matrix = torch.tensor([[[zoom, 0, across], [0, zoom, down]]], dtype=image.dtype)
    grid = F.affine_grid(matrix, [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]


def hole(image: Tensor, stream: torch.Generator) -> Tensor:
    """A rectangle of mid-grey, as hidden pixels are shown to the encoder."""
    height, width = image.shape[1:]
    tall, wide = int(_uniform(stream, 0.1, 0.6) * height), int(_uniform(stream, 0.1, 0.6) * width)
    top, left = int(_uniform(stream) * (height - tall)), int(_uniform(stream) * (width - wide))
    pierced = image.clone()
    pierced[:, top : top + tall, left : left + wide] = 0
    return pierced


WAYS: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (noise, blur, jpeg, colour, shift, hole)
