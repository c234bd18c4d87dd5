"""JSON and CSV of results."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from latent_inv.errors import InputError
from latent_inv.files import write_bytes
from latent_inv.result import Step


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a JSON document that every reader takes.

    Args:
        path: file to write; its folder must exist.
        value: plain values, paths, numpy numbers and arrays; every number finite, as JSON has no other.
    Raises:
        InputError: a number that is not finite (`field` is its place, e.g. "rows[3].loss"); or the folder is missing or
            may not be written to.
        TypeError: a value of another kind.
    """
    # Surrogates that are alone (file names that are not UTF-8) have no bytes of their own.
    text = json.dumps(_plain(value, ""), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8", "replace"))


def _plain(value: Any, place: str) -> Any:
    """Mappings, sequences and numbers as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{place}.{key}" if place else str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        return _plain(value.tolist(), place)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"must be a finite number to be written as JSON, found {value}", field=place)
    return str(value) if isinstance(value, os.PathLike) else value


def finite(value: Any) -> Any:
    """The same with None in place of numbers that are not finite, for those who keep a place for "unknown"."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
