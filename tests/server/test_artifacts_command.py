"""`latent-inv artifacts …` against a server."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.client import AsyncClient
from latent_inv.images import encode_png, load
from latent_inv_server.app import Application
from latent_inv_server.store.folder import open_store
from tests.server.fake import FakeEngine, address, serve


async def run(application: Application, *arguments: str) -> Any:
    """One command, beside the server."""
    return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--server", address(application)])


def test_up_in_a_job_down_and_away(tmp_path: Path) -> None:
    photos = [tmp_path / f"{name}.png" for name in "ab"]
    for number, photo in enumerate(photos):
        photo.write_bytes(encode_png(np.full((8, 8, 3), 60 * number, np.uint8), level=0))
    names = [hashlib.sha256(photo.read_bytes()).hexdigest() for photo in photos]
    engine, copy = FakeEngine(), tmp_path / "copy.png"

    async def scenario(application: Application, client: AsyncClient) -> None:
        sent = await run(application, "artifacts", "upload", *map(str, photos))
        assert (sent.exit_code, sent.stdout.split()) == (0, names)
        again = await run(application, "artifacts", "upload", str(photos[0]), "--json", "--quiet")
        (told,) = json.loads(again.stdout)
        assert (told["sha256"], told["content_type"], told["complete"]) == (names[0], "image/png", True)
        assert again.stderr == ""
        listed = await run(application, "artifacts", "list")
        size = photos[0].stat().st_size
        assert listed.stdout.splitlines() == [f"{name}  {size} bytes  image/png" for name in reversed(names)]
        assert len(json.loads((await run(application, "artifacts", "list", "--json", "--limit", "1")).stdout)) == 1
        made = await run(application, "jobs", "create", f"sha256:{names[1]}", "-g", "steps", "--steps", "2")
        assert made.exit_code == 0, made.output
        await client.jobs.wait(made.stdout.strip())
        shown = json.loads((await run(application, "jobs", "show", made.stdout.strip(), "--json")).stdout)
        target = await run(application, "artifacts", "download", shown["artifacts"]["target.png"], "-o", str(copy))
        assert target.exit_code == 0, target.output
        assert (await run(application, "artifacts", "delete", *names)).exit_code == 0
        assert "no uploads" in (await run(application, "artifacts", "list")).stderr

    serve(engine, scenario, store=open_store(tmp_path / "data"))
    np.testing.assert_array_equal(load(copy).pixels, load(photos[1]).pixels)
    np.testing.assert_array_equal(engine.jobs[0].picture.pixels, load(photos[1]).pixels)


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        for arguments, text in (
            (("artifacts", "upload", str(tmp_path / "none.png")), 'there is no file "none.png"'),
            (("artifacts", "download", "0" * 64, "-o", str(tmp_path / "copy")), "there is no file"),
            (("artifacts", "delete", "x"), "64 lowercase hexadecimal digits"),
            (("jobs", "create", f"sha256:{'0' * 64}"), "there is no file"),
        ):
            done = await run(application, *arguments)
            assert (done.exit_code, done.stdout) == (2, ""), arguments
            assert text in done.stderr.replace("\n", " ")
            assert done.stderr.count("error:") == 1

    serve(FakeEngine(), scenario, store=open_store(tmp_path / "data"))
    assert not (tmp_path / "copy").exists()
