"""The benchmark of quality: rivals are as their papers say, times are read rightly, every figure comes out."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_inv.asset_table import ENCODERS
from scripts.benchmarks.__main__ import main
from scripts.benchmarks.quality_table import mean_curve
from scripts.benchmarks.rivals import AdamLoop, projector_noise, projector_rate
from scripts.benchmarks.traces import Point, Trace

FIGURES = {
    "speedup_vs_projector",
    "projector_over_bare_step",
    "exact_share",
    "exact_median_s",
    "exact_p95_s",
    "exact_stop_median_s",
    "png_level_share",
    "png_max_level",
    "jpeg50_psnr_db",
    "batch_gain",
    "batch_gain_of_bare",
    "deadline_share",
    "oor_worst_lpips_ratio",
    "oor_mean_lpips_ratio",
    "quality_table",
}
FIGURES_OF_ENCODER = {"encoder_psnr_db", "encoder_lpips"}


@pytest.mark.parametrize(
    ("step", "rate"),
    # Karras et al. (2020), appendix D: up to 0.1 over 50 steps, down to 0 over the last 250 along a cosine.
    [(0, 0.0), (25, 0.05), (50, 0.1), (750, 0.1), (800, 0.05 * (1 + math.cos(math.pi / 5))), (875, 0.05), (1000, 0.0)],
)
def test_the_projectors_learning_rate_is_the_papers(step: int, rate: float) -> None:
    assert projector_rate(step) == pytest.approx(rate, abs=1e-12)


def test_the_projectors_noise_is_the_papers() -> None:
    """0.05 σ_w t², t from 1 to 0 over 750 steps; σ_w² = E‖z − mean‖² = 100."""
    assert projector_noise(0) == pytest.approx(0.5)
    assert projector_noise(375) == pytest.approx(0.125)
    assert projector_noise(750) == 0
    assert projector_noise(900) == 0


def test_the_rivals_adam_is_torchs() -> None:
    random = torch.Generator().manual_seed(3)
    ours, theirs = torch.ones(1, 5), torch.ones(1, 5, requires_grad=True)
    loop, torchs = AdamLoop(ours), torch.optim.Adam([theirs], lr=0.05)
    for _ in range(20):
        theirs.grad = torch.randn(1, 5, generator=random)
        loop.update(theirs.grad, 0.05)
        torchs.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_both_qualities_must_be_there_at_once() -> None:
    points = (Point(1.0, 30.0, 0.2), Point(2.0, 20.0, 0.1), Point(3.0, 30.0, None), Point(4.0, 25.0, 0.1))
    trace = Trace(points, np.zeros((3, 1, 1), np.float32))
    assert trace.first(30.0) == 1.0
    assert trace.first(25.0, 0.1) == 4.0
    assert trace.first(30.0, 0.1) is None


def test_a_mean_curve_holds_each_value_until_the_next() -> None:
    seconds, means = mean_curve([[(1.0, 10.0), (4.0, 20.0)], [(2.0, 0.0), (3.0, 2.0)]])
    assert (seconds[0], seconds[-1]) == (pytest.approx(2.0), pytest.approx(4.0))
    assert (means[0], means[-1]) == (5.0, 11.0)
    assert set(np.unique(means)) == {5.0, 6.0, 11.0}


@pytest.mark.slow
def test_the_whole_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document, out = tmp_path / "figures.json", tmp_path / "out"
    command = ["bench", "quality", "--quick", "--seed", "5", "--json", str(document), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    figures = {item["figure"]: item["value"] for item in json.loads(document.read_text())["figures"]}
    assert set(figures) == FIGURES | (FIGURES_OF_ENCODER if "faces" in ENCODERS else set())
    assert all(math.isfinite(value) for value in figures.values())
    rows = json.loads((out / "table.json").read_text())["rows"]
    assert {row["place"] for row in rows} == {"in range", "out of range"}
    assert {"projector", "pix2latent", "auto"} <= {row["method"] for row in rows}
    assert "| projector | 1 |" in (out / "table.md").read_text()
    for name in ("psnr-in-range", "psnr-out-of-range", "lpips-in-range", "lpips-out-of-range"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_a_part_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "quality", "--quick", "--only", "table,spedup"])
    with pytest.raises(SystemExit, match=r"speedup.*found spedup"):
        main()
