"""A self-contained HTML page: nothing from a network, every text escaped, no script but the one of a gallery."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .gallery import GALLERY_SCRIPT, GALLERY_STYLE, Gallery, gallery_html
from .markup import html_text as _text
from .markup import link_address as _address
from .style import STYLE

# What the page may load: pictures in it or beside it, and its own style; a text that slipped through could do nothing.
_POLICY = (
    "default-src 'none'; img-src data: 'self' file:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Lines:
    """A list of sentences; each may be (text, link) with a relative link."""

    lines: Sequence[str | tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Text to copy, as it is."""

    code: str


@dataclass(frozen=True)
class Table:
    """Rows of cells. Without `header` the first cell of a row names it. A cell may be a tuple (text, relative link)."""

    rows: Sequence[Sequence[Any]]
    header: Sequence[str] = ()


@dataclass(frozen=True)
class Tiles:
    """Numbers to see at first glance: name → value with its unit."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Image:
    """A picture.

    Args:
        source: bytes of a PNG, which go into the page, or a path relative to the page.
        alt: what is to be seen, for those who do not see it.
        link: relative path that a click opens.
        pixelated: enlarge with sharp pixels.
    """

    source: bytes | str
    alt: str
    caption: str = ""
    link: str = ""
    pixelated: bool = False


Block = Text | Lines | Code | Table | Tiles | Image | Gallery


@dataclass(frozen=True)
class Section:
    """A box of the page. `tone`: "good", "bad", "note" or nothing gives a coloured edge."""

    title: str
    blocks: Sequence[Block]
    tone: str = ""


def page(title: str, sections: Sequence[Section], *, subtitle: str = "", footer: str = "") -> str:
    """Build an HTML page that needs nothing but itself (and the pictures beside it, where paths are given).

    Args:
        title: heading, and name in the browser.
        sections: boxes from top to bottom.
        subtitle, footer: a grey line below the heading, and at the end.
    Returns:
        the whole document; write it as UTF-8.
    """
    sub = f'<p class="sub">{_text(subtitle)}</p>\n' if subtitle else ""
    end = f"<footer>{_text(footer)}</footer>\n" if footer else ""
    body = "".join(_section(section) for section in sections)
    policy, style, script = _POLICY, STYLE, ""
    if any(isinstance(block, Gallery) for section in sections for block in section.blocks):
        digest = base64.b64encode(hashlib.sha256(GALLERY_SCRIPT.encode()).digest()).decode()
        policy, style = f"{_POLICY}; script-src 'sha256-{digest}'", STYLE + GALLERY_STYLE
        script = f"<script>{GALLERY_SCRIPT}</script>\n"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_text(title)}</h1>\n{sub}{body}{end}</main>\n{script}</body>\n</html>\n"
    )


def data_uri(png: bytes) -> str:
    """The address of a PNG that is its own content."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _section(section: Section) -> str:
    tone = f' class="{section.tone}"' if section.tone in ("good", "bad", "note") else ""
    title = f"<h2>{_text(section.title)}</h2>\n" if section.title else ""
    return f"<section{tone}>\n{title}{''.join(block_html(block) for block in section.blocks)}</section>\n"


def block_html(block: Block) -> str:
    """One block as HTML."""
    if isinstance(block, Text):
        return f"<p>{_text(block.text)}</p>\n"
    if isinstance(block, Lines):
        return f"<ul>{''.join(f'<li>{_linked(line)}</li>' for line in block.lines)}</ul>\n"
    if isinstance(block, Code):
        return f"<pre>{_text(block.code)}</pre>\n"
    if isinstance(block, Tiles):
        tiles = (f'<div class="tile"><b>{_text(v)}</b><span>{_text(k)}</span></div>' for k, v in block.values.items())
        return f'<div class="tiles">{"".join(tiles)}</div>\n'
    if isinstance(block, Image):
        return _image(block)
    if isinstance(block, Gallery):
        return gallery_html(block)
    return _table(block)


def _image(image: Image) -> str:
    source = data_uri(image.source) if isinstance(image.source, bytes) else _address(image.source)
    look = ' class="pixels"' if image.pixelated else ""
    tag = f'<img{look} src="{source}" alt="{_text(image.alt)}">'
    if image.link:
        tag = f'<a href="{_address(image.link)}">{tag}</a>'
    caption = f"<figcaption>{_text(image.caption)}</figcaption>" if image.caption else ""
    return f"<figure>{tag}{caption}</figure>\n"


def _table(table: Table) -> str:
    head = ""
    if table.header:
        head = f"<thead><tr>{''.join(f'<th>{_text(name)}</th>' for name in table.header)}</tr></thead>"
    rows = []
    for row in table.rows:
        cells = [f"<td{_number(cell)}>{_linked(cell)}</td>" for cell in row]
        if not table.header and row:
            cells[0] = f'<th scope="row">{_linked(row[0])}</th>'
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>\n'


def _number(cell: Any) -> str:
    return ' class="n"' if isinstance(cell, (int, float)) and not isinstance(cell, bool) else ""


def _linked(cell: Any) -> str:
    if isinstance(cell, tuple):
        return f'<a href="{_address(cell[1])}">{_text(cell[0])}</a>'
    return _text(cell)
