"""Rows that are never half ones, whatever happens to the file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from latent_inv.batch.manifest import Manifest, Row, read_row

A = Row("a.png", "done", sha256="1", settings="2", outcome="converged", psnr_db=20.5, lpips=0.25, steps=3, seconds=1.5)
A = Row(
    **{**A.__dict__, "outputs": {"latents": "a.latents.safetensors", "reconstruction": "a.png"}, "warnings": ("w",)}
)
B = Row("sub/ü 猫.png", "failed", "found nothing")
SURROGATE = Row("\udcff.png", "skipped", "a hidden file")
ALL = (A, B, SURROGATE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.jsonl"


def kept(path: Path) -> list[Row]:
    with Manifest(path) as manifest:
        return list(manifest)


@pytest.mark.parametrize("row", ALL, ids=lambda row: ascii(row.path))
def test_a_row_is_read_as_it_was_written(row: Row) -> None:
    assert read_row(row.line()) == row
    assert row.line().count(b"\n") == 1
    assert os.fsencode(read_row(row.line()).path) == os.fsencode(row.path)  # type: ignore[union-attr]


def test_names_can_be_read_by_people() -> None:
    assert "ü 猫" in B.line().decode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"7",
        A.line()[:-20],
        A.line()[5:],
        b"\xff\xfe",
        b"{}",
        b'{"path": "a"}',
        b'{"path": 7, "status": "done"}',
        b'{"path": "a", "status": "fine"}',
        b'{"path": "a", "status": "done", "psnr_db": "20"}',
        b'{"path": "a", "status": "done", "outputs": {"latents": 7}}',
        b'{"path": "a", "status": "done", "outputs": ["b"]}',
    ],
)
def test_anything_else_is_no_row(line: bytes) -> None:
    assert read_row(line) is None


def test_fields_of_a_later_version_are_left_out() -> None:
    value = json.loads(B.line())
    assert read_row(json.dumps({**value, "colour": "red"}).encode()) == B


def test_rows_are_there_as_soon_as_they_are_added(path: Path) -> None:
    with Manifest(path) as manifest:
        assert path.read_bytes() == b""
        for number, row in enumerate(ALL, 1):
            manifest.add(row)
            assert [read_row(line) for line in path.read_bytes().splitlines()] == list(ALL[:number])
        before = path.stat()
        manifest.add(*ALL)
        assert path.stat().st_size == before.st_size, "what is known is not written again"


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_half_a_row_at_the_end_is_dropped_and_nothing_else(path: Path, cut: int) -> None:
    path.write_bytes(A.line() + B.line()[:-cut])
    # Without its line end alone a row is whole.
    assert kept(path) == ([A, B] if cut == 1 else [A])
    assert path.read_bytes() == b"".join(row.line() for row in kept(path))


def test_damage_in_the_middle_costs_that_row(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(A.line() + bytes(50) + b"\n" + B.line())
    assert kept(path) == [A, B]
    assert "manifest.jsonl had 1 lines" in caplog.text
    assert str(path.parent) not in caplog.text


def test_the_last_row_of_a_path_counts(path: Path) -> None:
    later = Row("a.png", "failed", "changed")
    with Manifest(path) as manifest:
        manifest.add(A)
        manifest.add(later)
        assert len(path.read_bytes().splitlines()) == 2
        manifest.tidy()
        assert path.read_bytes() == later.line()
        manifest.add(B)
    assert path.read_bytes() == later.line() + B.line(), "goes on in the tidied file"


def test_a_row_takes_the_place_of_one_whose_outputs_it_wrote_over(path: Path) -> None:
    taker = Row("a.jpg", "done", outputs={"reconstruction": "a.png"})
    with Manifest(path) as manifest:
        manifest.add(A, taker)
        assert list(manifest) == [taker]
        assert manifest.uses("a.png")
        assert not manifest.uses("a.latents.safetensors")
    assert kept(path) == [taker], "the same when it is read again"


def test_a_full_disk_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = os.write
    with Manifest(path) as manifest:
        manifest.add(A)

        def full(handle: int, data: bytes) -> int:
            if len(data) < 30:
                raise OSError(errno.ENOSPC, "No space left on device")
            return honest(handle, data[: len(data) // 2])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                manifest.add(B)
        assert path.read_bytes() == A.line()
        manifest.add(B)
    assert kept(path) == [A, B]


def test_rows_are_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Any] = []
    honest_write, honest_sync = os.write, os.fsync
    with Manifest(path) as manifest, monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *given: (order.append("write"), honest_write(*given))[1])
        patch.setattr(os, "fsync", lambda handle: (order.append("sync"), honest_sync(handle))[1])
        manifest.add(A, B)
        manifest.add(SURROGATE)
    assert order == ["write", "sync", "write", "sync"]
