"""Crop, resize, pad and the way back; masks as weights."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from latent_inv.errors import ImageError, InputError, ShapeError, SpecError
from latent_inv.images import Picture, Placement, crop_and_fit, load, with_weight


def picture(height: int, width: int, *, seed: int = 0, weight: np.ndarray | None = None) -> Picture:
    pixels = np.random.default_rng(seed).uniform(-1, 1, (3, height, width)).astype(np.float32)
    return Picture(pixels, None if weight is None else weight.astype(np.float32))


def test_crop_counts_pixels_of_the_upright_picture() -> None:
    source = picture(10, 14)
    fitted, place = crop_and_fit(source, crop=(3, 2, 9, 8), size=(6, 6))
    assert (fitted.pixels == source.pixels[:, 2:8, 3:9]).all()
    assert place == Placement(6, 6, (3, 2, 9, 8))
    assert fitted.warnings == ()


@pytest.mark.parametrize("crop", [(0, 0, 15, 10), (-1, 0, 5, 5), (5, 0, 5, 5), (6, 0, 5, 5), (0, 9, 5, 11)])
def test_crops_outside_or_empty_are_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ImageError, match=r"^job\.crop: .* picture of 14x10") as caught:
        crop_and_fit(picture(10, 14), crop=crop, size=(4, 4), field="job.crop")
    assert str(crop) in str(caught.value)


@pytest.mark.parametrize("crop", [(0, 0, 5), (0.0, 0, 5, 5), "0,0,5,5", (0, 0, True, 5), (None,) * 4])
def test_crops_that_are_no_four_numbers_are_refused(crop: object) -> None:
    with pytest.raises(ImageError, match="four whole numbers"):
        crop_and_fit(picture(10, 14), crop=crop, size=(4, 4))


def test_size_and_stride_are_checked() -> None:
    for size in ((0, 4), (4, 4.5), (4,), (4, 4, 3)):
        with pytest.raises(SpecError, match=r"^size: must be \(H, W\)"):
            crop_and_fit(picture(8, 8), size=size)
    for stride in (0, -8, 2.0):
        with pytest.raises(SpecError, match=r"^stride: must be a whole number"):
            crop_and_fit(picture(8, 8), size=None, stride=stride)


def test_without_crop_the_middle_with_the_right_shape_is_taken() -> None:
    source = picture(20, 40)
    fitted, place = crop_and_fit(source, size=(20, 20))
    assert place.box == (10, 0, 30, 20)
    assert (fitted.pixels == source.pixels[:, :, 10:30]).all()
    assert fitted.warnings == ("cut from 40x20 to 20x20 pixels to fit the shape 20x20",)
    fitted, place = crop_and_fit(source, crop=(0, 4, 8, 20), size=(4, 8))
    assert place.box == (0, 10, 8, 14)
    assert (fitted.pixels == source.pixels[:, 10:14, :8]).all()


def test_enlarging_is_a_warning() -> None:
    fitted, _ = crop_and_fit(picture(8, 8), size=(16, 16))
    assert fitted.warnings == ("enlarged from 8x8 to 16x16 pixels",)
    assert crop_and_fit(picture(16, 16), size=(8, 8))[0].warnings == ()


def test_resizing_is_antialiased_and_stays_in_range() -> None:
    stripes = np.ones((3, 64, 64), np.float32)
    stripes[:, :, ::2] = -1
    fitted, _ = crop_and_fit(Picture(stripes), size=(16, 16))
    # Stripes of one pixel average to grey; every fourth pixel alone would give -1. Borders see half a kernel: left out.
    assert np.abs(fitted.pixels[:, :, 2:-2]).max() < 0.05
    step = np.where(np.arange(64) < 30, -1, 1).astype(np.float32)
    edge, _ = crop_and_fit(Picture(np.broadcast_to(step, (3, 64, 64)).copy()), size=(24, 24))
    assert edge.pixels.min() == -1
    assert edge.pixels.max() == 1


def test_resizing_agrees_with_an_independent_lanczos() -> None:
    source = picture(12, 12)

    def matrix(size: int, new: int) -> np.ndarray:
        # Lanczos (1950s), a = 3, stretched by the factor so that it also filters; pixel centres at + 1/2.
        factor = size / new
        centre = (np.arange(new)[:, None] + 0.5) * factor
        x = (np.arange(size) + 0.5 - centre) / factor
        weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
        return weights / weights.sum(axis=1, keepdims=True)

    rows = matrix(12, 4)
    expected = np.clip(rows @ source.pixels.astype(np.float64) @ rows.T, -1, 1)
    # 1e-5: float32 between the two passes
    assert np.abs(crop_and_fit(source, size=(4, 4))[0].pixels - expected).max() < 1e-5


@pytest.mark.parametrize("size", [(8, 8), (12, 12), (31, 17), (64, 64)])
def test_hidden_colours_never_reach_a_resized_picture(size: tuple[int, int]) -> None:
    seen = (np.random.default_rng(1).random((32, 32)) < 0.6).astype(np.float32)
    seen[4:20, 6:25] = 0
    fitted = []
    for hidden in (-1.0, 1.0):
        source = picture(32, 32)
        source.pixels[:, seen == 0] = hidden
        fitted.append(crop_and_fit(Picture(source.pixels, seen), size=size)[0])
    assert (fitted[0].pixels == fitted[1].pixels).all()
    assert (fitted[0].weight == fitted[1].weight).all()


@pytest.mark.parametrize("size", [(8, 8), (13, 13), (48, 48)])
def test_a_flat_colour_stays_itself_beside_a_hole(size: tuple[int, int]) -> None:
    seen = np.ones((32, 32), np.float32)
    seen[10:20, 7:23] = 0
    pixels = np.full((3, 32, 32), 0.75, np.float32)
    pixels[:, seen == 0] = -1
    fitted, _ = crop_and_fit(Picture(pixels, seen), size=size)
    # 1e-5: quotient of two float32 sums
    assert np.abs(fitted.pixels[:, fitted.weight > 0] - 0.75).max() < 1e-5
    assert (fitted.pixels[:, fitted.weight == 0] == 0).all()


def test_the_weight_is_the_seen_part_of_each_new_pixel() -> None:
    seen = np.zeros((8, 8), np.float32)
    seen[:, :3] = 1
    fitted, _ = crop_and_fit(Picture(np.zeros((3, 8, 8), np.float32), seen), size=(4, 4))
    assert fitted.weight == pytest.approx(np.tile([1, 0.5, 0, 0], (4, 1)), abs=1e-6)


def test_weight_of_ones_resizes_like_none() -> None:
    source = picture(20, 20)
    plain, _ = crop_and_fit(source, size=(9, 9))
    weighed, _ = crop_and_fit(Picture(source.pixels, np.ones((20, 20), np.float32)), size=(9, 9))
    assert np.abs(plain.pixels - weighed.pixels).max() < 1e-5


def test_a_crop_with_nothing_to_see_is_refused() -> None:
    seen = np.ones((8, 8), np.float32)
    seen[:4, :4] = 0
    for size in ((4, 4), None):
        with pytest.raises(InputError, match=r"^crop: .*hides every pixel"):
            crop_and_fit(picture(8, 8, weight=seen), crop=(0, 0, 4, 4), size=size)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 16))
def test_padding_and_back_is_the_identity(height: int, width: int, stride: int) -> None:
    source = picture(height, width)
    fitted, place = crop_and_fit(source, size=None, stride=stride)
    assert fitted.height % stride == fitted.width % stride == 0
    assert fitted.height - height < stride
    assert fitted.width - width < stride
    assert (place.crop_back(fitted.pixels) == source.pixels).all()
    assert (place.crop_back(torch.from_numpy(fitted.pixels)[None]).numpy() == source.pixels).all()
    if fitted.weight is None:
        assert (fitted.height, fitted.width) == (height, width)
    else:
        assert (place.crop_back(fitted.weight) == 1).all()
        assert fitted.weight.sum() == height * width
    assert place.box == (0, 0, width, height)


def test_padding_is_a_reflection() -> None:
    source = Picture(np.tile(np.linspace(-1, 1, 5, dtype=np.float32), (3, 8, 1)))
    fitted, _ = crop_and_fit(source, size=None, stride=8)
    assert fitted.pixels[0, 0].tolist() == [-1, -0.5, 0, 0.5, 1, 0.5, 0, -0.5]
    assert fitted.weight[0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]


def test_padding_keeps_the_weight_and_the_crop() -> None:
    seen = np.random.default_rng(0).random((10, 9)) + 0.01
    source = picture(10, 9, weight=np.minimum(seen, 1))
    fitted, place = crop_and_fit(source, crop=(1, 2, 8, 9), size=None, stride=4)
    assert fitted.pixels.shape == (3, 8, 8)
    assert (place.crop_back(fitted.weight) == source.weight[2:9, 1:8]).all()


def test_crop_back_refuses_what_is_too_small() -> None:
    with pytest.raises(ShapeError, match=r"at least \[\.\.\., 5, 6\]"):
        Placement(5, 6, (0, 0, 6, 5)).crop_back(np.zeros((3, 5, 5)))


MASK = np.tile(np.arange(6) < 4, (5, 1))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_every_form_of_one_mask_is_the_same(tmp_path: Path) -> None:
    grey = Image.fromarray(MASK.astype(np.uint8) * 255)
    (tmp_path / "mask.png").write_bytes(encoded(grey))
    transparent = Image.merge("LA", [Image.new("L", grey.size, 255), grey])
    forms = (
        MASK,
        MASK.astype(np.uint8) * 255,
        MASK.astype(np.float32),
        MASK.astype(np.float64)[..., None],
        MASK[None],
        torch.from_numpy(MASK),
        grey,
        grey.convert("1"),
        grey.convert("RGB"),
        transparent,
        encoded(grey),
        encoded(grey, "BMP"),
        tmp_path / "mask.png",
        str(tmp_path / "mask.png"),
    )
    for form in forms:
        assert (with_weight(picture(5, 6), form).weight == MASK).all(), form


def test_weights_multiply_and_white_is_seen() -> None:
    first = with_weight(picture(5, 6), np.full((5, 6), 0.5))
    second = with_weight(first, MASK)
    assert (second.weight == 0.5 * MASK).all()
    half = with_weight(picture(5, 6), Image.new("L", (6, 5), 51))
    assert half.weight == pytest.approx(0.2, abs=1e-6)


def test_what_a_mask_hides_cannot_be_told_any_more() -> None:
    one, two = picture(5, 6), picture(5, 6)
    two.pixels[:, ~MASK] = 1
    assert with_weight(one, MASK).pixels.tobytes() == with_weight(two, MASK).pixels.tobytes()
    assert (with_weight(one, MASK).pixels[:, MASK] == one.pixels[:, MASK]).all()


def test_a_full_mask_changes_nothing_and_an_empty_one_is_refused() -> None:
    assert (with_weight(picture(5, 6), np.ones((5, 6))).pixels == picture(5, 6).pixels).all()
    for empty in (np.zeros((5, 6)), Image.new("L", (6, 5), 0)):
        with pytest.raises(InputError, match=r"^mask: .*hides every pixel"):
            with_weight(picture(5, 6), empty, field="mask")


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.ones((6, 5)), "as large as the picture, 6x5, found 5x6"),
        (Image.new("L", (6, 6), 255), "found 6x6"),
        (np.ones((5, 6, 3)), r"must be \[H, W\], found \[5, 6, 3\]"),
        (np.full((5, 6), 1.5), "found 1.5 to 1.5"),
        (np.full((5, 6), np.nan), "finite"),
        (np.ones((5, 6), np.int64), "dtype int64"),
        (Image.new("RGB", (6, 5), (255, 0, 0)), "grey picture"),
        (7, "found int"),
        (b"text", "found plain text"),
    ],
)
def test_other_weights_are_refused(weight: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        with_weight(picture(5, 6), weight, field="mask")
    assert caught.value.field == "mask"


def test_warnings_of_a_mask_are_passed_on() -> None:
    buffer = io.BytesIO()
    frames = [Image.fromarray(MASK.astype(np.uint8) * 255), Image.new("L", (6, 5), 9)]
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    assert with_weight(load(np.zeros((5, 6), np.uint8)), buffer.getvalue()).warnings == (
        "weight: the file holds 2 frames or pages; only the first is used",
    )
