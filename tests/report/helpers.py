"""A small result, hostile text, and a reader of pages."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from latent_inv.result import JobResult, Metrics, Outcome, Step
from tests.conftest import make_picture

FILES = {
    "latents": "latents.safetensors",
    "reconstruction": "reconstruction.png",
    "comparison": "comparison.png",
    "history": "history.png",
    "history_csv": "history.csv",
    "page": "index.html",
    "result": "result.json",
}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> & \"quotes\" 'single' ]]> \x00"


def history(count: int = 5, lpips: bool = True, **first: Any) -> tuple[Step, ...]:
    """`count` steps whose numbers fall; `first` replaces fields of the first one."""
    steps = [
        Step(
            step=index,
            loss=1 / (index + 1),
            terms={"pixel": 0.7 / (index + 1), "perceptual": 0.3 / (index + 1)},
            metrics=Metrics(10.0 + index, 0.3 / (index + 1) if lpips else None, 0.1 / (index + 1)),
            seconds=0.1 * index,
        )
        for index in range(count)
    ]
    return (replace(steps[0], **first), *steps[1:]) if first else tuple(steps)


def result(**fields: Any) -> JobResult:
    """A small result; the reconstruction is near the target."""
    target = make_picture(24, 32)
    defaults: dict[str, Any] = {
        "outcome": Outcome.step_limit,
        "message": Outcome.step_limit.value,
        "generator": "toy",
        "space": "z",
        "weights_sha256": "1" * 64,
        "perceptual": "stlpips-alex",
        "perceptual_sha256": "2" * 64,
        "metrics": Metrics(22.81, 0.0217, 0.0052),
        "loss": 0.2,
        "steps": 4,
        "best_step": 3,
        "seconds": 1.5,
        "seed": 7,
        "lane_width": 1,
        "dtype": "float32",
        "device": "cpu",
        "budget": "steps",
        "latents": {"z": np.linspace(-2, 2, 10, dtype=np.float32)[None]},
        "image": np.ascontiguousarray(0.9 * target.pixels),
        "target": target,
        "history": history(),
        "settings": {"type": "JobSpec", "losses": [{"type": "Pixel", "weight": 1.0}], "crop": None},
        "versions": {"torch": "2"},
    }
    return JobResult(**{**defaults, **fields})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


PLAIN_TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body main h1 h2 p section figure img a div table thead tbody tr th td pre ul li b "
        "span footer figcaption",
    )
)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read_html(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader


def tags(text: str) -> list[str]:
    return [tag for tag, _ in read_html(text).found]
