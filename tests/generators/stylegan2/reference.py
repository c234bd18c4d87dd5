"""StyleGAN2 once more: numpy, float64, row by row, weights modulated and demodulated one by one, zeros put in.

It shares no code with the package, and computes in other places: nothing is batched, and no activation is scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Weights = Mapping[str, np.ndarray]


def correlate(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """[I, H, W] and [O, I, k, k] -> [O, H - k + 1, W - k + 1]."""
    side = kernel.shape[-1]
    height, width = x.shape[1] - side + 1, x.shape[2] - side + 1
    out = np.zeros((kernel.shape[0], height, width))
    for i in range(side):
        for j in range(side):
            out += np.einsum("oi,ihw->ohw", kernel[:, :, i, j], x[:, i : i + height, j : j + width])
    return out


def padded(x: np.ndarray, before: int, after: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (before, after), (before, after)))


def with_zeros(x: np.ndarray) -> np.ndarray:
    out = np.zeros((x.shape[0], 2 * x.shape[1], 2 * x.shape[2]))
    out[:, ::2, ::2] = x
    return out


def filtered(x: np.ndarray, taps: np.ndarray, before: int, after: int) -> np.ndarray:
    """A true convolution with gain 4."""
    kernel = 4 * taps[::-1, ::-1][None, None]
    return np.concatenate([correlate(padded(channel[None], before, after), kernel) for channel in x])


def leaky(x: np.ndarray) -> np.ndarray:
    return np.sqrt(2) * np.where(x < 0, 0.2 * x, x)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2) + 1e-8)


def mapped(weights: Weights, z: np.ndarray, label: np.ndarray | None, rate: float) -> np.ndarray:
    x = unit(z)
    if label is not None:
        matrix = weights["mapping.embed.weight"]
        x = np.concatenate([x, unit(matrix @ label / np.sqrt(len(label)) + weights["mapping.embed.bias"])])
    index = 0
    while f"mapping.fc{index}.weight" in weights:
        matrix = weights[f"mapping.fc{index}.weight"]
        x = leaky(matrix @ x * rate / np.sqrt(len(x)) + weights[f"mapping.fc{index}.bias"] * rate)
        index += 1
    return x


def picture(weights: Weights, ws: np.ndarray, clamp: float = np.inf, noise: Mapping[str, Any] | None = None) -> Any:
    """One row: [rows, w] -> [3, H, W]."""
    noise = noise or {}

    def style(name: str, w: np.ndarray) -> np.ndarray:
        return weights[f"{name}.affine.weight"] @ w / np.sqrt(len(w)) + weights[f"{name}.affine.bias"]

    def layer(x: np.ndarray, name: str, w: np.ndarray, up: bool) -> np.ndarray:
        kernel = weights[f"{name}.weight"] * style(name, w)[None, :, None, None]
        kernel = kernel / np.sqrt((kernel**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
        if up:
            # Zeros between pixels, all shifts of the flipped kernel, then the filter.
            x = correlate(padded(with_zeros(x)[:, :-1, :-1], 2, 2), kernel[:, :, ::-1, ::-1])
            x = filtered(x, weights[f"{name}.resample_filter"], 1, 1)
        else:
            x = correlate(padded(x, 1, 1), kernel)
        drawn = noise.get(name.removeprefix("synthesis."), weights[f"{name}.noise_const"])
        x = x + drawn * weights[f"{name}.noise_strength"] + weights[f"{name}.bias"][:, None, None]
        return np.clip(leaky(x), -clamp, clamp)

    x, image, row, block = weights["synthesis.b4.const"], None, 0, 4
    while f"synthesis.b{block}.conv1.weight" in weights:
        name = f"synthesis.b{block}"
        if block > 4:
            x = layer(x, f"{name}.conv0", ws[row], True)
            row += 1
        x = layer(x, f"{name}.conv1", ws[row], False)
        row += 1
        scaled = style(f"{name}.torgb", ws[row]) / np.sqrt(len(x))
        colours = correlate(x, weights[f"{name}.torgb.weight"] * scaled[None, :, None, None])
        colours = np.clip(colours + weights[f"{name}.torgb.bias"][:, None, None], -clamp, clamp)
        if image is not None:
            colours = colours + filtered(with_zeros(image), weights[f"{name}.resample_filter"], 2, 1)
        image, block = colours, 2 * block
    return image
