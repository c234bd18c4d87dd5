"""A result as HTML: the whole page, and the short view of a notebook."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_inv.files import write_bytes

from .comparison import comparison_image
from .page import Code, Image, Lines, Section, Table, Text, Tiles, data_uri, page
from .text import psnr_text

if TYPE_CHECKING:
    from latent_inv.result import JobResult

_PICTURES = "target, reconstruction and amplified difference"
_CURVES = "loss, PSNR and LPIPS against steps; the best step is marked"


def result_png(result: JobResult) -> bytes:
    """The comparison picture of a result, as PNG."""
    from latent_inv.images import encode_png

    return encode_png(comparison_image(result.target, result.image, result.metrics))


def result_html(result: JobResult) -> str:
    """The view of a result in a notebook: the comparison and a small table, with nothing outside it needed."""
    rows = {
        "outcome": result.message,
        "PSNR": psnr_text(result.metrics),
        "LPIPS": "" if result.metrics.lpips is None else f"{result.metrics.lpips:.4f} ({result.perceptual})",
        "latents": f"{_shapes(result)} of {result.generator}/{result.space}",
        "steps": f"{result.steps}, best after {result.best_step}, {result.seconds:.1f} s on {result.device}",
        **{f"note {index}": warning for index, warning in enumerate(result.warnings, 1)},
    }
    cell = "padding:2px 14px 2px 0;text-align:left;vertical-align:top"
    table = "".join(
        f'<tr><td style="{cell};opacity:.7">{escape(name)}</td><td style="{cell}">{escape(value)}</td></tr>'
        for name, value in rows.items()
        if value
    )
    return (
        f'<div><img style="max-width:100%;height:auto" alt="{_PICTURES}" src="{data_uri(result_png(result))}">'
        f'<table style="border-collapse:collapse;margin:6px 0">{table}</table></div>'
    )


def result_page(result: JobResult, comparison: bytes, history: bytes) -> str:
    """`index.html` of a result.

    Args:
        result: with `files` filled in; they are linked.
        comparison, history: PNGs that go into the page.
    """
    files = result.files
    numbers = {
        "PSNR": psnr_text(result.metrics),
        f"LPIPS, {result.perceptual}": "" if result.metrics.lpips is None else f"{result.metrics.lpips:.4f}",
        "mean squared error": f"{result.metrics.mse:.3g}",
        "loss": f"{result.loss:.4g}",
        "steps": str(result.steps),
        "best step": str(result.best_step),
        "time": f"{result.seconds:.1f} s",
    }
    known = Tiles({name: value for name, value in numbers.items() if value})
    sections = [
        Section("", [Text(result.message), known], "good" if result.outcome.good else "bad"),
        *([Section("Please note", [Lines(result.warnings)], "note")] if result.warnings else []),
        Section("Comparison", [Image(comparison, _PICTURES, link=files.get("comparison", "")), *_hidden_note(result)]),
        Section("How it went", [Image(history, _CURVES, link=files.get("history", ""))]),
        Section("The latents, and the picture again", _again(result)),
        Section("Run", [Table(_run_rows(result))]),
        Section("Settings", [Table(list(settings_rows(result.settings)))]),
        Section("Versions", [Table(list(result.versions.items()))]),
        Section("Files", [Table([(kind.replace("_", " "), (name, name)) for kind, name in files.items()])]),
    ]
    subtitle = f"generator {result.generator}, space {result.space}, outcome {result.outcome.name}"
    return page("Inversion result", sections, subtitle=subtitle, footer="Written by latent-inv.")


def _hidden_note(result: JobResult) -> list[Text]:
    weight = result.target.weight
    if weight is None or weight.all():
        return []
    return [Text("Hatched pixels were hidden: they count neither in the loss nor in the metrics.")]


def _formats(result: JobResult) -> str:
    network = "" if result.precision == result.dtype else f", its network in {result.precision}"
    return f"{result.device}, {result.dtype}{network}"


def _again(result: JobResult) -> list[Any]:
    name = result.files.get("latents", "latents.safetensors")
    return [
        Table([(part, str(list(array.shape)), str(array.dtype)) for part, array in result.latents.items()]),
        Text("On the command line, and in Python:"),
        Code(f"latent-inv decode {name} --out decoded.png"),
        Code(
            "import latent_inv\n\n"
            f'decoded = latent_inv.decode("{name}", "{result.generator}")\n'
            "decoded.images  # [n, 3, height, width], range [-1, 1]"
        ),
    ]


def _run_rows(result: JobResult) -> list[tuple[str, str]]:
    return [
        ("generator", f"{result.generator}, space {result.space}"),
        ("weights sha256", result.weights_sha256),
        ("perceptual metric", result.perceptual),
        ("its weights sha256", result.perceptual_sha256),
        *(("picked", str(reason)) for reason in result.picked.get("why", ())),
        *((f"typicality of {part}", typicality_text(share)) for part, share in result.typicality.items()),
        *((part, label) for part, label in result.labels.items()),
        ("seed", str(result.seed)),
        ("device, number format", _formats(result)),
        ("lane width", str(result.lane_width)),
        ("budget", result.budget),
        ("picture", f"{result.image.shape[2]} × {result.image.shape[1]} pixels"),
    ]


def typicality_text(share: float) -> str:
    """How typical latents are of their prior, for a person."""
    far = ", far out: edits are less to be trusted" if share > 0.999 else ""
    return f"{share:.1%} of the prior's draws lie nearer to its mean{far}"


def settings_rows(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings as (name, value): a component is one row with its own settings in it; what is off is left out."""
    for name, value in settings.items():
        parts = list(value) if isinstance(value, (list, tuple)) else [value]
        if name == "type" or value is None or value == "":
            continue
        if all(isinstance(part, Mapping) for part in parts):
            for part in parts:
                yield name, _component(part)
        else:
            yield name, ", ".join(map(str, parts))


def _component(settings: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name} {value}" for name, value in settings.items() if name != "type" and value is not None)
    return f"{settings.get('type', '')}: {given}".strip(": ") if given else str(settings.get("type", ""))


def _shapes(result: JobResult) -> str:
    return ", ".join(f"{part} {list(array.shape)}" for part, array in result.latents.items())


def show_result(result: JobResult) -> Path | None:
    """Show a result: inline in a notebook, else in a window, else as a file.

    Returns:
        the file, where there is neither a notebook nor a display; else None.
    """
    if _in_notebook():
        from IPython.display import HTML, display  # type: ignore[import-not-found,unused-ignore]

        display(HTML(result_html(result)))
        return None
    if _has_display():
        from PIL import Image as PillowImage
        from PIL import ImageShow

        picture = comparison_image(result.target, result.image, result.metrics)
        if ImageShow.show(PillowImage.fromarray(picture), title="latent-inv"):
            return None
    path = Path(tempfile.mkdtemp(prefix="latent-inv-")) / "comparison.png"
    write_bytes(path, result_png(result))
    return path


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    # A shell with a kernel draws HTML; the one of a terminal does not.
    return running is not None and getattr(running, "kernel", None) is not None


def _has_display() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
