"""Curves: the history of a job, and any other series. Drawn with matplotlib's objects alone, without pyplot."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_inv.files import write_bytes

from .axes import BEST, COLOURS, INK, SOFT, Line, draw, dress, numbers, short
from .text import FAMILY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latent_inv.result import Step

_DPI = 110


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
        losses += [(short(name, 50), steps, [step.terms.get(name) for step in history]) for name in terms]
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
        draw(axes, lines, log_y=log)
        _mark_best(axes, lines[0], best_step, named=index == 0)
        last = index == len(panels) - 1
        dress(axes, "steps" if last else "", label, legend=len(lines) > 1, above=True)
        axes.tick_params(labelbottom=last)
    if first is not None:
        _whole_steps(first, steps)
    figure.align_ylabels()
    return figure


def curves(
    path: str | os.PathLike[str],
    series: Mapping[str, tuple[Any, Any]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    log_x: bool = False,
    title: str = "",
) -> None:
    """Draw series into a PNG file; written whole or not at all.

    Args:
        path: file to write; its folder must exist.
        series: label → (x, y), two sequences of one length. Points that are not finite, or not above 0 on a logarithmic
            axis, are left out.
        xlabel, ylabel: with units, e.g. "time (s)".
        log: logarithmic y axis, where there is anything above 0; `log_x` the same for x.
        title: a line on top.
    Raises:
        InputError: the folder is missing or may not be written to.
    """
    figure = _figure(8.0, 4.6)
    axes = figure.add_subplot()
    lines = [(short(label, 50), x, y) for label, (x, y) in series.items()]
    draw(axes, lines, log_x=log_x, log_y=log)
    dress(axes, xlabel, ylabel, legend=len(lines) > 1)
    if title:
        text = axes.set_title(short(title, 80), loc="left", fontsize=11, color=INK, family=FAMILY, weight="bold")
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


def _mark_best(axes: Any, line: Line, best_step: int, *, named: bool) -> None:
    x, y = (numbers(values) for values in line[1:])
    if x.size == 0:
        axes.text(0.5, 0.5, "no steps were recorded", transform=axes.transAxes, ha="center", color=SOFT, family=FAMILY)
        return
    axes.axvline(best_step, color=BEST, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
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
            color=SOFT,
            family=FAMILY,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        )


def _whole_steps(axes: Any, steps: Sequence[int]) -> None:
    """Steps are whole numbers, and so are their ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if len(set(steps)) > 1:
        room = 0.02 * (max(steps) - min(steps))
        axes.set_xlim(min(steps) - room, max(steps) + room)
