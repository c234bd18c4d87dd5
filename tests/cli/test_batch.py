"""`latent-inv batch`: exit codes, the summary, and what signals and kills leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from latent_inv.batch import Tally
from latent_inv.batch.manifest import read_row
from latent_inv.cli import app
from latent_inv.cli.batch import Bar, duration
from latent_inv.generators import GENERATORS
from tests.batch.folders import awkward_folder, files, outputs, pictures, rows
from tests.batch.test_on_server import Server
from tests.toy import TOYS

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("-g", "smooth", "--loss", "pixel", "--solver", "adam", "--start", "seeds", "--steps", "3")
#: the command with the toys among the generators, as a process of its own
TOY_COMMAND = (
    "from latent_inv.generators import GENERATORS\n"
    "from tests.engine.awkward import TABLE\n"
    "GENERATORS.update(TABLE)\n"
    "from latent_inv.cli import main\n"
    "main()\n"
)


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in TOYS.items():
        monkeypatch.setitem(GENERATORS, name, kind)


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)])


def test_the_summary_is_true_and_so_is_the_code(tmp_path: Path) -> None:
    folder, out = awkward_folder(tmp_path), tmp_path / "out"
    done = call(folder, "--out", out, *QUICK)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == "5 done, 2 failed, 3 skipped"
    assert done.stdout.splitlines()[1].startswith("look at ")
    failures = [line for line in done.stderr.splitlines() if line.strip()]
    assert [line.split(": ")[:2] for line in failures] == [["failed", "empty.png"], ["failed", "text.png"]]
    assert all(path.is_file() for path in (out / "index.html", out / "manifest.jsonl"))
    for name in ("empty.png", "text.png"):
        (folder / name).unlink()
    again = call(folder, "--out", out, *QUICK)
    assert (again.exit_code, again.stdout.splitlines()[0]) == (0, "0 done, 0 failed, 3 skipped, 5 done before")
    assert call(folder, "--out", out, *QUICK, "--recursive").stdout.startswith("1 done, 0 failed, 3 skipped, 5 done")


def test_json_is_one_document(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call(awkward_folder(tmp_path), "--out", out, *QUICK, "--json")
    told = json.loads(done.stdout)
    counts = {"done": 5, "failed": 2, "skipped": 3, "kept": 0, "left": 0}
    assert {name: told[name] for name in counts} == counts
    assert {failure["path"] for failure in told["failures"]} == {"empty.png", "text.png"}
    assert (told["stopped"], told["out"]) == (False, str(out))
    assert told["seconds"] > 0


def test_quiet_is_quiet(tmp_path: Path) -> None:
    done = call(pictures(tmp_path, 1), "--out", tmp_path / "out", *QUICK, "-q")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_options_are_those_of_invert(tmp_path: Path) -> None:
    folder = pictures(tmp_path, 1)
    more = ("--seed", "7", "--full", "--target-psnr", "5", "--in-flight", "1", "--threads", "1")
    assert call(folder, "--out", tmp_path / "out", *QUICK, *more).exit_code == 0
    result = json.loads((tmp_path / "out" / "00.result" / "result.json").read_text())
    assert (result["seed"], result["outcome"]) == (7, "target_reached")
    assert result["settings"]["priority"] == "bulk"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none", "--out", "out"], 2, 'cannot read "none"'),
        (["empty", "--out", "out"], 2, "there is no picture"),
        (["pictures", "--out", "pictures"], 2, "out: must not be"),
        (["pictures", "--out", "pictures/00.png"], 2, '"00.png" is a file'),
        (["pictures", "--out", "out", "--solver", "adm"], 2, 'did you mean "adam"'),
        (["pictures", "--out", "out", "--crop", "1"], 2, "crop: must be left,top"),
        (["pictures", "--out", "out", "--in-flight", "0"], 2, "in_flight: must be"),
        (["pictures", "--out", "out", "--token-file", "x"], 2, "give --server as well"),
        (["pictures", "--out", "out", "--server", "127.0.0.1:1", "--device", "cpu"], 2, "leave it out with --server"),
        (["pictures", "--out", "out", "--server", "127.0.0.1:1"], 4, "127.0.0.1:1"),
    ],
)
def test_an_error_is_one_line_a_code_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    pictures(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == code, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert said in line
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "pictures"]


def test_on_a_server(tmp_path: Path) -> None:
    folder, out = awkward_folder(tmp_path), tmp_path / "out"
    with Server(max_jobs=1, max_queued=2) as server:
        done = call(folder, "--out", out, "-g", "steps", "--steps", "2", "--server", server.address)
    assert done.exit_code == 1, done.output
    assert done.stdout.startswith("5 done, 2 failed, 3 skipped\n")


def test_many_failures_are_not_all_listed(tmp_path: Path) -> None:
    folder = pictures(tmp_path, 0)
    for number in range(30):
        (folder / f"{number}.png").write_bytes(b"[red]text")
    done = call(folder, "--out", tmp_path / "out", *QUICK)
    assert done.exit_code == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 21
    assert lines[-1] == "… and 10 more"


def test_the_bar_says_how_far_it_is() -> None:
    told: list[tuple[Any, ...]] = []
    bar = Bar(quiet=False)
    bar.tell = lambda name, total, completed, **texts: told.append((total, completed, texts))
    bar(Tally(total=10, skipped=1, done=3, failed=1, kept=2, part_done=0.5, seconds_left=200.0))
    bar(Tally(total=10, skipped=1, done=4, failed=1, kept=2))
    bar(Tally(total=10, skipped=1, done=7, failed=1, kept=2))
    assert told[0] == (10, 6.5, {"counts": "3 done, 1 failed, 2 done before, 4 left", "left": "3 min left"})
    assert [completed for _, completed, _ in told] == [6.5, 10], "not more often than eyes can see, but the end always"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (3569, "59 min"), (3600, "1 h 00 min")]
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ---- processes -----------------------------------------------------------------------------------


class Running:
    """The command in a process of its own, ended at the latest with the test."""

    def __init__(self, folder: Path, out: Path, *more: str, generator: str = "slow") -> None:
        # A step of `slow` takes 50 ms.
        asked = ("-g", generator, "--loss", "pixel", "--solver", "adam", "--start", "seeds", "--steps", "4")
        path = os.pathsep.join([str(ROOT), str(ROOT / "server"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", TOY_COMMAND, "batch", str(folder), "--out", str(out), *asked, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def __enter__(self) -> Running:
        self._watchdog = threading.Timer(180, self.process.kill)
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.communicate()

    def wait_for_rows(self, manifest: Path, count: int) -> None:
        while self.process.poll() is None:
            if manifest.exists() and manifest.read_bytes().count(b"\n") >= count:
                return
            time.sleep(0.005)
        raise AssertionError(f"it ended: {self.process.communicate()}")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=180)
        return self.process.returncode, out, err


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 12), tmp_path / "out"
    for seen in (1, 3, 6):
        with Running(folder, out, "--in-flight", "2") as running:
            running.wait_for_rows(out / "manifest.jsonl", seen)
            running.process.kill()
        lines = (out / "manifest.jsonl").read_bytes().splitlines(keepends=True)
        assert len(lines) >= seen
        for line in lines:
            row = read_row(line)
            assert line.endswith(b"\n")
            assert row is not None
            assert all((out / name).is_file() for name in row.outputs.values()), "a row is true"
        # A power cut may leave what a kill does not.
        with open(out / "manifest.jsonl", "ab") as file:
            file.write(lines[0][:-9])
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    with Running(folder, out, "--json") as running:
        code, stdout, stderr = running.end()
    assert code == 0, stderr
    told = json.loads(stdout)
    assert told["done"] + told["kept"] == 12
    assert told["kept"] >= 6
    assert set(rows(out)) == {f"{number:02}.png" for number in range(12)}
    assert files(out) == outputs(*(f"{number:02}" for number in range(12)))
    same = [path for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert len(same) == told["kept"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order(tmp_path: Path, how: signal.Signals) -> None:
    folder, out = pictures(tmp_path, 100), tmp_path / "out"
    with Running(folder, out, "--in-flight", "2") as running:
        running.wait_for_rows(out / "manifest.jsonl", 2)
        running.process.send_signal(how)
        code, stdout, stderr = running.end()
    assert code == 130, stderr
    done = len(rows(out))
    assert 2 <= done < 100
    assert stdout.startswith(f"{done} done, 0 failed, 0 skipped, {100 - done} left\n")
    assert "Traceback" not in stderr
    assert stderr.strip() == "stopped; the same command goes on from there"
    assert files(out) == outputs(*(f"{number:02}" for number in range(done)))
