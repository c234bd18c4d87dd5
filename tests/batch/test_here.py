"""Folders in this process: every picture has its end, one bad one stops no other, and nothing is done twice."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

import latent_inv
from latent_inv.batch import here as places
from latent_inv.batch import run as runs
from latent_inv.device import place
from latent_inv.errors import InputError, LatentInvError, LatentsError, SpecError, UnavailableError
from latent_inv.latents import load_latents
from latent_inv.report.folder import FILES
from latent_inv.spec import Adam, Given, Pixel
from tests.batch.folders import (
    COMBINED,
    COMPOSED,
    FAULTY,
    PICTURES,
    QUICK,
    SKIPPED,
    awkward_folder,
    counts,
    files,
    go,
    outputs,
    picture,
    pictures,
    rows,
)


def test_an_awkward_folder(tmp_path: Path) -> None:
    folder, out = awkward_folder(tmp_path), tmp_path / "out"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    summary = go(folder, out)
    assert counts(summary) == (5, 2, 3, 0, 0)
    assert str(summary) == "5 done, 2 failed, 3 skipped"
    stems = [os.path.splitext(name)[0] for name in PICTURES]
    assert COMBINED != "ü.png"
    assert COMPOSED in PICTURES
    assert files(out) == outputs(*stems)
    told = rows(out)
    assert {name: row["status"] for name, row in told.items()} == {
        **dict.fromkeys(PICTURES, "done"),
        **dict.fromkeys(FAULTY, "failed"),
        **dict.fromkeys(SKIPPED, "skipped"),
    }
    assert told["empty.png"]["reason"].startswith("found an empty file (0 bytes); accepted: PNG")
    assert told["text.png"]["reason"].startswith("found plain text; accepted: PNG")
    assert dict(summary.failures) == {name: told[name]["reason"] for name in FAULTY}
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_folders_in_it_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert counts(go(awkward_folder(tmp_path), out, recursive=True)) == (6, 2, 3, 0, 0)
    assert {"sub/nested.png", "sub/nested.latents.safetensors"} <= files(out)
    assert rows(out)["sub/nested.png"]["outputs"]["latents"] == "sub/nested.latents.safetensors"


def test_results_are_those_of_invert(tmp_path: Path) -> None:
    """Neighbours change nothing: the same latents to the last bit as alone at the same width."""
    folder, out = pictures(tmp_path, 5), tmp_path / "out"
    go(folder, out, in_flight=3)
    for number, row in enumerate(rows(out).values()):
        alone = latent_inv.invert(folder / f"{number:02}.png", **QUICK, lane_width=place("cpu").lane_width)
        file = load_latents(out / row["outputs"]["latents"])
        assert np.array_equal(file.latents["z"], alone.latents["z"])
        assert file.generator == "smooth"
        assert (row["psnr_db"], row["lpips"]) == (alone.metrics.psnr_db, alone.metrics.lpips)
        assert (row["outcome"], row["steps"]) == ("step_limit", 3)


def test_jobs_share_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most: list[int] = []
    honest = places.Here.poll

    def poll(here: places.Here, wait: bool) -> Any:
        most.append(len(here._sizes))
        return honest(here, wait)

    monkeypatch.setattr(places.Here, "poll", poll)
    go(pictures(tmp_path, 12), tmp_path / "a")
    assert max(most) == 2 * place("cpu").lane_width
    most.clear()
    go(pictures(tmp_path, 4), tmp_path / "b", in_flight=2)
    assert max(most) == 2
    most.clear()
    go(pictures(tmp_path, 3), tmp_path / "c", seconds=60)
    assert max(most) == 1, "each has its time for itself"
    most.clear()
    monkeypatch.setattr(places, "_MAX_PICTURE_BYTES", 1)
    go(pictures(tmp_path, 3), tmp_path / "d")
    assert max(most) == 1, "memory is a limit too"


# ---- again ---------------------------------------------------------------------------------------


def test_a_second_run_repeats_what_failed_and_nothing_else(tmp_path: Path) -> None:
    folder, out = awkward_folder(tmp_path), tmp_path / "out"
    go(folder, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix in (".png", ".safetensors")}
    manifest = (out / "manifest.jsonl").read_bytes()
    (folder / "text.png").write_bytes(picture(9))
    summary = go(folder, out)
    assert counts(summary) == (1, 1, 3, 5, 0)
    assert str(summary) == "1 done, 1 failed, 3 skipped, 5 done before"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(rows(out)) == {*PICTURES, *FAULTY, *SKIPPED}
    assert (out / "manifest.jsonl").read_bytes() != manifest


def test_a_changed_picture_is_done_again(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 3), tmp_path / "out"
    go(folder, out)
    was = rows(out)["01.png"]
    (folder / "01.png").write_bytes(picture(50))
    assert counts(go(folder, out)) == (1, 0, 0, 2, 0)
    now = rows(out)["01.png"]
    assert now["sha256"] != was["sha256"]
    assert now["psnr_db"] != was["psnr_db"]
    os.utime(folder / "02.png")
    assert counts(go(folder, out)) == (0, 0, 0, 3, 0), "a new date is no change"


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 4},
        {"seed": 1},
        {"losses": (Pixel(kind="l1"),)},
        {"solver": Adam(learning_rate=0.06, typical=0)},
        {"lane_width": 2},
        {"initialiser": Given(latents={"z": np.zeros((1, 12), np.float32)})},
        {"initialiser": None, "start": {"z": np.ones((1, 12), np.float32)}},
        {"weight": np.tri(32, dtype=np.float32)},
        {"full": True},
        {"redo": True},
    ],
    ids=lambda changed: "+".join(changed),
)
def test_other_settings_are_other_results(tmp_path: Path, changed: dict[str, Any]) -> None:
    folder, out = pictures(tmp_path, 2), tmp_path / "out"
    go(folder, out)
    assert counts(go(folder, out, **changed)) == (2, 0, 0, 0, 0)
    again = {name: value for name, value in changed.items() if name != "redo"}
    assert counts(go(folder, out, **again)) == (0, 0, 0, 2, 0)
    if "redo" not in changed:
        assert counts(go(folder, out)) == (2, 0, 0, 0, 0)


def test_where_and_how_many_at_once_is_no_setting(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 2), tmp_path / "out"
    go(folder, out)
    assert counts(go(folder, out, in_flight=1, device="cpu")) == (0, 0, 0, 2, 0)


@pytest.mark.parametrize("gone", ["01.png", "01.latents.safetensors", "thumbnails"])
def test_what_is_missing_is_made_again(tmp_path: Path, gone: str) -> None:
    folder, out = pictures(tmp_path, 3), tmp_path / "out"
    go(folder, out)
    for path in sorted((out / gone).iterdir())[:1] if gone == "thumbnails" else [out / gone]:
        path.unlink()
    assert counts(go(folder, out)) == (1, 0, 0, 2, 0)
    assert files(out) == outputs("00", "01", "02")


def test_a_picture_that_has_gone_leaves_its_result(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 2), tmp_path / "out"
    (folder / "bad.png").write_bytes(b"text")
    (folder / "notes").write_bytes(b"text")
    go(folder, out)
    for name in ("00.png", "bad.png", "notes"):
        (folder / name).unlink()
    assert counts(go(folder, out)) == (0, 0, 0, 1, 0)
    assert set(rows(out)) == {"00.png", "01.png"}
    assert files(out) == outputs("00", "01")


def test_results_that_would_have_one_name(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture(1))
    go(folder, out)
    assert files(out) == outputs("a")
    (folder / "a.jpg").write_bytes(picture(2, "JPEG"))
    assert counts(go(folder, out)) == (1, 0, 0, 1, 0), "what is finished keeps its name"
    assert files(out) == outputs("a", "a.jpg")
    assert counts(go(folder, out, redo=True)) == (2, 0, 0, 0, 0)
    assert files(out) == outputs("a.png", "a.jpg"), "and what it was called before has gone"
    told = rows(out)
    assert load_latents(out / told["a.png"]["outputs"]["latents"]).latents["z"].shape == (1, 12)
    (folder / "a.png").unlink()
    assert counts(go(folder, out, redo=True)) == (1, 0, 0, 0, 0)
    assert rows(out)["a.jpg"]["outputs"]["reconstruction"] == "a.png"
    (folder / "a.png").write_bytes(picture(1))
    (folder / "a.jpg").unlink()
    go(folder, out)
    assert set(rows(out)) == {"a.png", "a.jpg"}
    go(folder, out, redo=True)
    assert set(rows(out)) == {"a.png"}, "the name of the other was taken"
    assert files(out) == outputs("a")


def test_everything_of_a_result_on_request(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 2), tmp_path / "out"
    go(folder, out)
    assert counts(go(folder, out, full=True)) == (2, 0, 0, 0, 0)
    everything = {f"{name}.result/{file}" for name in ("00", "01") for file in FILES.values()}
    assert files(out) == everything | {"manifest.jsonl", "index.html"}, "the two files of before have gone"
    assert 'href="./00.result/index.html"' in (out / "index.html").read_text()
    go(folder, out)
    assert files(out) == outputs("00", "01")
    assert not (out / "00.result").exists()


# ---- what goes wrong -----------------------------------------------------------------------------


def test_a_result_that_is_not_good_is_a_failure_with_its_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = go(pictures(tmp_path, 2), out, steps=30, solver=Adam(learning_rate=1000, typical=0))
    assert summary.failed == 2
    row = rows(out)["00.png"]
    assert (row["status"], row["outcome"]) == ("failed", "diverged")
    assert row["reason"].startswith("The loss ran away")
    assert files(out) == outputs("00", "01")


@pytest.mark.parametrize("where", ["write_outputs", "write_thumbnail", "read_file"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "/secret/x"), "File name too long"),
        (LatentsError("not finite"), "not finite"),
        (RuntimeError("/secret/y"), "the log has it as incident"),
    ],
)
def test_one_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, said: str
) -> None:
    honest: Callable[..., Any] = getattr(runs, where)

    def fails(*given: Any) -> Any:
        if any("01" in str(each) for each in given):
            raise error
        return honest(*given)

    monkeypatch.setattr(runs, where, fails)
    out = tmp_path / "out"
    assert counts(go(pictures(tmp_path, 3), out)) == (2, 1, 0, 0, 0)
    assert said in rows(out)["01.png"]["reason"]
    assert "secret" not in (out / "manifest.jsonl").read_text()
    monkeypatch.undo()


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 1), tmp_path / "out"
    (folder / f"{'x' * 250}.png").write_bytes(picture(3))
    assert counts(go(folder, out)) == (1, 1, 0, 0, 0)
    assert "too long" in rows(out)[f"{'x' * 250}.png"]["reason"]


def test_a_crop_that_fits_some(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 1), tmp_path / "out"
    (folder / "large.png").write_bytes(picture(3, side=64))
    assert counts(go(folder, out, crop=(20, 20, 60, 60))) == (1, 1, 0, 0, 0)
    assert "32x32" in rows(out)["00.png"]["reason"]


def test_a_manifest_that_cannot_be_written_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("latent_inv.batch.manifest.os.ftruncate", lambda *_: None)
    monkeypatch.setattr("latent_inv.batch.manifest.os.write", full)
    with pytest.raises(OSError, match="No space"):
        go(pictures(tmp_path, 2), tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 0), tmp_path / "out"
    for name in (b"\xff\xfe.png", b"new\nline.png", b"a:b<i>&.png"):
        (folder / os.fsdecode(name)).write_bytes(picture(1))
    assert counts(go(folder, out)) == (3, 0, 0, 0, 0)
    written = {os.fsencode(path.name) for path in out.iterdir()}
    assert {b"\xff\xfe.png", b"\xff\xfe.latents.safetensors", b"new\nline.png", b"a:b<i>&.png"} <= written
    assert counts(go(folder, out)) == (0, 0, 0, 3, 0)
    page = (out / "index.html").read_text("utf-8")
    for link in ("./%FF%FE.png", "./new%0Aline.png", "./a%3Ab%3Ci%3E%26.png"):
        assert f'href="{link}"' in page


# ---- where it is written -------------------------------------------------------------------------


def test_results_inside_the_folder_are_no_pictures(tmp_path: Path) -> None:
    folder = awkward_folder(tmp_path)
    out = folder / "results"
    assert counts(go(folder, out, recursive=True)) == (6, 2, 3, 0, 0)
    assert counts(go(folder, out, recursive=True)) == (0, 2, 3, 6, 0)


@pytest.mark.parametrize("out", [".", "..", "../pictures", "sub/..", "link"])
def test_results_are_never_written_over_pictures(tmp_path: Path, out: str) -> None:
    folder = awkward_folder(tmp_path)
    os.symlink(folder, folder / "link")
    with pytest.raises(SpecError, match="must not be the folder of the pictures, or one around it") as caught:
        go(folder, folder / out)
    assert caught.value.field == "out"
    assert not (folder / "manifest.jsonl").exists()


@pytest.mark.parametrize("name", ["manifest.jsonl", "index.html"])
def test_a_folder_that_is_called_like_a_file_of_ours(tmp_path: Path, name: str) -> None:
    folder, out = pictures(tmp_path, 1), tmp_path / "out"
    (folder / name).mkdir()
    (folder / name / "a.png").write_bytes(picture())
    assert counts(go(folder, out, recursive=True)) == (1, 1, 0, 0, 0)
    assert f'a folder called "{name}"' in rows(out)[f"{name}/a.png"]["reason"]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 1), tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".batch.lock"), pytest.raises(UnavailableError, match='another run writes into "out"'):
        go(folder, out)
    assert counts(go(folder, out)) == (1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ({"generator": "smoth"}, "generator", 'did you mean "smooth"'),
        ({"space": "w"}, "space", "accepted: z"),
        ({"steps": -1}, "steps", "≥ 0"),
        ({"stepps": 3}, "stepps", 'did you mean "steps"'),
        ({"priority": "interactive"}, "priority", "unknown argument"),
        ({"seed": "x"}, "seed", "number"),
        ({"in_flight": 0}, "in_flight", "≥ 1"),
        ({"device": "abacus"}, "device", "abacus"),
        ({"weight": "none.png"}, "weight", "none.png"),
        ({"encoder": "none.safetensors"}, "encoder", "none.safetensors"),
        ({"start": {"z": np.zeros((1, 12))}}, "start", "exclude each other"),
        ({"initialiser": None, "start": "none.npz"}, "latents", "none.npz"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_what_is_wrong_for_all_is_said_once(tmp_path: Path, settings: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(LatentInvError, match=said) as caught:
        go(pictures(tmp_path, 2), tmp_path / "out", **settings)
    assert field in caught.value.field
    assert not (tmp_path / "out").exists()


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    folder = pictures(tmp_path, 0)
    with pytest.raises(InputError, match='no picture in "pictures", but nothing'):
        go(folder, tmp_path / "out")
    (folder / "notes").write_bytes(b"text")
    (folder / "sub").mkdir()
    (folder / "sub" / "a.png").write_bytes(picture())
    with pytest.raises(InputError, match="but 1 files that are none; folders in it are entered with recursive"):
        go(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- stopping ------------------------------------------------------------------------------------


def test_a_stop_keeps_what_is_finished(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 9), tmp_path / "out"
    asked: list[bool] = []
    summary = go(
        folder,
        out,
        in_flight=2,
        on_progress=lambda tally: asked.append(True) if tally.done >= 4 else None,
        stop=lambda: bool(asked),
    )
    assert summary.stopped
    done = summary.done
    assert 4 <= done < 9
    assert str(summary) == f"{done} done, 0 failed, 0 skipped, {9 - done} left"
    assert len(rows(out)) == done
    again = go(folder, out)
    assert counts(again) == (9 - done, 0, 0, done, 0)
    assert not again.stopped


def test_progress_goes_up_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, float, int, float | None]] = []
    go(
        pictures(tmp_path, 6),
        tmp_path / "out",
        on_progress=lambda tally: told.append((tally.done, tally.part_done, tally.left, tally.seconds_left)),
    )
    assert [done for done, _, _, _ in told] == sorted(done for done, _, _, _ in told)
    assert told[-1][:3] == (6, 0.0, 0)
    assert any(part > 0 for _, part, _, _ in told), "steps count too"
    assert all(0 <= part <= left for _, part, left, _ in told)
    assert any(seconds is not None and seconds >= 0 for _, _, _, seconds in told)


def test_half_files_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 1), tmp_path / "out"
    (out / "a.result" / ".writing-x1").mkdir(parents=True)
    (out / "a.result" / ".writing-x1" / "result.json").write_bytes(b"{")
    (out / f".{'a1' * 8}.part").write_bytes(b"half")
    (out / ".keep").write_bytes(b"somebody's")
    go(folder, out)
    assert files(out) == outputs("00") | {".keep"}
    assert not list(out.rglob(".writing*"))
