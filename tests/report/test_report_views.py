"""Showing a result: inline, in a window, or as a file; and what importing costs."""

from __future__ import annotations

import base64
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageShow

from latent_inv import report
from latent_inv.images import encode_png
from latent_inv.result import JobResult
from tests.report.helpers import HOSTILE, read_html, result


def comparison_png(given: JobResult) -> bytes:
    return encode_png(report.comparison_image(given.target, given.image, given.metrics))


def without_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def test_the_notebook_view_needs_nothing_else() -> None:
    given = result(warnings=(HOSTILE,))
    reader = read_html(given._repr_html_())
    (source,) = [attrs["src"] or "" for _, attrs in reader.found if "src" in attrs]
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == comparison_png(given)
    assert "22.81 dB" in reader.text
    assert "0.0217 (stlpips-alex)" in reader.text


def test_without_notebook_or_display_a_file_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_display(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = result().show()
    assert tmp_path in path.parents
    assert path.read_bytes() == comparison_png(result())


@pytest.mark.parametrize("works", [True, False])
def test_with_a_display_a_window_is_tried(works: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_display(monkeypatch)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shown: list[Any] = []
    monkeypatch.setattr(ImageShow, "show", lambda image, title: shown.append(image) or works)
    path = result().show()
    assert len(shown) == 1
    assert (path is None) == works


@pytest.mark.parametrize("kernel", [True, False])
def test_in_a_notebook_it_is_shown_inline(kernel: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_display(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shown: list[str] = []
    shell = types.SimpleNamespace(kernel=object()) if kernel else types.SimpleNamespace()
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display = types.ModuleType("IPython.display")
    display.HTML, display.display = str, shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    path = result().show()
    assert shown == ([report.result_html(result())] if kernel else [])
    assert (path is None) == kernel


def test_importing_is_cheap_and_drawing_leaves_pyplot_alone() -> None:
    program = (
        "import sys, latent_inv.report as report\n"
        "print(sorted({'matplotlib', 'PIL', 'torch'} & sys.modules.keys()))\n"
        "report.figure_png(report.history_figure((), 0))\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split("\n")[:2] == ["[]", "False False"]


def test_exported_names_exist() -> None:
    assert all(hasattr(report, name) for name in report.__all__)
