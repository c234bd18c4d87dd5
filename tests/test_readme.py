"""What the README says works: its Python and bash blocks are run as they stand, in an empty folder."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from skimage.data import astronaut

from latent_inv.engine.remote import ThreadEngine
from latent_inv.images import load, write_png
from latent_inv_server.testing import running_server

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:50051"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_png(tmp_path / "photo.png", load(astronaut()).pixels)
    return tmp_path


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server on a free port, in a thread of its own."""
    address: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        engine = await asyncio.to_thread(ThreadEngine)
        async with running_server(engine) as application:
            address.append(f"127.0.0.1:{application.port}")
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    yield address[0]
    stop.set()
    thread.join(30)


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_library_block(folder: Path) -> None:
    code = next(block for block in blocks("python") if "import latent_inv\n" in block)
    output = run(code, folder)
    assert "(1, 100)" in output
    assert "(1, 16, 17, 17)" in output
    assert (folder / "face" / "index.html").exists()


@pytest.mark.slow
def test_the_client_block(folder: Path, server: str) -> None:
    code = next(block for block in blocks("python") if ADDRESS in block and "invert(" in block)
    output = run(code.replace(ADDRESS, server), folder)
    assert "(1, 3, 64, 64)" in output
    assert len(output.splitlines()) == 52, "51 iterates and the shape"


@pytest.mark.slow
def test_the_block_on_jobs(folder: Path, server: str) -> None:
    code = next(block for block in blocks("python") if ADDRESS in block and "jobs.create(" in block)
    output = run(code.replace(ADDRESS, server), folder).splitlines()
    assert output[-3] == "50"
    assert output[-2].startswith("succeeded JobResult(")
    assert output[-1] == "['succeeded']"


@pytest.mark.slow
def test_the_block_on_files(folder: Path, server: str) -> None:
    code = next(block for block in blocks("python") if ADDRESS in block and "artifacts.upload(" in block)
    run(code.replace(ADDRESS, server), folder)
    pictures = [path for path in folder.glob("*.png") if path.name != "photo.png"]
    assert len(pictures) == 2
    assert {load(path).pixels.shape for path in pictures} == {(3, 64, 64)}


@pytest.mark.slow
def test_the_shell_block(folder: Path) -> None:
    (script,) = blocks("bash")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-euc", script], cwd=folder, check=True, env={**os.environ, "PATH": path})
    assert (folder / "again.png").exists()
    assert (folder / "face" / "index.html").exists()
    assert {path.name for path in (folder / "result").iterdir()} >= {"latents.safetensors", "index.html", "result.json"}


def test_every_python_block_is_tested() -> None:
    assert len(blocks("python")) == 4
    assert len(blocks("bash")) == 1


def test_links_lead_somewhere() -> None:
    root = Path(__file__).parent.parent
    texts = [README, *((root / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md",))]
    links = [link for text in texts for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (root / link).exists()] == []


def test_every_command_is_in_the_table() -> None:
    from latent_inv.cli import app

    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    names += [group.name for group in app.registered_groups if group.name]
    assert [name for name in names if f"`latent-inv {name.replace('_', '-')}" not in README] == []
