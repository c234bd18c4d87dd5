"""The client in Node, against a real server: as its README says, over lines that break, and behind TLS and a login."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latent_inv.client import Client
from latent_inv.images import encode_png
from latent_inv.latents import load_latents
from latent_inv_server.config import ServerConfig
from latent_inv_server.door.token_edit import add_client
from latent_inv_server.store.folder import open_store
from tests.conftest import require
from tests.server.door.authority import Authority
from tests.server.fake import FakeEngine
from tests.server.lines import BadLine, serving

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ["latents.safetensors", "reconstruction.png", "target.png"]
#: noise, so that the file has many more bytes than a line that is cut lets through
COLOURS = np.random.default_rng(9).integers(0, 256, (700, 700, 3), np.uint8)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the example in a copy, installed as its README says."""
    require("node", bool(shutil.which("node") and shutil.which("npm")), "install nodejs (18.3 or newer) and npm")
    root = tmp_path_factory.mktemp("clone")
    folder = root / "examples" / "node"
    shutil.copytree(ROOT / "examples" / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "protos", root / "protos")
    install = ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
    installed = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    require("node", installed.returncode == 0, f"npm ci failed: {installed.stderr[-300:]}")

    def run(*arguments: Any, code: int = 0, **environment: Any) -> subprocess.CompletedProcess[str]:
        named = {name: str(value) for name, value in environment.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LATENT_INV", "GRPC"))}
        command = ["node", "invert.mjs", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=folder, env=inherited | named, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(COLOURS))
    return path


def check(out: Path, where: Client, told: dict[str, Any]) -> None:
    """What was downloaded is what the job made."""
    job = where.jobs.get(told["job_id"])
    assert (told["state"], told["files"], told["error"]) == ("JOB_STATE_SUCCEEDED", FILES, "")
    assert sorted(path.name for path in out.iterdir()) == FILES, "and no parts of them"
    assert job.result is not None
    np.testing.assert_array_equal(np.asarray(Image.open(out / "target.png")), COLOURS)
    assert (out / "reconstruction.png").read_bytes() == encode_png(job.result.image)
    np.testing.assert_array_equal(load_latents(out / "latents.safetensors").latents["z"], job.result.latents["z"])


def numbers(stderr: str) -> list[int]:
    """Sequence numbers of the progress that was told."""
    return [int(line[1:].split()[0]) for line in stderr.splitlines() if line.startswith("#")]


def test_as_the_readme_says(node: Run, photo: Path, tmp_path: Path) -> None:
    arguments = (photo, "--out", tmp_path / "result", "--generator", "steps", "--steps", 20, "--seed", 7)
    with serving(FakeEngine(), store=open_store(tmp_path / "data")) as where:
        done = node(*arguments, "--request-id", "once", LATENT_INV_SERVER=where)
        with Client(where) as client:
            told = json.loads(done.stdout)
            check(tmp_path / "result", client, told)
            job = client.jobs.get(told["job_id"])
            assert job.result is not None
            assert (job.result.seed, job.result.steps, job.labels, job.request_id) == (
                7,
                20,
                {"client": "node"},
                "once",
            )
            assert numbers(done.stderr) == sorted(set(numbers(done.stderr)))
            assert f"uploaded {photo.stat().st_size} of {photo.stat().st_size} bytes" in done.stderr
            # Once more: nothing is sent, and it is the same job.
            again = node(*arguments, "--request-id", "once", LATENT_INV_SERVER=where)
            assert json.loads(again.stdout) == told
            assert "uploaded" not in again.stderr


def test_over_lines_that_break(node: Run, photo: Path, tmp_path: Path) -> None:
    """Connections are cut in the upload, in the watch and in the downloads; each goes on where it was."""
    size = photo.stat().st_size
    assert size > 1_400_000
    cuts = [800_000, size - 500_000, 4_000, 4_000, 400_000, 400_000]
    arguments = (photo, "--out", tmp_path / "result", "--generator", "steps", "--steps", 150)
    engine = FakeEngine(pause=0.01)
    with serving(engine, store=open_store(tmp_path / "data")) as where, (bad := BadLine(where, cuts)) as line:
        done = node(*arguments, LATENT_INV_SERVER=line)
        with Client(where) as client:
            check(tmp_path / "result", client, json.loads(done.stdout))
            assert len(list(client.jobs.list())) == 1
    assert bad.broken >= 5
    assert numbers(done.stderr) == sorted(set(numbers(done.stderr)))
    assert len(engine.jobs) == 1


def test_behind_tls_and_a_login(node: Run, photo: Path, tmp_path: Path) -> None:
    authority, tokens, ca = Authority(), tmp_path / "tokens.toml", tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    certificate, key = authority.sign("server").write(tmp_path / "server")
    token = add_client(tokens, "ann", {})
    config = ServerConfig(port=0, grace_seconds=0, tokens=tokens, tls_certificate=certificate, tls_key=key)
    out = tmp_path / "result"
    arguments = (photo, "--out", out, "--generator", "steps", "--steps", 3)
    with serving(FakeEngine(), config, open_store(tmp_path / "data")) as where:
        # Node warns of names of certificates that are addresses.
        settings = {"LATENT_INV_SERVER": where.replace("127.0.0.1", "localhost"), "LATENT_INV_CA": ca}
        done = node(*arguments, LATENT_INV_TOKEN=token, **settings)
        with Client(where, token=token, ca=ca) as client:
            check(out, client, json.loads(done.stdout))
        refused = node(*arguments, LATENT_INV_TOKEN="wrong", code=1, **settings)
        assert refused.stderr.startswith("error: UNAUTHENTICATED: this server wants")
    sent = node(*arguments, LATENT_INV_TOKEN="secret", LATENT_INV_SERVER="gpu.example.org:50051", code=1)
    assert "unencrypted; set LATENT_INV_CA" in sent.stderr
    assert "secret" not in sent.stderr


def test_what_is_wrong_is_told_in_a_line(node: Run, photo: Path, tmp_path: Path) -> None:
    no_picture = tmp_path / "text.png"
    no_picture.write_text("no picture")
    config = ServerConfig(port=0, grace_seconds=0, max_upload_mb=1)
    with serving(FakeEngine(), config, open_store(tmp_path / "data")) as where:
        settings = {"LATENT_INV_SERVER": where, "code": 1}
        over = node(photo, "--out", tmp_path / "out", **settings)
        assert over.stderr.startswith(f"error: RESOURCE_EXHAUSTED: {photo.stat().st_size} bytes more")
        assert "uploaded" not in over.stderr, "it is refused before a piece is sent"
        assert node(no_picture, **settings).stderr.splitlines()[-1].startswith("error: INVALID_ARGUMENT: spec.image: ")
        assert "ENOENT" in node(tmp_path / "none.png", **settings).stderr
        assert node(**settings).stderr.startswith("error: name one picture")


def test_only_what_it_names_is_in_the_lock_file() -> None:
    folder = ROOT / "examples" / "node"
    named = json.loads((folder / "package.json").read_text())["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert all(version[0].isdigit() for version in named.values()), "exact versions"
    assert locked[""]["dependencies"] == named
    for name, entry in locked.items():
        assert not name or entry["integrity"].startswith("sha512-"), name
    assert {locked[f"node_modules/{name}"]["version"] for name in named} == set(named.values())
