"""Arrays and tensors: layout, dtype and range, and the checks of the picture itself."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch

from latent_inv.errors import ImageError, InputError, LimitError, ShapeError, SpecError
from latent_inv.images import Limits, Picture, load, to_uint8

U8 = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
EXACT = U8.astype(np.float64) / 127.5 - 1


def expect(picture: Picture, last: np.ndarray = EXACT) -> None:
    # 1e-6: a few roundings of float32 at size 1
    assert np.abs(picture.pixels - np.moveaxis(last, 2, 0)).max() <= 1e-6


FORMS = {
    "uint8": (U8, None),
    "uint8 with its own range": (U8, (0, 255)),
    "uint16": (U8.astype(np.uint16) * 257, None),
    "big-endian uint16": ((U8.astype(np.uint16) * 257).astype(">u2"), None),
    "float32 of 0..255": (U8.astype(np.float32), (0, 255)),
    "float32 of 0..1": (U8.astype(np.float32) / 255, (0, 1)),
    "float32 of -1..1": (EXACT.astype(np.float32), (-1, 1)),
    "float64 of -1..1": (EXACT, (-1.0, 1.0)),
    "channels first": (np.moveaxis(U8, 2, 0), None),
    "channels first in a batch of one": (np.moveaxis(U8, 2, 0)[None], None),
    "channels last in a batch of one": (U8[None], None),
    "not contiguous": (U8[:, ::-1][:, ::-1], None),
    "tensor": (torch.from_numpy(U8), None),
    "float tensor with gradient": (torch.from_numpy(EXACT).permute(2, 0, 1)[None].requires_grad_(), (-1, 1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_one_picture_is_the_same(form: str) -> None:
    source, value_range = FORMS[form]
    picture = load(source, value_range=value_range)
    expect(picture)
    assert picture.pixels.dtype == np.float32
    assert picture.pixels.flags.c_contiguous
    assert picture.weight is None
    assert picture.warnings == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors(dtype: torch.dtype) -> None:
    levels = torch.tensor([[0.0, 0.25], [0.5, 1.0]], dtype=dtype)
    assert load(levels, value_range=(0, 1)).pixels[1].tolist() == [[-1, -0.5], [0, 1]]


def test_the_source_is_neither_changed_nor_shared() -> None:
    source = np.zeros((3, 4, 5), np.float32)
    picture = load(source, value_range=(-1, 1))
    source += 1
    assert (picture.pixels == 0).all()
    source = np.full((3, 4, 5), 0.5, np.float32)
    load(source, value_range=(0, 1))
    assert (source == 0.5).all()


def test_grey_alpha_and_bool() -> None:
    grey = U8[..., 0]
    for source in (grey, grey[..., None], grey[None], grey[None, ..., None]):
        expect(load(source), np.repeat(EXACT[..., :1], 3, axis=2))
    assert load(grey > 9).pixels[0].tolist() == np.where(grey > 9, 1.0, -1.0).tolist()
    alpha = np.full((5, 7, 1), 255, np.uint8)
    expect(load(np.concatenate([U8, alpha], axis=2)))
    alpha[1, 2] = 0
    for colour in (U8, U8 // 2 + U8[1, 2] * 0):
        picture = load(np.concatenate([colour, alpha], axis=2))
        assert picture.weight[1, 2] == 0
        assert (picture.pixels[:, 1, 2] == 0).all()
    floats = np.concatenate([EXACT, alpha / 127.5 - 1], axis=2)
    assert np.abs(load(floats, value_range=(-1, 1)).weight - alpha[..., 0] / 255).max() < 1e-6


def test_channels_last_wins_where_both_could_be() -> None:
    square = np.zeros((3, 3, 3), np.uint8)
    square[..., 0] = 255
    assert (load(square).pixels[0] == 1).all()
    assert load(np.zeros((3, 6, 4), np.uint8) + np.uint8(9)).pixels.shape == (3, 3, 6)
    assert load(np.zeros((4, 6, 5), np.uint8) + np.uint8(9)).pixels.shape == (3, 6, 5)


@pytest.mark.parametrize("shape", [(), (4,), (5, 6, 7), (2, 5, 6), (2, 3, 8, 8), (1, 1, 3, 8, 8), (1, 2, 8, 8)])
def test_other_shapes_are_refused_with_the_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"^picture: ") as caught:
        load(np.zeros(shape, np.uint8), field="picture")
    assert str(list(shape)) in str(caught.value) or "batch of 2" in str(caught.value)


def test_batches_are_refused_with_their_count() -> None:
    with pytest.raises(ShapeError, match="found a batch of 6"):
        load(torch.zeros(6, 3, 8, 8), value_range=(0, 1))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32, np.complex64, object, "U1", "M8[s]"])
def test_other_dtypes_are_refused_by_name(dtype: object) -> None:
    array = np.zeros((4, 4, 3), dtype)
    with pytest.raises(ImageError, match=re.escape(f"dtype {array.dtype.name} is not accepted; accepted: uint8")):
        load(array)


def test_tensors_without_array_form_are_refused() -> None:
    with pytest.raises(ImageError, match="accepted: dense tensors"):
        load(torch.zeros(4, 4).to_sparse(), value_range=(0, 1))


def test_floats_must_state_their_range() -> None:
    with pytest.raises(ImageError, match=r"state value_range, one of \(-1, 1\), \(0, 1\), \(0, 255\)"):
        load(EXACT)
    with pytest.raises(SpecError, match=r"^image\.value_range: accepted: .* found \(0, 2\)"):
        load(EXACT, value_range=(0, 2))
    with pytest.raises(ImageError, match="leave it out"):
        load(U8, value_range=(0, 1))


@pytest.mark.parametrize(
    ("values", "declared", "words"),
    [
        ((-1.5, 0.5), (-1, 1), "from -1.5 to 0.5"),
        ((0.0, 255.0), (0, 1), "from 0 to 255"),
        ((-1.0, 1.0), (0, 1), "from -1 to 1"),
        ((0.0, 256.0), (0, 255), "from 0 to 256"),
        ((0.0, 1.0001), (0, 1), "from 0 to 1.0001"),
    ],
)
def test_values_outside_the_declared_range(values: tuple[float, float], declared: tuple[int, int], words: str) -> None:
    array = np.full((4, 4), values[0], np.float32)
    array[2, 2] = values[1]
    with pytest.raises(ImageError, match=words):
        load(array, value_range=declared)


def test_rounding_at_the_ends_is_no_error() -> None:
    ends = np.array([[np.nextafter(np.float32(1), np.float32(2)), 0.0]], np.float32)
    assert load(ends, value_range=(0, 1)).pixels.max() == 1.0


def test_a_range_too_wide_for_the_values_is_a_warning() -> None:
    picture = load(EXACT.clip(0), value_range=(0, 255))
    assert "nearly black" in picture.warnings[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad: float) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 2, 3] = bad
    with pytest.raises(ImageError, match=rf"found {bad} at index \[1, 2, 3\]"):
        load(array, value_range=(-1, 1))


def test_arrays_keep_the_limits() -> None:
    with pytest.raises(LimitError, match="at most 30 pixels"):
        load(U8, limits=Limits(max_pixels=30))
    with pytest.raises(ImageError, match="at least 1"):
        load(np.zeros((0, 4, 3), np.uint8))
    # A view of one number, so the check must come before any copy.
    with pytest.raises(LimitError):
        load(np.broadcast_to(np.uint8(1), (10**6, 10**6, 3)))


def test_a_picture_survives_pickling() -> None:
    picture = Picture(np.zeros((3, 2, 4), np.float32), np.ones((2, 4), np.float32), ("note",))
    back = pickle.loads(pickle.dumps(picture))
    assert (back.height, back.width, back.warnings) == (2, 4, ("note",))
    assert (back.weight == 1).all()


@pytest.mark.parametrize(
    ("pixels", "weight", "error"),
    [
        (np.zeros((3, 2, 2)), None, ImageError),
        (np.zeros((2, 2, 3), np.float32), None, ShapeError),
        (np.zeros((3, 2, 2), np.float32).transpose(0, 2, 1)[:, ::-1], None, ImageError),
        (np.full((3, 2, 2), 1.1, np.float32), None, ImageError),
        (np.full((3, 2, 2), np.nan, np.float32), None, ImageError),
        (np.zeros((3, 0, 2), np.float32), None, ShapeError),
        ([[[0.0]]] * 3, None, ImageError),
        (np.zeros((3, 2, 2), np.float32), np.ones((2, 3), np.float32), ShapeError),
        (np.zeros((3, 2, 2), np.float32), np.full((2, 2), -0.1, np.float32), ImageError),
        (np.zeros((3, 2, 2), np.float32), np.zeros((2, 2), np.float32), InputError),
    ],
)
def test_a_picture_checks_itself(pixels: object, weight: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        Picture(pixels, weight)


def test_levels_of_uint8_come_back() -> None:
    assert (to_uint8(load(U8).pixels) == U8).all()
