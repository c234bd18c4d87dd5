"""The network of StyleGAN2, with the names of public checkpoints.

Written from the papers: Karras, Laine and Aila (2019), "A style-based generator architecture for generative adversarial
networks" (mapping, truncation, noise); Karras et al. (2020), "Analyzing and improving the image quality of StyleGAN"
(modulated convolution with demodulation, pictures that are summed); Karras et al. (2020), "Training generative
adversarial networks with limited data" (classes, clamping). Equalised learning rates: Karras et al. (2018), 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from .architecture import Architecture

#: keeps the root of a sum of squares away from 0
_TINY = 1e-8
#: activations of one row, in bytes, from which on a CPU does rows one by one: those of several leave its caches, and
#: are so large that the allocator returns them to the system, which clears every page again
_ROW_BYTES = 6 * 2**20


class Dense(nn.Module):
    """A linear layer whose weights are kept at unit variance: [R, n] -> [R, m]."""

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.gain, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * self.gain, self.bias * self.rate)


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU, scaled so that it keeps the variance."""
    return leaky_relu(x, 0.2) * math.sqrt(2)


def _normalised(x: Tensor) -> Tensor:
    """Mean square 1 in each row."""
    return x * (x.square().mean(dim=1, keepdim=True) + _TINY).rsqrt()


class MappingNetwork(nn.Module):
    """From z and a class to w."""

    w_avg: Tensor

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.depth = shape.depth
        if shape.classes:
            self.embed = Dense(shape.classes, shape.embedded)
        sides = [shape.z + (shape.embedded if shape.classes else 0), *[shape.hidden] * (shape.depth - 1), shape.w]
        for index in range(shape.depth):
            self.add_module(f"fc{index}", Dense(sides[index], sides[index + 1], shape.rate))
        self.register_buffer("w_avg", torch.zeros(shape.w))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[R, z] and, if there are classes, [R, classes] -> [R, w]."""
        x = _normalised(z)
        if label is not None:
            x = torch.cat([x, _normalised(self.embed(label))], dim=1)
        for index in range(self.depth):
            x = activated(self.get_submodule(f"fc{index}")(x))
        return x


def smooth(x: Tensor, taps: Tensor) -> Tensor:
    """Filter with gain 4, after zeros were put between pixels: [R, C, 2H + 1, 2W + 1] -> [R, C, 2H, 2W]."""
    channels = x.shape[1]
    kernel = (4 * taps.flip(0, 1)).expand(channels, 1, *taps.shape)
    return conv2d(x, kernel, padding=taps.shape[0] // 2 - 1, groups=channels)


def doubled(x: Tensor, taps: Tensor) -> Tensor:
    """[R, C, H, W] -> [R, C, 2H, 2W]."""
    rows, channels, height, width = x.shape
    x = x.reshape(rows * channels, 1, height, width)
    x = conv_transpose2d(x, (4 * taps)[None, None], stride=2, padding=taps.shape[0] // 2 - 1)
    return x.reshape(rows, channels, *x.shape[2:])


def binomial(taps: int) -> Tensor:
    """The filter that checkpoints have if nobody changed it, 1 3 3 1 for four taps: [taps, taps], sum 1."""
    line = torch.tensor([float(math.comb(taps - 1, index)) for index in range(taps)])
    return torch.outer(line, line) / line.sum() ** 2


class Convolution(nn.Module):
    """Modulated 3 × 3 convolution, demodulated; then noise, bias and leaky ReLU."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(self, shape: Architecture, layer: str) -> None:
        super().__init__()
        self.up, self.clamp = layer.endswith("conv0"), shape.clamp
        inputs = shape.style_size(layer)
        outputs = shape.channels[shape.blocks.index(layer.partition(".")[0])]
        self.affine = Dense(shape.w, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(*shape.sides(layer)))
        self.register_buffer("resample_filter", binomial(shape.taps))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        # Weights of each row, w · s over their norm, are the same as activations times s, and results over the norm.
        # One convolution for all rows then, where weights of each row would need one for each.
        squares = self.weight.square().sum(dim=(2, 3))
        demodulation = (style.square() @ squares.t() + _TINY).rsqrt()
        x = x * style[:, :, None, None]
        if self.up:
            x = smooth(conv_transpose2d(x, self.weight.transpose(0, 1), stride=2), self.resample_filter)
        else:
            x = conv2d(x, self.weight, padding=1)
        x = x * demodulation[:, :, None, None]
        x = x + (self.noise_const if noise is None else noise[:, None]) * self.noise_strength
        return _kept(activated(x + self.bias[:, None, None]), self.clamp)


class Colours(nn.Module):
    """Modulated 1 × 1 convolution to a picture, not demodulated."""

    def __init__(self, shape: Architecture, layer: str) -> None:
        super().__init__()
        inputs = shape.style_size(layer)
        self.clamp, self.gain = shape.clamp, 1 / math.sqrt(inputs)
        self.affine = Dense(shape.w, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = conv2d(x * (style * self.gain)[:, :, None, None], self.weight)
        return _kept(x + self.bias[:, None, None], self.clamp)


def _kept(x: Tensor, clamp: float | None) -> Tensor:
    return x if clamp is None else x.clamp(-clamp, clamp)


class State(NamedTuple):
    """What one block hands to the next: activations [R, C, H, W], and the picture so far, [R, 3, H, W] or None."""

    x: Tensor
    picture: Tensor | None


class Block(nn.Module):
    """All layers of one resolution."""

    resample_filter: Tensor

    def __init__(self, shape: Architecture, name: str) -> None:
        super().__init__()
        self.name, self.first = name, name == shape.blocks[0]
        if self.first:
            self.const = nn.Parameter(torch.randn(shape.channels[0], *shape.base))
        else:
            self.conv0 = Convolution(shape, f"{name}.conv0")
        self.conv1 = Convolution(shape, f"{name}.conv1")
        self.torgb = Colours(shape, f"{name}.torgb")
        self.register_buffer("resample_filter", binomial(shape.taps))

    def forward(self, state: State | None, styles: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> State:
        if state is None:
            rows = styles[f"{self.name}.conv1"].shape[0]
            x, picture = self.const.expand(rows, *self.const.shape), None
        else:
            x, picture = state
            x = self.conv0(x, styles[f"{self.name}.conv0"], noise.get(f"{self.name}.conv0"))
        x = self.conv1(x, styles[f"{self.name}.conv1"], noise.get(f"{self.name}.conv1"))
        colours = self.torgb(x, styles[f"{self.name}.torgb"])
        if picture is not None:
            colours = colours + doubled(picture, self.resample_filter)
        return State(x, colours)


class Synthesis(nn.Module):
    """From styles to a picture, block by block."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        for name in shape.blocks:
            self.add_module(name, Block(shape, name))

    def styles(self, ws: Tensor, first: int = 0) -> dict[str, Tensor]:
        """Styles of block number `first` and later ones: layer -> [R, channels into it].

        Args:
            ws: [R, rows, w], from row `Architecture.first_row(first)` on.
        """
        shape, offset = self.shape, self.shape.first_row(first)
        layers = [layer for layer in shape.styled if layer.partition(".")[0] in shape.blocks[first:]]
        return {layer: self.get_submodule(f"{layer}.affine")(ws[:, shape.row_of(layer) - offset]) for layer in layers}

    def run(
        self,
        state: State | None,
        styles: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        first: int = 0,
        last: int | None = None,
    ) -> State:
        """Blocks `first` to before `last`.

        Args:
            state: what block `first` - 1 made; None before the first one.
            styles: layer -> [R, channels into it], at least those of the blocks that are run.
            noise: convolution -> [R, H, W]; those that are missing have the map of the checkpoint.
        """
        names = self.shape.blocks[first:last]
        for index, name in enumerate(names):
            if state is not None and state.x.shape[0] > 1 and self._large(name, state.x):
                return self._row_by_row(state, styles, noise, names[index:])
            state = self.get_submodule(name)(state, styles, noise)
        if state is None:
            raise ValueError("no blocks to run")
        return state

    def _large(self, name: str, x: Tensor) -> bool:
        height, width = self.shape.sides(f"{name}.conv1")
        channels = self.shape.channels[self.shape.blocks.index(name)]
        return x.device.type == "cpu" and channels * height * width * x.element_size() > _ROW_BYTES

    def _row_by_row(
        self, state: State, styles: Mapping[str, Tensor], noise: Mapping[str, Tensor], names: tuple[str, ...]
    ) -> State:
        rows = []
        for row in range(state.x.shape[0]):
            here = slice(row, row + 1)
            own = State(state.x[here], None if state.picture is None else state.picture[here])
            own_styles = {layer: style[here] for layer, style in styles.items()}
            own_noise = {layer: noise_map[here] for layer, noise_map in noise.items()}
            for name in names:
                own = self.get_submodule(name)(own, own_styles, own_noise)
            rows.append(own)
        pictures = [own.picture for own in rows if own.picture is not None]
        return State(torch.cat([own.x for own in rows]), torch.cat(pictures) if pictures else None)


class StyleGAN2(nn.Module):
    """Mapping and synthesis."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.mapping, self.synthesis = MappingNetwork(shape), Synthesis(shape)

    def forward(self, styles: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        """Styles and maps of noise, see `Synthesis.run`, to [R, 3, H, W], not clamped."""
        picture = self.synthesis.run(None, styles, noise).picture
        if picture is None:
            raise ValueError("no block made a picture")
        return picture
