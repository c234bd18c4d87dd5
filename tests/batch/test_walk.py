"""Which files are pictures, and what results are called."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_inv.batch.walk import Found, name_results, shown, walk
from latent_inv.errors import InputError
from tests.batch.folders import FAULTY, PICTURES, SKIPPED, awkward_folder, picture


def taken(found: list[Found]) -> set[str]:
    return {each.path for each in found if not each.skip}


def skipped(found: list[Found]) -> dict[str, str]:
    return {each.path: each.skip for each in found if each.skip}


def test_an_awkward_folder(tmp_path: Path) -> None:
    found = walk(awkward_folder(tmp_path))
    assert taken(found) == {*PICTURES, *FAULTY}
    assert skipped(found) == {
        ".DS_Store": "a hidden file",
        "._good.jpg": "a hidden file",
        "notes.txt": "no picture: plain text",
    }
    assert len(found) == len(PICTURES) + len(FAULTY) + len(SKIPPED)


def test_folders_in_it_are_entered_only_if_asked(tmp_path: Path) -> None:
    folder = awkward_folder(tmp_path)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.png").write_bytes(picture())
    (folder / "sub" / "deeper").mkdir()
    (folder / "sub" / "deeper" / "notes").write_bytes(picture())
    inner = taken(walk(folder, recursive=True)) - taken(walk(folder))
    assert inner == {"sub/nested.png", "sub/deeper/notes"}


@pytest.mark.parametrize(
    ("name", "content", "is_one"),
    [
        ("photo", picture(), True),
        ("photo.txt", picture(), True),
        ("photo.bin", picture(kind="BMP"), True),
        ("photo.bin", picture(kind="PPM"), True),
        ("photo.bin", picture(kind="WEBP"), True),
        ("photo.bin", b"P3\n# made by hand\n1 1\n255\n0 0 0\n", True),
        ("letter.txt", b"BMW is a maker of cars, and this is a text about them.", False),
        ("letter.txt", b"P5 is where we meet. Come at 10.", False),
        ("film.mp4", b"\0\0\0\x20ftypisom" + bytes(40), False),
        ("paper.pdf", b"%PDF-1.7", False),
        ("nothing", b"", False),
        ("picture.jpeg", b"", True),
        ("picture.TIFF", b"text", True),
    ],
)
def test_pictures_are_told_by_content_and_faults_by_name(
    tmp_path: Path, name: str, content: bytes, is_one: bool
) -> None:
    (tmp_path / name).write_bytes(content)
    (found,) = walk(tmp_path)
    assert found.path == name
    assert bool(found.skip) is not is_one


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.png").write_bytes(picture())
    os.symlink(elsewhere / "a.png", folder / "linked.png")
    os.symlink(elsewhere, folder / "folder")
    os.symlink(folder, folder / "loop")
    os.symlink(elsewhere / "gone", folder / "gone.png")
    os.symlink(elsewhere / "gone", folder / "gone")
    found = {each.path: each for each in walk(folder, recursive=True)}
    assert set(found) == {"linked.png", "gone.png", "gone"}
    assert found["linked.png"] == Found("linked.png")
    assert found["gone.png"].fault == "cannot read it: a link to nothing"
    assert found["gone"].skip == "a link to nothing"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_would_never_end_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("/dev/zero", tmp_path / "zero.png")
    assert skipped(walk(tmp_path)) == {"pipe.png": "not a regular file", "zero.png": "not a regular file"}


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_names_are_kept_byte_for_byte(tmp_path: Path) -> None:
    names = [b"\xff\xfe.png", "ü".encode(), b"u\xcc\x88", b"line\nbreak.png"]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(picture())
    assert sorted(os.fsencode(each.path) for each in walk(tmp_path)) == sorted(names)


def test_the_folder_of_results_is_left_out(tmp_path: Path) -> None:
    folder = awkward_folder(tmp_path)
    out = folder / "sub" / "results"
    out.mkdir()
    (out / "a.png").write_bytes(picture())
    os.symlink(out, tmp_path / "same")
    assert "sub/results/a.png" in taken(walk(folder, recursive=True))
    assert "sub/results/a.png" not in taken(walk(folder, recursive=True, leave_out=tmp_path / "same"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    folder = awkward_folder(tmp_path)
    (folder / "sub").chmod(0)
    try:
        (fault,) = [each for each in walk(folder, recursive=True) if each.fault]
    finally:
        (folder / "sub").chmod(0o755)
    assert (fault.path, fault.fault) == ("sub/", "cannot list the folder: Permission denied")


@pytest.mark.parametrize(
    ("name", "said"), [("none", 'cannot read "none": No such file'), ("file", '"file" is a file'), ("a\0b", "valid")]
)
def test_no_folder_is_an_error(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").write_bytes(picture())
    with pytest.raises(InputError, match=said) as caught:
        walk(tmp_path / name)
    assert caught.value.field == "folder"
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "printed"), [("ü 猫.png", "ü 猫.png"), ("\udcff.png", "?.png"), ("a\x1b[31m\n.png", "a?[31m?.png")]
)
def test_names_can_be_printed(name: str, printed: str) -> None:
    assert shown(name) == printed


def test_results_are_called_like_their_pictures() -> None:
    names = name_results(["a.png", "a.jpg", "b.png", "sub/b.jpg", "c", "d.e.png", "d.e", "sub/a.png"])
    assert names == {
        "a.png": "a.png",
        "a.jpg": "a.jpg",
        "b.png": "b",
        "sub/b.jpg": "sub/b",
        "c": "c",
        "d.e.png": "d.e.png",
        "d.e": "d",
        "sub/a.png": "sub/a",
    }


@given(st.sets(st.from_regex(r"(s/)?[ab](\.[pj]){0,3}", fullmatch=True), max_size=12))
def test_no_two_results_have_one_name(paths: set[str]) -> None:
    names = name_results(sorted(paths))
    assert len(set(names.values())) == len(paths)
    assert all(path.startswith(name) for path, name in names.items())
