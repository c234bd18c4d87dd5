"""The benchmark of layers: every figure comes out, with how far each space had to go."""

from __future__ import annotations

import json
import math

from latent_inv.generators import Faces
from scripts.benchmarks.figures import Options
from scripts.benchmarks.layers import layers


def test_every_figure_comes_out() -> None:
    figures = {figure.figure: figure for figure in layers(Options(seed=1, quick=True))}
    assert set(figures) == {"faces_photo_z_psnr_db", "faces_photo_layer_psnr_db", "faces_photo_layer_lpips"}
    assert all(math.isfinite(figure.value) for figure in figures.values())
    said = figures["faces_photo_layer_psnr_db"].detail
    assert all(stage in said for stage in Faces.stages), "the others stand beside the best"
    assert said.count("of draws are nearer") == len(Faces.stages)
    assert json.dumps([vars(figure) for figure in figures.values()])
