"""Comparison and sheet: the pixels themselves, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest

from latent_inv import report
from latent_inv.errors import ShapeError
from latent_inv.images import Picture, to_uint8
from latent_inv.report.comparison import amplification
from latent_inv.report.panels import panel
from latent_inv.result import Metrics
from tests.conftest import make_picture


def places(canvas: np.ndarray, wanted: np.ndarray) -> list[tuple[int, int]]:
    """Where `wanted` stands in `canvas`, pixel by pixel, as (row, column)."""
    height, width = wanted.shape[:2]
    rows, columns = np.nonzero((canvas == wanted[0, 0]).all(axis=2))
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if canvas[row : row + height, column : column + width].shape == wanted.shape
        and (canvas[row : row + height, column : column + width] == wanted).all()
    ]


def frame(canvas: np.ndarray, width: int = 8) -> np.ndarray:
    """The outermost pixels."""
    inside = np.zeros(canvas.shape[:2], bool)
    inside[width:-width, width:-width] = True
    return canvas[~inside]


def test_the_comparison_shows_the_pixels_themselves() -> None:
    target, pixels = make_picture(64, 64), make_picture(64, 64, seed=1).pixels
    canvas = report.comparison_image(target, pixels, Metrics(20.0, 0.1, 0.01), factor=3)
    wanted, found = to_uint8(target.pixels), to_uint8(pixels)
    difference = np.minimum(np.abs(wanted.astype(int) - found) * 3, 255).astype(np.uint8)
    spots = [places(canvas, np.kron(levels, np.ones((4, 4, 1), np.uint8))) for levels in (wanted, found, difference)]
    assert [len(spot) for spot in spots] == [1, 1, 1]
    (first, second, third) = (spot[0] for spot in spots)
    assert first[0] == second[0] == third[0]
    assert first[1] < second[1] < third[1]


def test_what_is_hidden_is_not_seen() -> None:
    weight = np.ones((16, 16), np.float32)
    weight[2:9, 3:7] = 0
    target = make_picture(16, 16, weight=weight)
    pixels = 0.5 * target.pixels
    canvas = report.comparison_image(target, pixels)
    changed = Picture(np.where(weight == 0, np.float32(1), target.pixels), weight)
    assert (report.comparison_image(changed, pixels) == canvas).all()
    # The reconstruction is shown whole, so only its own panel may follow.
    other = report.comparison_image(target, np.where(weight == 0, np.float32(1), pixels))
    columns = np.flatnonzero((other != canvas).any(axis=(0, 2)))
    assert columns.size > 0
    assert columns.max() - columns.min() < 256


@pytest.mark.parametrize(
    ("difference", "factor"),
    [
        (np.zeros(100), 1),
        (np.full(100, 3), 80),  # 3 · 80 ≤ 255 < 3 · 100
        (np.full(100, 255), 1),
        (np.r_[np.zeros(9999), 10], 20),  # the one that differs decides
        (np.r_[np.full(9999, 1), 255], 200),  # the one that stands out does not
        (np.empty(0), 1),
    ],
)
def test_the_amplification_fits_the_difference(difference: np.ndarray, factor: int) -> None:
    assert amplification(difference) == factor


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (8, 300), (300, 8), (90, 64), (64, 200), (900, 1300)])
def test_any_size_is_drawn_with_white_margins(size: tuple[int, int]) -> None:
    target = make_picture(*size)
    text = "a title that is longer than the pictures are wide " * 2
    canvas = report.comparison_image(target, -target.pixels, Metrics(1.0, 10.0, 0.5), title=text)
    assert canvas.dtype == np.uint8
    assert (frame(canvas) == 255).all()  # also: no text is cut by an edge
    assert max(canvas.shape) < 3000
    sheet = report.grid(target.pixels[None], ["one"])
    assert (frame(sheet) == 255).all()


def test_headings_of_thin_panels_stay_apart() -> None:
    target = make_picture(300, 1)
    canvas = report.comparison_image(target, target.pixels)
    inked = np.flatnonzero((canvas[20:44] < 255).any(axis=(0, 2)))
    # Words of one heading are about 6 pixels apart, panels at least 15.
    assert np.count_nonzero(np.diff(inked) > 12) == 2


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 64), (256, 256)), ((1, 1), (256, 256)), ((100, 150), (300, 450)), ((256, 300), (256, 300))],
)
def test_small_panels_are_enlarged_by_whole_factors(size: tuple[int, int], expected: tuple[int, int]) -> None:
    levels = to_uint8(make_picture(*size).pixels)
    shown = panel(levels)
    assert shown.shape[:2] == expected
    factor = expected[0] // size[0]
    assert (shown == np.kron(levels, np.ones((factor, factor, 1), np.uint8))).all()


def test_two_sizes_are_not_compared() -> None:
    with pytest.raises(ShapeError, match="6x4 and 4x6"):
        report.comparison_image(make_picture(4, 6), make_picture(6, 4).pixels)


@pytest.mark.parametrize("count", [1, 2, 5, 9, 17])
def test_a_sheet_shows_all_pictures_in_order(count: int) -> None:
    images = np.stack([make_picture(32, 32, seed).pixels for seed in range(count)])
    sheet = report.grid(images, [f"seed {seed} with a caption that is far too long 日本" for seed in range(count)])
    spots = []
    for image in images:
        found = places(sheet, np.kron(to_uint8(image), np.ones((4, 4, 1), np.uint8)))
        assert len(found) == 1
        spots += found
    assert spots == sorted(spots)
    assert (frame(sheet) == 255).all()


def test_a_sheet_needs_pictures_and_their_captions() -> None:
    with pytest.raises(ShapeError, match="found none"):
        report.grid([])
    with pytest.raises(ShapeError, match="found 2 for 1"):
        report.grid(make_picture(4, 4).pixels[None], ["a", "b"])
