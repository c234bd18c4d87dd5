"""JSON and CSV of results."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from latent_inv.files import write_bytes
from latent_inv.result import Step


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a JSON document that every reader takes.

    Args:
        path: file to write; its folder must exist.
        value: plain values, paths, numpy numbers and arrays. Numbers that are not finite become null, as JSON has none.
    Raises:
        InputError: the folder is missing or may not be written to.
        TypeError: a value of another kind.
    """
    write_bytes(path, json_text(value).encode("utf-8"))


def json_text(value: Any) -> str:
    """The text that `write_json` writes; ends with a line break."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Mappings, sequences and numbers as JSON has them; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, os.PathLike) else value


def history_csv(history: Sequence[Step]) -> str:
    """Every recorded step as a line: step, seconds, loss, its terms, and the metrics.

    Returns:
        CSV with a header; a cell is empty where there is no finite number.
    """
    terms = list(dict.fromkeys(name for step in history for name in step.terms))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["step", "seconds", "loss", *(f"term.{name}" for name in terms), "psnr_db", "lpips", "mse"])
    for step in history:
        numbers = [step.seconds, step.loss, *(step.terms.get(name) for name in terms)]
        numbers += [step.metrics.psnr_db, step.metrics.lpips, step.metrics.mse]
        writer.writerow([step.step, *map(_cell, numbers)])
    return buffer.getvalue()


def _cell(number: float | None) -> str:
    return repr(float(number)) if number is not None and math.isfinite(number) else ""
