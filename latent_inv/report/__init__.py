"""The one writer of what people look at: pictures, curves, JSON and HTML pages.

    write_result       a JobResult into a folder: latents, pictures, curves, result.json, index.html
    show_result        in a notebook, in a window, or as a file
    result_html        the notebook view
    comparison_image   target | reconstruction | amplified difference
    grid               many pictures with captions
    history_figure     loss, PSNR and LPIPS against steps; `curves` draws any other series
    page               a self-contained HTML page of sections
    write_json         JSON that every reader takes: finite numbers only

Everything is written whole or not at all. matplotlib and Pillow are imported when something is drawn, so importing
this is cheap; no global state of matplotlib is read or changed.
"""

from __future__ import annotations

from latent_inv.files import write_bytes

from .comparison import comparison_image
from .curves import curves, figure_png, history_figure
from .files import write_json
from .folder import write_result
from .gallery import Card, Gallery
from .page import Code, Image, Lines, Section, Table, Text, Tiles, data_uri, page
from .sheet import grid
from .views import result_html, show_result

__all__ = [
    "Card",
    "Code",
    "Gallery",
    "Image",
    "Lines",
    "Tiles",
    "Section",
    "Table",
    "Text",
    "comparison_image",
    "curves",
    "data_uri",
    "figure_png",
    "grid",
    "history_figure",
    "page",
    "result_html",
    "show_result",
    "write_bytes",
    "write_json",
    "write_result",
]
