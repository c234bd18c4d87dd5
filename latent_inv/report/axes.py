"""Lines on axes: limits that are never empty, labels that always fit, and no number that is stumbled over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .text import FAMILY, drawable

#: Told apart by people with any colour vision (Okabe and Ito, 2008), darkest first.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6bb1", "#6b7280")
INK, SOFT, BEST = "#1c2026", "#626a75", "#9aa1ab"
_GRID, _FINE_GRID = "#e1e4e8", "#f0f2f4"
#: Numbers beyond these have no place on an axis.
_LEAST, _MOST = 1e-150, 1e150
#: A line is drawn with two points of each of so many groups of neighbours.
_BUCKETS = 2000
#: Where a legend is put by looking at every point, up to so many of them.
_LEGEND_POINTS = 4000
#: A legend of so many characters fits into a row.
_ROW_CHARACTERS = 80
#: Up to so many points each is marked, so that a single one is seen.
_MARKED_POINTS = 12

#: (label, x, y): not a mapping, as two labels may look alike once they are cut to fit.
Line = tuple[str, Any, Any]


def draw(axes: Any, lines: Sequence[Line], *, log_x: bool = False, log_y: bool = False) -> None:
    """Draw the lines, with limits that are never empty."""
    points = [(label, numbers(x), numbers(y)) for label, x, y in lines]
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
            *thinned(x, np.where(shown, y, np.nan)),
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


def numbers(values: Any) -> np.ndarray:
    """As float64, with NaN for None and for what is too large to draw."""
    found = np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    return np.where(np.abs(found) < _MOST, found, np.nan)


def thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def dress(axes: Any, xlabel: str, ylabel: str, *, legend: bool, above: bool = False) -> None:
    """Set labels, grid and legend; a short legend can stand in a row above, where it hides no line."""
    axes.set_facecolor("white")
    axes.grid(True, color=_GRID, linewidth=0.8, zorder=0)
    axes.grid(True, which="minor", color=_FINE_GRID, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(BEST)
    axes.tick_params(which="both", colors=SOFT, labelsize=9, labelfontfamily=FAMILY)
    for text in (axes.set_xlabel(short(xlabel, 80)), axes.set_ylabel(short(ylabel, 40))):
        text.set(color=INK, fontsize=10, family=FAMILY, parse_math=False)
    lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    if legend:
        many = len(lines) > 10
        above = above and sum(len(line.get_label()) + 6 for line in lines) <= _ROW_CHARACTERS
        quick = sum(len(line.get_xdata()) for line in lines) <= _LEGEND_POINTS
        made = axes.legend(
            frameon=True,
            framealpha=0.85,
            edgecolor="none",
            facecolor="white",
            loc="lower left" if above else "best" if quick else "upper right",
            ncols=len(lines) if above else 2 if many else 1,
            **({"bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0.2} if above else {}),
        )
        # However long it is, the axes keep their size.
        made.set_in_layout(above)
        for text in made.get_texts():
            text.set(color=INK, fontsize=7 if many else 9, family=FAMILY, parse_math=False)


def short(text: str, limit: int) -> str:
    """A label that fits: a longer one would leave no room for the curves."""
    text = drawable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
