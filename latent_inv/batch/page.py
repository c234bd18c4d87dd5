"""`index.html` of a folder: target and reconstruction of every picture side by side, with the scores. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from latent_inv.files import write_bytes
from latent_inv.report import Card, Gallery, Section, Table, Text, Tiles, page

from .manifest import Row

#: skipped files are listed up to so many; the manifest has all
_MOST_SKIPPED = 200
#: number of a card → (words, largest first at the first click)
_ORDERS = {
    "psnr": ("PSNR", False),
    "lpips": ("LPIPS", True),
    "seconds": ("seconds", True),
    "failed": ("failed first", True),
}


def write_page(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Write the page of some rows, whole or not at all.

    Args:
        title: name of the folder.
        rows: in the order in which they are shown.
    """
    write_bytes(path, folder_page(title, rows).encode("utf-8"))


def folder_page(title: str, rows: Sequence[Row]) -> str:
    """The page of some rows; its pictures lie beside it."""
    pictures = [row for row in rows if row.status != "skipped"]
    skipped = [row for row in rows if row.status == "skipped"]
    sections = [Section("", [Tiles(_numbers(rows))])]
    if pictures:
        sections.append(
            Section("Target and reconstruction", [Gallery([_card(row) for row in pictures], _ORDERS, "file")])
        )
    if skipped:
        listed = [(row.path, row.reason) for row in skipped[:_MOST_SKIPPED]]
        blocks: list[Table | Text] = [Table(listed)]
        if len(skipped) > _MOST_SKIPPED:
            blocks.append(Text(f"… and {len(skipped) - _MOST_SKIPPED} more, see manifest.jsonl"))
        sections.append(Section("Skipped", blocks))
    return page(title, sections, subtitle="Pictures and the nearest that the generator was found to make.")


def _numbers(rows: Sequence[Row]) -> dict[str, str]:
    counts = {status: sum(row.status == status for row in rows) for status in ("done", "failed", "skipped")}
    tiles = {status: str(count) for status, count in counts.items() if count or status == "done"}
    done = [row for row in rows if row.status == "done"]
    psnr = [row.psnr_db for row in done if row.psnr_db is not None]
    lpips = [row.lpips for row in done if row.lpips is not None]
    if psnr:
        tiles["median PSNR"] = f"{statistics.median(psnr):.2f} dB"
    if lpips:
        tiles["median LPIPS"] = f"{statistics.median(lpips):.4f}"
    return tiles


def _card(row: Row) -> Card:
    scores = []
    if row.psnr_db is not None:
        scores.append(f"PSNR {row.psnr_db:.2f} dB")
    if row.lpips is not None:
        scores.append(f"LPIPS {row.lpips:.4f}")
    work = (
        [] if row.steps is None or row.seconds is None else [f"{row.steps} steps, {row.seconds:.1f} s, {row.outcome}"]
    )
    failed = row.status == "failed"
    # Names may hold colons; beside the page they are never schemes.
    link = row.outputs.get("page") or row.outputs.get("reconstruction", "")
    return Card(
        title=row.path,
        image=f"./{row.thumbnail}" if row.thumbnail else "",
        alt=f"target and reconstruction of {row.path}",
        link=f"./{link}" if link else "",
        lines=["  ·  ".join(scores), *work, *row.warnings] if scores else list(row.warnings),
        warn=f"failed: {row.reason}" if failed else "",
        kind=row.status,
        numbers={"psnr": row.psnr_db, "lpips": row.lpips, "seconds": row.seconds, "failed": float(failed)},
    )
