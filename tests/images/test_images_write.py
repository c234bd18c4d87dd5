"""The writer: exact, plain, whole or not at all."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from latent_inv.errors import ImageError, InputError, ShapeError
from latent_inv.images import encode_png, load, to_uint8, write_png

SIDES = st.integers(1, 12)
PICTURES = st.tuples(SIDES, SIDES).flatmap(lambda hw: arrays.arrays(np.uint8, (*hw, 3)))


@settings(max_examples=100, deadline=None)
@given(PICTURES)
def test_levels_survive_every_way_through(pixels: np.ndarray) -> None:
    data = encode_png(pixels)
    for source in (data, Image.fromarray(pixels), pixels[None]):
        picture = load(source)
        assert (to_uint8(picture.pixels) == pixels).all()
        assert encode_png(picture.pixels) == data


def test_all_levels_round_to_themselves_and_halves_to_a_neighbour() -> None:
    values = np.linspace(-1, 1, 256)
    assert (to_uint8(np.tile(values, (3, 1, 1)))[0, :, 0] == np.arange(256)).all()
    for shift in (-0.49, 0.49):
        moved = np.tile(values + shift / 127.5, (3, 1, 1))
        assert (to_uint8(moved)[0, :, 0] == np.arange(256)).all()


def test_what_is_out_of_range_is_clipped() -> None:
    assert to_uint8(torch.tensor([-3.0, 0.9999, 7.0]).view(3, 1, 1)).tolist() == [[[0, 255, 255]]]


@pytest.mark.parametrize(
    ("pixels", "error"),
    [
        (np.zeros((4, 4, 3)), ShapeError),
        (np.zeros((3, 0, 4)), ShapeError),
        (np.zeros((3, 4, 4), np.int32), ImageError),
        (np.full((3, 4, 4), np.nan), ImageError),
        (np.zeros((3, 4, 4), np.uint8), ShapeError),
    ],
)
def test_other_pixels_are_refused(pixels: np.ndarray, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        write_png(tmp_path / "out.png", pixels)
    assert list(tmp_path.iterdir()) == []


def test_grey_levels_can_be_written_as_grey() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (np.asarray(Image.open(io.BytesIO(encode_png(grey)))) == grey).all()


def test_a_file_holds_pixels_and_nothing_else(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (4, 8), (9, 90, 200)).save(buffer, "JPEG", exif=tags.tobytes(), icc_profile=b"junk", quality=95)
    path = tmp_path / "ünï 猫.png"
    write_png(path, load(buffer.getvalue()).pixels)
    data = path.read_bytes()
    written = Image.open(path)
    written.load()
    assert written.size == (8, 4)
    assert written.info == {}
    # Names of the chunks in a PNG: header, pixels, end.
    names, place = [], 8
    while place < len(data):
        names.append(data[place + 4 : place + 8])
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    assert set(names) == {b"IHDR", b"IDAT", b"IEND"}
    # Turned once when read, so not again.
    assert load(path).pixels.shape == (3, 4, 8)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    write_png(path, np.zeros((3, 4, 4)))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_png(path, np.ones((3, 4, 4)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    write_png(str(path), np.ones((3, 4, 4)))
    assert (load(path).pixels == 1).all()
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_png(tmp_path / "out.png", np.zeros((3, 1, 1)))
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "out.png")]
    assert modes[0] == modes[1]


def test_a_folder_that_is_missing_or_in_the_way_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    for path in (tmp_path / "gone" / "out.png", tmp_path / "taken.png"):
        with pytest.raises(InputError, match=f'^path: cannot write "{path.name}"') as caught:
            write_png(path, np.zeros((3, 1, 1)))
        assert str(tmp_path) not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["taken.png"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ImageError, match=r"^level: must be 0 to 9"):
        encode_png(np.zeros((3, 1, 1)), level=10)
