"""A disk that fills up under jobs, and is emptied again: is anything lost that was taken?"""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import LatentInvError, LimitError
from latent_inv.generators import GENERATORS
from latent_inv.spec import Adam, Budget

from .figures import Figure, Options
from .recovery import WIDTH, create_one, damaged, ended, same, undisturbed
from .serving import Server
from .spine import targets

#: size of the disk, and what is left of it when it is made full: less than a result takes
_DISK_MIB, _LEFT_BYTES = 48, 100_000


def disk_full(options: Options) -> list[Figure]:
    """A small disk of memory as data folder, which something else fills while jobs come and end."""
    rounds, jobs = (1, 4) if options.quick else (3, options.targets(20))
    settings: dict[str, Any] = {"solver": Adam(), "budget": Budget(steps=8 if options.quick else 40)}
    chance = random.Random(options.seed)
    lost = wrong = broken = 0
    refused: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="faults-") as name, small_disk(Path(name)) as disk:
        server = Server(disk, "--checkpoint-steps", "5", "--lane-width", str(WIDTH), "--max-jobs", "8")
        server.start()
        for number in range(rounds):
            engine = Engine(GENERATORS, place("cpu", lane_width=WIDTH))
            pictures = targets(engine, jobs, options.seed + 1000 * number)
            expected = undisturbed(engine, pictures, settings)
            engine.close()
            taken: dict[int, str] = {}
            full = Ballast(disk)
            full_from = chance.uniform(0, 2)
            began = time.monotonic()
            with server.client() as client:
                for index, picture in enumerate(pictures):
                    if not full.there and time.monotonic() - began > full_from:
                        full.fill()
                    try:
                        taken[index] = create_one(client, picture, index, f"round-{number}-job-{index}", settings)
                    except LimitError:
                        refused["in words"] += 1
                    except LatentInvError as error:
                        refused[f"{type(error).__name__}: {error}"] += 1
                    time.sleep(chance.uniform(0, 0.4))
            full.fill()
            time.sleep(chance.uniform(3, 8))
            full.remove()
            found = ended(server, list(taken.values()))
            lost += sum(job is None or job.state != "succeeded" for job in found)
            wrong += sum(not same(job, expected[index]) for job, index in zip(found, taken, strict=True))
            broken += damaged(server.folder / "data")
            print(f"    round {number + 1}: {len(taken)} taken, {lost} lost, {wrong} wrong", flush=True)
        lost += server.stop() != 0
    others = {text: count for text, count in refused.items() if text != "in words"}
    detail = (
        f"{rounds} times full under {jobs} jobs each; {refused['in words']} refused in words, others: {others or 0}"
    )
    return [Figure("diskfull_lost", lost + wrong + broken + sum(others.values()), "", detail)]


class Ballast:
    """A file that takes all but a little of a disk."""

    def __init__(self, disk: Path) -> None:
        self._disk, self._path = disk, disk / "ballast"

    @property
    def there(self) -> bool:
        """Is the disk full?"""
        return self._path.exists()

    def fill(self) -> None:
        """Make it full."""
        import shutil

        with self._path.open("ab") as file:
            file.write(bytes(max(0, shutil.disk_usage(self._disk).free - _LEFT_BYTES)))

    def remove(self) -> None:
        """Give the room back."""
        self._path.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own in memory, which only root may make."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(f"diskfull needs leave to mount a tmpfs: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a process that ends may hold it for a moment longer.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
