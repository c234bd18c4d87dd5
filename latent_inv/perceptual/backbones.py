"""The networks whose inner layers are compared: plain and anti-aliased AlexNet, VGG16, SqueezeNet.

A backbone is a chain of layers cut into slices; the end of each slice is a feature. Layers are numbered as
in the checkpoints that they take, so the numbers are part of the names of the weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_inv.errors import AssetError


class Backbone(nn.Module):
    """Layers in slices.

    Args:
        layers: the whole chain.
        ends: number of layers up to the end of each slice.
        minimum_side: smallest side of a picture, in pixels, that goes through.
    """

    def __init__(self, layers: Sequence[nn.Module], ends: Sequence[int], minimum_side: int) -> None:
        super().__init__()
        self.minimum_side = minimum_side
        self.ends = tuple(ends)
        for number, (start, end) in enumerate(zip((0, *ends), ends, strict=False), 1):
            chain = OrderedDict((str(index), layers[index]) for index in range(start, end))
            self.add_module(f"slice{number}", nn.Sequential(chain))

    def forward(self, images: Tensor) -> list[Tensor]:
        """[R, 3, H, W] -> one [R, C, h, w] a slice."""
        features = []
        for part in self.children():
            images = part(images)
            features.append(images)
        return features

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take weights named "features.<layer>.…" or "slice<number>.<layer>.…"; others are not looked at.

        Raises:
            AssetError: a weight is missing, left over, or of another shape.
        """
        chosen = {}
        for name, value in weights.items():
            group, _, rest = name.partition(".")
            if group == "features":
                layer = int(rest.partition(".")[0])
                number = next((n for n, end in enumerate(self.ends, 1) if layer < end), None)
                if number is None:  # behind the last feature: not needed
                    continue
                name = f"slice{number}.{rest}"
            elif not group.startswith("slice"):
                continue
            chosen[name] = value
        try:
            # assign: the layers were made without memory of their own
            self.load_state_dict(chosen, strict=True, assign=True)
        except RuntimeError as error:
            lines = "; ".join(line.strip() for line in str(error).splitlines()[1:])
            raise AssetError(f"these weights are of another network: {lines}") from None


class BlurPool(nn.Module):
    """Blur with [1 2 1] ⊗ [1 2 1] / 16, then take every second pixel; the border is a reflection of two pixels.

    Source: Zhang (2019), "Making convolutional networks shift-invariant again", section 3, with the wider border
    of Ghildyal and Liu (2022).
    """

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filt", (line[:, None] * line / 16).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[R, C, h, w] -> [R, C, (h + 1) // 2 + 1, (w + 1) // 2 + 1]."""
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class Fire(nn.Module):
    """Squeeze to few channels, then expand by 1 × 1 and 3 × 3 side by side.

    Source: Iandola et al. (2016), "SqueezeNet", section 3.2.
    """

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[R, channels, h, w] -> [R, 2 · expanded, h, w]."""
        x = F.relu(self.squeeze(x))
        return F.relu_(torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1))


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)  # the layer before it never needs its own output again


def alexnet() -> Backbone:
    """Source: Krizhevsky (2014), "One weird trick for parallelizing convolutional neural networks"."""
    layers = [
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), _relu(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), _relu(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), _relu()),
        *(nn.Conv2d(384, 256, 3, padding=1), _relu()),
        *(nn.Conv2d(256, 256, 3, padding=1), _relu()),
    ]
    return Backbone(layers, (2, 5, 8, 10, 12), minimum_side=31)


def shift_tolerant_alexnet() -> Backbone:
    """Source: Ghildyal and Liu (2022), "Shift-tolerant perceptual similarity metric", section 4."""
    layers = [
        *(nn.Conv2d(3, 64, 11, stride=1, padding=2), BlurPool(64), _relu(), nn.MaxPool2d(3, 1), BlurPool(64)),
        *(nn.Conv2d(64, 192, 5, padding=2), _relu(), nn.MaxPool2d(3, 1), BlurPool(192)),
        *(nn.Conv2d(192, 384, 3, padding=1), _relu()),
        *(nn.Conv2d(384, 256, 3, padding=1), _relu()),
        *(nn.Conv2d(256, 256, 3, padding=1), _relu()),
    ]
    return Backbone(layers, (3, 7, 11, 13, 15), minimum_side=21)


def _vgg16_layers(pool: Callable[[int], list[nn.Module]]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for block, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers += pool(channels) if block else []
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), _relu()]
            channels = width
    return layers


def vgg16() -> Backbone:
    """Source: Simonyan and Zisserman (2015), table 1, configuration D."""
    return Backbone(_vgg16_layers(lambda _channels: [nn.MaxPool2d(2, 2)]), (4, 9, 16, 23, 30), minimum_side=16)


def shift_tolerant_vgg16() -> Backbone:
    """Source: Ghildyal and Liu (2022), "Shift-tolerant perceptual similarity metric", section 4."""
    layers = _vgg16_layers(lambda channels: [nn.MaxPool2d(2, 1), BlurPool(channels)])
    return Backbone(layers, (4, 10, 18, 26, 34), minimum_side=18)


def squeezenet() -> Backbone:
    """Source: Iandola et al. (2016), version 1.1."""
    layers = [
        *(nn.Conv2d(3, 64, 3, stride=2), _relu(), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    ]
    return Backbone(layers, (2, 5, 8, 10, 11, 12, 13), minimum_side=17)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "alexnet": alexnet,
    "vgg16": vgg16,
    "squeezenet1_1": squeezenet,
    "shift-tolerant-alexnet": shift_tolerant_alexnet,
    "shift-tolerant-vgg16": shift_tolerant_vgg16,
}


def build_backbone(name: str, weights: Mapping[str, Any]) -> Backbone:
    """A backbone of `BACKBONES` with these weights.

    Made without memory first, so no random numbers are drawn and nothing is set twice.

    Raises:
        AssetError: the weights are of another network.
    """
    with torch.device("meta"):
        backbone = BACKBONES[name]()
    backbone.load(weights)
    return backbone
