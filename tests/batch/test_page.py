"""The page of a folder: whatever names and reasons hold, and however many there are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from latent_inv.batch.manifest import Row
from latent_inv.batch.outputs import THUMBNAIL_SIDE, write_thumbnail
from latent_inv.batch.page import folder_page
from latent_inv.images import Picture
from tests.batch.folders import awkward_folder, go
from tests.report.helpers import HOSTILE, read_html, result


def done(path: str, psnr: float = 20.0) -> Row:
    outputs = {"latents": f"{path}.latents.safetensors", "reconstruction": f"{path}.png"}
    return Row(path, "done", "", "1", "2", "converged", psnr, 0.1, 7, 1.25, outputs, "thumbnails/1.jpg")


def test_every_file_is_on_the_page(tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(awkward_folder(tmp_path), out)
    reader = read_html((out / "index.html").read_text("utf-8"))
    links = [attrs["href"] or "" for tag, attrs in reader.found if tag == "a"]
    images = [attrs["src"] or "" for tag, attrs in reader.found if tag == "img"]
    assert len(links) == len(images) == 5
    assert all((out / name).is_file() for name in images)
    for text in ("good.jpg", "ünï 猫.png", "empty.png", "failed: found an empty file", ".DS_Store", "a hidden file"):
        assert text in reader.text


def test_names_and_reasons_are_escaped() -> None:
    rows = [done(HOSTILE), Row(HOSTILE, "failed", HOSTILE), Row(HOSTILE, "skipped", HOSTILE), done("\udcff:x")]
    text = folder_page(HOSTILE, rows)
    text.encode("utf-8")
    tags = [tag for tag, _ in read_html(text).found]
    assert tags.count("script") == 1
    assert 'href="./%FF%3Ax.png"' in text
    # the name of the folder twice; path of a picture, path and reason of a failure, of what was skipped
    assert read_html(text).text.count("<script>alert(1)</script>") == 7


def test_the_numbers_are_those_of_the_rows() -> None:
    rows = [done("a", 10.0), done("b", 20.0), done("c", 60.0), Row("d", "failed", "x"), Row("e", "skipped", "y")]
    text = read_html(folder_page("t", rows)).text
    assert re.search(r"3\s*done\s*1\s*failed\s*1\s*skipped\s*20.00 dB\s*median PSNR", text)
    assert "PSNR 60.00 dB  ·  LPIPS 0.1000" in text
    assert "7 steps, 1.2 s, converged" in text


def test_thousands_stay_small() -> None:
    rows = [done(f"IMG_{number}.jpg") for number in range(3000)]
    rows += [Row(f"{number}.txt", "skipped", "no picture: plain text") for number in range(3000)]
    text = folder_page("t", rows)
    assert len(text) < 3000 * 600
    assert "IMG_2999.jpg" in text
    assert "… and 2800 more, see manifest.jsonl" in text


def test_a_thumbnail_is_small_and_shows_both(tmp_path: Path) -> None:
    red, blue = np.zeros((3, 300, 200), np.float32), np.zeros((3, 300, 200), np.float32)
    red[0], blue[2] = 1.0, 1.0
    name = write_thumbnail(result(image=blue, target=Picture(red)), tmp_path, "a\udcff.png")
    assert (tmp_path / name).stat().st_size < 20_000
    with Image.open(tmp_path / name) as sheet:
        pixels = np.asarray(sheet).astype(int)
    height, width = pixels.shape[:2]
    assert height == THUMBNAIL_SIDE
    assert 200 < width < 2 * THUMBNAIL_SIDE
    assert pixels[height // 2, 20, 0] > 230 > 140 > pixels[height // 2, 20, 2]
    assert pixels[height // 2, -20, 2] > 230 > 140 > pixels[height // 2, -20, 0]


def test_small_pictures_are_enlarged_pixel_by_pixel(tmp_path: Path) -> None:
    name = write_thumbnail(result(), tmp_path, "a.png")
    with Image.open(tmp_path / name) as sheet:
        assert sheet.size == (2 * 5 * 32 + 4, 5 * 24)
