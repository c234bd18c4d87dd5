"""What a benchmark gives, and the one way to write it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """How a benchmark is asked to run.

    Attributes:
        seed: of all targets and starts; never a known one, so that nothing is tuned to it.
        quick: a small version, to see that it works; its figures say so.
        count: number of targets, where a part asks for one; None: the part's own.
        only: names of the parts to run; empty: all.
        out: folder for tables and plots, made when needed.
    """

    seed: int
    quick: bool
    count: int | None = None
    only: tuple[str, ...] = ()
    out: Path = Path("out/bench")

    def targets(self, usual: int) -> int:
        """How many targets a part takes that by itself takes `usual`."""
        return self.count or (min(2, usual) if self.quick else usual)


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    figure: str
    value: float
    unit: str
    detail: str


def run_parts(parts: Mapping[str, Callable[[], list[Figure]]], options: Options) -> list[Figure]:
    """The figures of the parts that were asked for, in the order of `parts`."""
    if unknown := set(options.only) - set(parts):
        raise SystemExit(f"--only takes {', '.join(parts)}; found {', '.join(sorted(unknown))}")
    figures = []
    for name, part in parts.items():
        if options.only and name not in options.only:
            continue
        print(f"  {name} …", flush=True)
        began = time.perf_counter()
        figures += part()
        print(f"  {name}: {time.perf_counter() - began:.0f} s", flush=True)
    return figures


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was before."""
    import torch

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "load_before": load,
        "busy": load is not None and load > 0.5 * (os.cpu_count() or 1),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str:
    """The commit that was measured, with "+" if the tree differs from it."""
    try:
        name = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def report(bench: str, where: dict[str, Any], figures: Sequence[Figure], path: Path | None) -> None:
    """Print a table, and write the JSON document."""
    from rich.console import Console
    from rich.table import Table

    from latent_inv.report import write_json

    table = Table(
        title=f"{bench}  ({where['cpu']}, {where['cores']} cores, torch {where['torch']})", title_justify="left"
    )
    for column in ("figure", "value", "unit", "detail"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for item in figures:
        table.add_row(item.figure, f"{item.value:.4g}", item.unit, item.detail)
    console = Console(highlight=False)
    console.print(table)
    if where["busy"]:
        console.print("[bold yellow]the machine was busy at the start: times are not to be trusted")
    if path is not None:
        document = {
            "bench": bench,
            "commit": commit(),
            "machine": where,
            "figures": [asdict(item) for item in figures],
        }
        write_json(path, document)
