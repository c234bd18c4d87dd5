"""The shapes of a StyleGAN2, and the names of its layers as public checkpoints have them. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Shapes of a generator.

    Attributes:
        z, classes, w: dimensions; 0 classes: none to choose from.
        embedded: dimensions of an embedded class.
        hidden: dimensions of the hidden layers of the mapping.
        depth: layers of the mapping.
        base: height and width of the constant that the synthesis begins with.
        channels: of each block, the first one has the constant.
        taps: side of the filter that doubles resolutions.
        rate: learning rate of the mapping against that of the rest, a factor of its weights.
        clamp: activations are kept in [-clamp, clamp]; None: not.
    """

    z: int
    classes: int
    w: int
    embedded: int
    hidden: int
    depth: int
    base: tuple[int, int]
    channels: tuple[int, ...]
    taps: int = 4
    rate: float = 0.01
    clamp: float | None = None

    @property
    def blocks(self) -> tuple[str, ...]:
        """Their names, after the height of a square picture."""
        return tuple(f"b{4 << index}" for index in range(len(self.channels)))

    @property
    def layers(self) -> tuple[str, ...]:
        """Convolutions in order, as b4.conv1."""
        return tuple(f"{block}.{conv}" for block in self.blocks for conv in ("conv0", "conv1"))[1:]

    @property
    def styled(self) -> tuple[str, ...]:
        """All layers that take a style, in order, those to colours among them."""
        kinds = ("conv0", "conv1", "torgb")
        return tuple(f"{block}.{kind}" for block in self.blocks for kind in kinds)[1:]

    @property
    def rows(self) -> int:
        """How many vectors w the synthesis takes: one a convolution, and one for the last colours."""
        return len(self.layers) + 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of pictures."""
        height, width = self.base
        return height << len(self.channels) - 1, width << len(self.channels) - 1

    def sides(self, layer: str) -> tuple[int, int]:
        """Height and width of what a layer makes."""
        index = self.blocks.index(layer.partition(".")[0])
        return self.base[0] << index, self.base[1] << index

    def row_of(self, layer: str) -> int:
        """Which of the vectors w a layer takes; colours take that of the next block's first convolution."""
        block, _, kind = layer.partition(".")
        return 2 * self.blocks.index(block) + {"conv0": -1, "conv1": 0, "torgb": 1}[kind]

    def first_row(self, block: int) -> int:
        """The first of the vectors w that block number `block` and later ones take."""
        return max(0, 2 * block - 1)

    def style_size(self, layer: str) -> int:
        """Dimensions of a layer's style: the channels that go into it."""
        block, _, kind = layer.partition(".")
        return self.channels[self.blocks.index(block) - (kind == "conv0")]
