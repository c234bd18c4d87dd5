"""Every method on the same few pictures: a table, and quality against time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from latent_inv.engine.engine import Engine
from latent_inv.errors import AssetError, UnsupportedError
from latent_inv.files import write_bytes
from latent_inv.images import Picture
from latent_inv.perceptual import load_metric
from latent_inv.report import curves, write_json

from .figures import Figure, Options
from .out_of_range import pictures as out_of_range_pictures
from .rivals import RIVALS
from .spine import targets
from .traces import METHODS, Trace, asked, run_traced

METRIC = "stlpips-alex"
WIDTH = 8
#: methods of so many evaluations that the first pictures must do: name -> how many
FEW = {"hybrid-cma": 2}
#: methods that are compared in lanes; the others model each row by itself or take too long
IN_LANES = ("adam-random", "encoder", "encoder+adam", "encoder+l-bfgs", "auto")
#: distances below are drawn here: nobody sees them
LEAST_LPIPS = 1e-6
PLACES = ("in range", "out of range")


@dataclass(frozen=True)
class Row:
    """Means of one method over the pictures of one kind; `seconds` a picture."""

    method: str
    batch: int
    place: str
    pictures: int
    psnr_db: float
    lpips: float
    seconds: float


def table(engine: Engine, options: Options) -> list[Figure]:
    """Mean PSNR, distance and seconds of each method, at batch 1 and in lanes of eight."""
    count = options.targets(3)
    places = {
        "in range": targets(engine, max(count, WIDTH), options.seed + 80),
        "out of range": _spread(out_of_range_pictures(options.seed, faces=2 if options.quick else 5, eyes=4)),
    }
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    for place, pictures in places.items():
        traces: dict[str, list[Trace]] = {}
        for method, batch in _plan():
            chosen = pictures[: WIDTH if batch > 1 else min(count, FEW.get(method, count))]
            try:
                made = list(_runs(engine, method, batch, chosen, options))
            except (UnsupportedError, AssetError) as error:
                left_out[method] = str(error)
                continue
            rows.append(_row(method, batch, place, made))
            if batch == 1:
                traces[method] = made
            print(f"    {rows[-1].method}, batch {batch}, {place}: {_cells(rows[-1])}", flush=True)
        _plot(options.out, place, traces)
    for method, why in left_out.items():
        print(f"    {method} is left out: {why}", flush=True)
    text = markdown(rows, left_out)
    print(text, flush=True)
    write_bytes(options.out / "table.md", text.encode())
    write_json(options.out / "table.json", {"rows": [asdict(row) for row in rows], "left_out": left_out})
    without = f"; left out: {', '.join(left_out)}" if left_out else ""
    measured = len({row.method for row in rows})
    return [Figure("quality_table", measured, "methods", f"{options.out}/table.md, and plots beside it{without}")]


def _spread(pictures: dict[str, Picture]) -> list[Picture]:
    """The kinds by turns, so that the first few hold one of each."""
    kinds: dict[str, list[Picture]] = {}
    for name, picture in pictures.items():
        kinds.setdefault(name.rsplit(" ", 1)[0], []).append(picture)
    most = max(len(kind) for kind in kinds.values())
    return [kind[index] for index in range(most) for kind in kinds.values() if index < len(kind)]


def _plan() -> Iterator[tuple[str, int]]:
    yield from ((method, 1) for method in (*RIVALS, *METHODS))
    yield from ((method, WIDTH) for method in IN_LANES)


def _runs(engine: Engine, method: str, batch: int, pictures: list[Picture], options: Options) -> Iterator[Trace]:
    if method in RIVALS:
        generator, metric = engine.catalogue.load("faces", "float32"), load_metric(METRIC)
        for index, picture in enumerate(pictures):
            yield RIVALS[method](generator, metric, picture, options.seed + index, options.quick)
        return
    settings = asked(method, quick=options.quick)
    for first in range(0, len(pictures), batch):
        chunk = pictures[first : first + batch]
        yield from run_traced(engine, chunk, options.seed + first, lane_width=batch, **settings)


def _row(method: str, batch: int, place: str, traces: list[Trace]) -> Row:
    # Side by side, all are there when the last one is.
    seconds = (max if batch > 1 else sum)(trace.final.seconds for trace in traces) / len(traces)
    psnr = statistics.mean(trace.final.psnr_db for trace in traces)
    lpips = statistics.mean(trace.final_lpips for trace in traces)
    return Row(method, batch, place, len(traces), psnr, lpips, seconds)


def _cells(row: Row | None) -> str:
    return "– | – | –" if row is None else f"{row.psnr_db:.2f} dB | {row.lpips:.3g} | {row.seconds:.2f}"


def markdown(rows: list[Row], left_out: dict[str, str]) -> str:
    """The table: a line for each method and batch, in range and out of range side by side."""
    found = {(row.method, row.batch, row.place): row for row in rows}
    head = " | ".join(f"PSNR, {place} | LPIPS | s" for place in PLACES)
    lines = [f"| method | batch | {head} |", "|---|--:|" + "--:|" * 6]
    for method, batch in dict.fromkeys((row.method, row.batch) for row in rows):
        cells = " | ".join(_cells(found.get((method, batch, place))) for place in PLACES)
        lines.append(f"| {method} | {batch} | {cells} |")
    counts = {place: max((row.pictures for row in rows if row.place == place), default=0) for place in PLACES}
    notes = [
        f"Means; seconds a picture; LPIPS is {METRIC}; at most " + ", ".join(f"{n} {p}" for p, n in counts.items())
    ]
    notes += [f"{method} is left out: {why}" for method, why in left_out.items()]
    return "\n".join([*lines, "", *(f"{note}.  " for note in notes)]) + "\n"


def _plot(out: Path, place: str, traces: dict[str, list[Trace]]) -> None:
    """Means over the pictures against time, a curve a method."""
    kinds: dict[str, tuple[str, Callable[[Trace], list[tuple[float, float]]]]] = {
        "psnr": ("PSNR (dB)", lambda trace: [(point.seconds, point.psnr_db) for point in trace.points]),
        "lpips": (
            f"LPIPS, {METRIC}",
            lambda trace: [(p.seconds, max(LEAST_LPIPS, p.lpips)) for p in trace.points if p.lpips is not None],
        ),
    }
    for name, (label, values) in kinds.items():
        series = {method: mean_curve([values(trace) for trace in made]) for method, made in traces.items()}
        path = out / f"{name}-{place.replace(' ', '-')}.png"
        logarithmic = name == "lpips"
        title = f"Faces {place}, one at a time"
        curves(path, series, xlabel="time (s)", ylabel=label, log=logarithmic, log_x=True, title=title)


def mean_curve(runs: list[list[tuple[float, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of step functions: a value holds until the next, the last for ever.

    Args:
        runs: (seconds, value) by time, at least one each.
    Returns:
        seconds, from when every run has a value to the end of the last one; the means there.
    """
    begin, end = max(run[0][0] for run in runs), max(run[-1][0] for run in runs)
    seconds = np.geomspace(begin, max(end, begin * 1.0001), 200)
    means = np.zeros_like(seconds)
    for run in runs:
        times, values = (np.array(column) for column in zip(*run, strict=True))
        means += values[np.searchsorted(times, seconds * (1 + 1e-9), side="right") - 1] / len(runs)
    return seconds, means
