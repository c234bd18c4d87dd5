"""Curves: the history of a job, and any other series. Drawn with matplotlib's objects alone, without pyplot."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_inv.files import write_bytes

from .text import FAMILY, drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latent_inv.result import Step

#: Told apart by people with any colour vision (Okabe and Ito, 2008), darkest first.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6bb1", "#6b7280")
_INK, _SOFT, _BEST = "#1c2026", "#626a75", "#9aa1ab"
_GRID, _FINE_GRID = "#e1e4e8", "#f0f2f4"
_DPI = 110
#: Numbers beyond these have no place on an axis.
_LEAST, _MOST = 1e-150, 1e150
#: A line is drawn with two points of each of so many groups of neighbours.
_BUCKETS = 2000
#: Where a legend is put by looking at every point, up to so many of them.
_LEGEND_POINTS = 4000
#: Up to so many points each is marked, so that a single one is seen.
_MARKED_POINTS = 12

#: (label, x, y): not a mapping, as two labels may look alike once they are cut to fit.
Line = tuple[str, Any, Any]


def history_figure(history: Sequence[Step], best_step: int, *, perceptual: str = "") -> Figure:
    """Draw how a job went: loss and its terms (logarithmic), PSNR, LPIPS (where known) against steps.

    Args:
        history: recorded steps, possibly none.
        best_step: marked in every panel.
        perceptual: name of the metric, for the axis.
    Returns:
        a matplotlib figure that no global state knows of; `figure_png` encodes it.
    """
    steps = [step.step for step in history]
    terms = list(dict.fromkeys(name for step in history for name in step.terms))
    losses: list[Line] = [("loss", steps, [step.loss for step in history])]
    if len(terms) > 1:  # one term alone is the loss
        losses += [(_short(name, 50), steps, [step.terms.get(name) for step in history]) for name in terms]
    panels: list[tuple[list[Line], str, bool]] = [
        (losses, "loss (no unit)", True),
        ([("PSNR", steps, [step.metrics.psnr_db for step in history])], "PSNR (dB)", False),
    ]
    distances = [step.metrics.lpips for step in history]
    if any(distance is not None for distance in distances):
        name = f"LPIPS, {perceptual}" if perceptual else "LPIPS (no unit)"
        panels.append(([("LPIPS", steps, distances)], name, True))
    figure = _figure(8.6, 1.0 + 1.9 * len(panels))
    heights = [1.5, *[1.0] * (len(panels) - 1)]
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    first = None
    for index, (lines, label, log) in enumerate(panels):
        axes = figure.add_subplot(grid[index], sharex=first)
        first = first or axes
        _draw(axes, lines, log_y=log)
        _mark_best(axes, lines[0], best_step, named=index == 0)
        last = index == len(panels) - 1
        _dress(axes, "steps" if last else "", label, legend=len(lines) > 1)
        axes.tick_params(labelbottom=last)
    if first is not None:
        _whole_steps(first, steps)
    figure.align_ylabels()
    return figure


def curves(
    path: str | os.PathLike[str],
    series: Mapping[str, tuple[Any, Any]],
    xlabel: str,
    ylabel: str,
    *,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Draw series into a PNG file; written whole or not at all.

    Args:
        path: file to write; its folder must exist.
        series: label → (x, y), two sequences of one length. Points that are not finite, or not above 0 on a logarithmic
            axis, are left out.
        xlabel, ylabel: with units, e.g. "time (s)".
        title: a line on top.
        log_x, log_y: logarithmic axes, where there is anything above 0.
    Raises:
        InputError: the folder is missing or may not be written to.
    """
    figure = _figure(8.0, 4.6)
    axes = figure.add_subplot()
    lines = [(_short(label, 50), x, y) for label, (x, y) in series.items()]
    _draw(axes, lines, log_x=log_x, log_y=log_y)
    _dress(axes, xlabel, ylabel, legend=len(lines) > 1)
    if title:
        text = axes.set_title(_short(title, 80), loc="left", fontsize=11, color=_INK, family=FAMILY, weight="bold")
        text.set_parse_math(False)
    write_bytes(path, figure_png(figure))


def figure_png(figure: Figure) -> bytes:
    """Encode a figure as PNG on white, with nothing in it that changes from run to run."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(width, height), dpi=_DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _draw(axes: Any, lines: Sequence[Line], *, log_x: bool = False, log_y: bool = False) -> None:
    """Draw the lines, with limits that are never empty."""
    points = [(label, _numbers(x), _numbers(y)) for label, x, y in lines]
    # An axis is logarithmic only where there is something that it can show.
    log_x = log_x and any((x > _LEAST).any() for _, x, _ in points)
    log_y = log_y and any((y > _LEAST).any() for _, _, y in points)
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    all_x, all_y = [np.empty(0)], [np.empty(0)]
    for index, (label, x, y) in enumerate(points):
        shown = np.isfinite(x) & np.isfinite(y) & ((x > _LEAST) | (not log_x)) & ((y > _LEAST) | (not log_y))
        all_x.append(x[shown])
        all_y.append(y[shown])
        axes.plot(
            *_thinned(x, np.where(shown, y, np.nan)),
            # A label that begins with "_" would be left out of the legend.
            label=f" {label}" if label.startswith("_") else label,
            color=COLOURS[index % len(COLOURS)],
            linestyle=("-", "--", ":")[index // len(COLOURS) % 3],
            linewidth=1.8 if index == 0 else 1.3,
            marker="o" if len(x) <= _MARKED_POINTS else "",
            markersize=4,
            zorder=3 - index / 100,
        )
    axes.set_xlim(*_limits(np.concatenate(all_x), log=log_x))
    axes.set_ylim(*_limits(np.concatenate(all_y), log=log_y))
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            _plain_ticks(axis)


def _numbers(values: Any) -> np.ndarray:
    numbers = np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    return np.where(np.abs(numbers) < _MOST, numbers, np.nan)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest of every few neighbours, so that peaks stay and drawing is quick."""
    if len(x) <= 2 * _BUCKETS:
        return x, y
    starts = np.linspace(0, len(x), _BUCKETS + 1).astype(int)
    lowest, highest = np.where(np.isnan(y), np.inf, y), np.where(np.isnan(y), -np.inf, y)
    chosen = {0, len(x) - 1}
    for begin, end in pairwise(starts):
        chosen |= {begin + int(lowest[begin:end].argmin()), begin + int(highest[begin:end].argmax())}
    kept = np.array(sorted(chosen))
    return x[kept], y[kept]


def _limits(values: np.ndarray, *, log: bool) -> tuple[float, float]:
    """Ends of an axis with room on both sides, also where all values are one, or there is none."""
    if values.size == 0:
        return (0.1, 10.0) if log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        # Half a decade at least, so that ticks keep few digits.
        room = 1.15 if high / low > 10**0.5 else 1.9
        return low / room, high * room
    room = 0.05 * (high - low)
    if room <= 1e-9 * max(abs(low), abs(high)):
        room = max(abs(high) * 0.05, 0.5)
    return low - room, high + room


def _plain_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers: 0.02, not 2·10⁻²."""
    from matplotlib.ticker import LogFormatter

    class PlainLogFormatter(LogFormatter):
        """Labels the ticks that LogFormatter labels."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.set_major_formatter(PlainLogFormatter(labelOnlyBase=False))
    axis.set_minor_formatter(PlainLogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.5)))


def _mark_best(axes: Any, line: Line, best_step: int, *, named: bool) -> None:
    x, y = (_numbers(values) for values in line[1:])
    if x.size == 0:
        axes.text(0.5, 0.5, "no steps were recorded", transform=axes.transAxes, ha="center", color=_SOFT, family=FAMILY)
        return
    axes.axvline(best_step, color=_BEST, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    at = np.flatnonzero((x == best_step) & np.isfinite(y) & ((y > 0) | (axes.get_yscale() == "linear")))
    if at.size:
        axes.plot(x[at[:1]], y[at[:1]], "o", color=COLOURS[0], markeredgecolor="white", markersize=7, zorder=5)
    left, right = axes.get_xlim()
    if named and left <= best_step <= right:
        early = best_step < (left + right) / 2
        axes.annotate(
            f"best: step {best_step}",
            xy=(best_step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(5 if early else -5, -5),
            textcoords="offset points",
            ha="left" if early else "right",
            va="top",
            fontsize=9,
            color=_SOFT,
            family=FAMILY,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        )


def _dress(axes: Any, xlabel: str, ylabel: str, *, legend: bool) -> None:
    axes.set_facecolor("white")
    axes.grid(True, color=_GRID, linewidth=0.8, zorder=0)
    axes.grid(True, which="minor", color=_FINE_GRID, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_BEST)
    axes.tick_params(which="both", colors=_SOFT, labelsize=9, labelfontfamily=FAMILY)
    for text in (axes.set_xlabel(_short(xlabel, 80)), axes.set_ylabel(_short(ylabel, 40))):
        text.set(color=_INK, fontsize=10, family=FAMILY, parse_math=False)
    lines = axes.get_lines()
    if legend:
        many = len(lines) > 10
        quick = sum(len(line.get_xdata()) for line in lines) <= _LEGEND_POINTS
        made = axes.legend(
            frameon=True,
            framealpha=0.85,
            edgecolor="none",
            facecolor="white",
            loc="best" if quick else "upper right",
            ncols=2 if many else 1,
        )
        # However long it is, the axes keep their size.
        made.set_in_layout(False)
        for text in made.get_texts():
            text.set(color=_INK, fontsize=7 if many else 9, family=FAMILY, parse_math=False)


def _short(text: str, limit: int) -> str:
    """A label that fits: a longer one would leave no room for the curves."""
    text = drawable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _whole_steps(axes: Any, steps: Sequence[int]) -> None:
    """Steps are whole numbers, and so are their ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if len(set(steps)) > 1:
        room = 0.02 * (max(steps) - min(steps))
        axes.set_xlim(min(steps) - room, max(steps) + room)
