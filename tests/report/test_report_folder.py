"""A result as a folder: everything, true to the bit, and whole or not there."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from latent_inv import report
from latent_inv.errors import InputError, LatentsError
from latent_inv.images import to_uint8
from latent_inv.latents import load_latents
from latent_inv.report.files import history_csv
from latent_inv.result import Metrics, Outcome
from tests.conftest import make_picture
from tests.report.helpers import FILES, HOSTILE, PLAIN_TAGS, contents, history, result, tags


def test_the_folder_holds_what_the_result_says(tmp_path: Path) -> None:
    given = result()
    written = given.save(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert written.files == FILES
    assert contents(folder).keys() == set(FILES.values())
    assert (np.asarray(PillowImage.open(folder / "reconstruction.png")) == to_uint8(given.image)).all()
    assert json.loads((folder / "result.json").read_text("utf-8")) == written.to_json()
    latents = load_latents(folder / "latents.safetensors")
    assert (latents.generator, latents.space, latents.weights_sha256) == ("toy", "z", "1" * 64)
    assert latents.latents["z"].tobytes() == given.latents["z"].tobytes()
    rows = list(csv.DictReader(io.StringIO((folder / "history.csv").read_text("utf-8"))))
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3, 4]
    assert all(step.loss == float(row["loss"]) for step, row in zip(given.history, rows, strict=True))


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    result().save(tmp_path / "a")
    result().save(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    result().save(tmp_path)
    (tmp_path / "mine.txt").write_text("kept")
    before = contents(tmp_path)
    with pytest.raises(LatentsError):
        result(latents={"z": np.array([[np.nan]], np.float32)}).save(tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        result().save(tmp_path / "file")
    (tmp_path / "out" / "index.html").mkdir(parents=True)
    with pytest.raises(InputError, match=r"index\.html"):
        result().save(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]


@pytest.mark.parametrize(
    "fields",
    [
        {"history": history(1), "steps": 0, "best_step": 0},
        {"history": ()},
        {"history": history(lpips=False), "metrics": Metrics(12.0, None, 0.06)},
        {"history": history(3, loss=float("nan"), terms={"pixel": float("inf")})},
        {"outcome": Outcome.cancelled, "warnings": (HOSTILE,), "generator": HOSTILE, "settings": {HOSTILE: HOSTILE}},
        {"metrics": Metrics(200.0, 0.0, 0.0), "loss": float("nan"), "image": make_picture(24, 32).pixels},
    ],
)
def test_every_kind_of_result_can_be_written(fields: dict[str, Any], tmp_path: Path) -> None:
    written = result(**fields).save(tmp_path)
    assert contents(tmp_path).keys() == set(FILES.values())
    json.loads((tmp_path / "result.json").read_text("utf-8"), parse_constant=pytest.fail)
    for name in ("history.csv", "result.json"):
        assert not re.search(r"\bnan\b|\binf\b", (tmp_path / name).read_text("utf-8"), re.IGNORECASE)
    assert set(tags((tmp_path / "index.html").read_text("utf-8"))) <= PLAIN_TAGS
    assert set(tags(report.result_html(written))) <= {"div", "img", "table", "tr", "td"}


def test_csv_keeps_every_bit_and_leaves_out_what_is_not_a_number() -> None:
    steps = (
        *history(2, loss=0.1 + 0.2),
        replace(history(1, lpips=False)[0], step=9, loss=float("nan"), terms={"tv": 1}),
    )
    rows = list(csv.DictReader(io.StringIO(history_csv(steps))))
    assert float(rows[0]["loss"]) == 0.1 + 0.2
    assert (rows[2]["loss"], rows[2]["lpips"], rows[2]["term.pixel"], rows[0]["term.tv"]) == ("", "", "", "")
    assert (rows[2]["step"], float(rows[2]["term.tv"])) == ("9", 1.0)


def test_json_is_strict_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {
        "n": np.int64(3),
        "a": np.eye(2),
        "p": Path("x"),
        "t": (True,),
    }
    report.write_json(path, value)
    read = json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)
    assert read == {"n": 3, "a": [[1, 0], [0, 1]], "p": "x", "t": [True]}
    before = path.read_bytes()
    with pytest.raises(TypeError):
        report.write_json(path, {"object": object()})
    for number in (float("nan"), np.float32("-inf")):
        with pytest.raises(InputError, match="finite") as caught:
            report.write_json(path, {"rows": [{"loss": 1.0}, {"loss": number}]})
        assert caught.value.field == "rows[1].loss"
    assert contents(tmp_path) == {"a.json": before}
