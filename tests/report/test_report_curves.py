"""Curves: what was recorded, and no number or label that they stumble over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latent_inv import report
from latent_inv.errors import InputError
from latent_inv.images import load
from latent_inv.report.axes import thinned
from latent_inv.result import Metrics, Step
from tests.report.helpers import history


def test_the_history_is_drawn_as_it_was() -> None:
    given = history(6)
    figure = report.history_figure(given, 3, perceptual="stlpips-alex")
    loss, psnr, lpips = figure.axes
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "log"]
    assert (loss.get_ylabel(), psnr.get_ylabel(), lpips.get_ylabel()) == (
        "loss (no unit)",
        "PSNR (dB)",
        "LPIPS, stlpips-alex",
    )
    assert lpips.get_xlabel() == "steps"
    assert list(psnr.get_lines()[0].get_ydata()) == [step.metrics.psnr_db for step in given]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["loss", "pixel", "perceptual"]
    for axes, value in ((loss, 1 / 4), (psnr, 13.0), (lpips, 0.3 / 4)):
        dot = axes.get_lines()[-1]
        assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([3], [value])


@pytest.mark.parametrize(
    ("steps", "panels"),
    [
        (history(1), 3),
        (history(4, lpips=False), 2),
        ((), 2),
        (history(2, loss=0.0, metrics=Metrics(200.0, 0.0, 0.0)), 3),
    ],
)
def test_every_history_can_be_drawn(steps: tuple[Step, ...], panels: int) -> None:
    figure = report.history_figure(steps, 0)
    assert len(figure.axes) == panels
    image = load(report.figure_png(figure))
    assert image.pixels.min() < 0 < image.pixels.max()


def test_curves_take_any_numbers_and_labels(tmp_path: Path) -> None:
    many = {f"series {index} " + "long " * 30: (range(5), np.arange(5.0) + index) for index in range(90)}
    cases: dict[str, dict[str, Any]] = {
        "empty": {"series": {}},
        "labels": {"series": {"_under": ([0, 1], [1, 2]), "$\\frac{": ([0, 1], [2, 3]), "日本": ([], [])}},
        "strange": {"series": {"a": ([0, 1, np.nan], [np.nan, None, 1e308])}, "log": True, "log_x": True},
        "zero": {"series": {"a": ([0.0], [0.0])}, "log_x": True, "log": True},
        "constant": {"series": {"a": ([1, 1], [1e-9, 1e-9])}, "log_x": True},
        "many": {"series": many},
    }
    for name, case in cases.items():
        path = tmp_path / f"{name}.png"
        report.curves(path, xlabel="$\\frac{$", ylabel="y" * 300, title="日" * 300, **case)
        height, width = load(path).pixels.shape[1:]
        assert (width, abs(height - 506) <= 1) == (880, True)  # 8.0 × 4.6 inches of 110 pixels; versions round apart
    with pytest.raises(InputError):
        report.curves(tmp_path / "missing" / "a.png", {}, xlabel="x", ylabel="y")
    assert len(list(tmp_path.iterdir())) == len(cases)


def test_long_curves_keep_their_peaks() -> None:
    y = np.ones(100_000)
    y[12_345], y[54_321], y[777] = 9.0, -9.0, np.nan
    x, kept = thinned(np.arange(100_000.0), y)
    assert len(x) <= 4002
    assert (kept[x == 12_345], kept[x == 54_321]) == (9.0, -9.0)
    assert (x[0], x[-1]) == (0, 99_999)


def test_the_legend_of_a_history_hides_no_line() -> None:
    figure = report.history_figure(history(6), 3)
    figure.canvas.draw()
    first = figure.axes[0]
    box, legend = first.get_window_extent(), first.get_legend().get_window_extent()
    assert legend.y0 >= box.y1 - 2  # pixels; its frame has no edge
    assert legend.x1 <= figure.bbox.x1
    assert legend.y1 <= figure.bbox.y1
