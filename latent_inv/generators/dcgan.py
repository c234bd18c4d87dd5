"""The network of a DCGAN's generator.

Source: Radford, Metz and Chintala (2016), figure 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


def dcgan(
    inputs: int, channels: Sequence[int], weights: Mapping[str, Tensor], *, dropout: float | None = None
) -> nn.Sequential:
    """Make the network and load published weights, whose names begin with "main.".

    Args:
        inputs: numbers that a picture is made from.
        channels: of the hidden stages; the first makes 4 × 4, each further one and the last layer double the sides.
        dropout: after the first stage, as trained. It does nothing here, but its place counts in the names of weights.
    Returns:
        [R, inputs, 1, 1] -> [R, 3, S, S] in [-1, 1], S = 4 · 2^len(channels).
    """
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(zip((inputs, *channels), channels, strict=False)):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        layers += [
            nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
        if index == 0 and dropout is not None:
            layers.append(nn.Dropout(dropout))
    network = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 3, 4, 2, 1, bias=False), nn.Tanh())
    network.load_state_dict({name.removeprefix("main."): value for name, value in weights.items()})
    return network
