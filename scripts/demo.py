"""The demo: three pictures inverted over gRPC by a server of its own.

inrange: a sample of a generator of faces, given to the server only as a PNG; its latents exist.
photo:   a photograph, which this generator cannot reproduce exactly.
any:     the same photograph, in the autoencoder that takes any picture.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from latent_inv.cli.shell import progress_bar
from latent_inv.client import Client
from latent_inv.errors import LatentInvError, UnavailableError
from latent_inv.images import encode_png, load
from latent_inv.result import JobResult
from latent_inv.spec import Budget

#: the face in skimage.data.astronaut() (public domain, NASA): left, top, right, bottom
PHOTO_CROP = (160, 40, 290, 170)
#: head and shoulders of the same, at twice the pixels a side
ANY_CROP = (96, 0, 352, 256)

console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    parser.add_argument("--steps", type=int, help="most steps a picture; default: what it needs")
    parser.add_argument("--seed", type=int, default=29, help="seed of the in-range sample")
    arguments = parser.parse_args()
    try:
        fetch_weights()
        with server() as address, Client(address) as client:
            results = {
                "inrange": invert(client, "inrange", "faces", sample_png(client, arguments.seed), None, arguments),
                "photo": invert(client, "photo", "faces", photograph_png(), PHOTO_CROP, arguments),
                "any": invert(client, "any", "photos", photograph_png(), ANY_CROP, arguments),
            }
    except LatentInvError as error:
        console.print(f"error: {error}", style="bold red", markup=False, soft_wrap=True)
        return 1
    show(results, arguments.out)
    return 0 if all(result.outcome.good for result in results.values()) else 1


def fetch_weights() -> None:
    """Bring the weights before the server starts, with a bar."""
    from latent_inv.assets import fetch

    with progress_bar(quiet=False) as (_, on_load):
        for name in ("faces", "stlpips-alex"):
            fetch(name, progress=on_load)


@contextmanager
def server() -> Iterator[str]:
    """A server of our own on a free port, with its data in a folder of its own.

    Yields:
        its address.
    """
    with tempfile.TemporaryDirectory(prefix="latent-inv-demo-") as folder:
        port_file = Path(folder) / "port"
        log = (Path(folder) / "log").open("w+")
        command = [sys.executable, "-m", "latent_inv.cli", "serve", "--port", "0", "--port-file", str(port_file)]
        process = subprocess.Popen([*command, "--data", str(Path(folder) / "data")], stdout=log, stderr=log)
        try:
            with console.status("starting the server …"):
                port = wait_for_port(process, port_file, log)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()


def wait_for_port(process: subprocess.Popen[bytes], port_file: Path, log: Any, seconds: float = 120) -> int:
    """The port, once the server says that it is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if port_file.exists() and (text := port_file.read_text().strip()):
            return int(text)
        if process.poll() is not None:
            log.seek(0)
            raise UnavailableError(f"the server did not start: {log.read()[-500:].strip()}")
        time.sleep(0.05)
    raise UnavailableError(f"the server was not ready after {seconds:.0f} s")


def sample_png(client: Client, seed: int) -> bytes:
    """A sample of the generator as an 8-bit PNG; the latents are thrown away."""
    return encode_png(client.sample((seed,)).images[0])


def photograph_png() -> bytes:
    """The photograph as a PNG, uncropped."""
    from skimage.data import astronaut

    return encode_png(load(astronaut()).pixels)


def invert(
    client: Client, name: str, generator: str, picture: bytes, crop: Any, arguments: argparse.Namespace
) -> JobResult:
    """Invert over gRPC with a live bar, and write everything into its folder."""
    with progress_bar(quiet=False, title=name) as (on_step, _):
        result = client.invert(
            picture,
            generator,
            crop=crop,
            budget=Budget(steps=arguments.steps),
            on_progress=on_step,
        )
    return result.save(arguments.out / name)


def show(results: dict[str, JobResult], out: Path) -> None:
    """A table, and where to look."""
    table = Table(title="Latents recovered over gRPC", title_justify="left")
    for column in ("target", "generator", "outcome", "PSNR", "LPIPS", "steps", "seconds"):
        table.add_column(column, justify="left" if column in ("target", "generator", "outcome") else "right")
    for name, result in results.items():
        lpips = "" if result.metrics.lpips is None else f"{result.metrics.lpips:.4f}"
        scores = (f"{result.metrics.psnr_db:.2f} dB", lpips, str(result.steps), f"{result.seconds:.1f}")
        table.add_row(name, result.generator, result.outcome.name, *scores)
    console.print(table)
    for name in results:
        console.print(f"look at {out / name / 'comparison.png'} or open {out / name / 'index.html'}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
