"""A self-contained HTML page: no script, nothing from a network, every text escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote, urlsplit

# What the page may load: pictures in it or beside it, and its own style; a text that slipped through could do nothing.
_POLICY = (
    "default-src 'none'; img-src data: 'self' file:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f5f7; color: #1c2026;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0 0 12px; }
.sub { color: #626a75; margin: 0 0 20px; overflow-wrap: anywhere; }
section { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px; padding: 18px 22px; margin: 0 0 16px; }
section > :last-child { margin-bottom: 0; }
p { margin: 0 0 10px; overflow-wrap: anywhere; }
a { color: #0b62a8; }
figure { margin: 0 0 12px; }
figcaption { color: #626a75; font-size: 13px; margin-top: 4px; }
img { max-width: 100%; height: auto; display: block; }
img.pixels { image-rendering: pixelated; }
.scroll { overflow-x: auto; margin: 0 0 12px; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 5px 22px 5px 0; border-top: 1px solid #eceef1; }
tr:first-child > * { border-top: 0; }
thead th { color: #626a75; font-weight: 600; border-bottom: 1px solid #d5d9df; }
th[scope=row] { font-weight: 400; color: #626a75; white-space: nowrap; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
td.n { text-align: right; }
pre { background: #f4f5f7; border-radius: 6px; padding: 10px 12px; margin: 0 0 12px; overflow-x: auto;
  font: 13px/1.5 ui-monospace, Menlo, "DejaVu Sans Mono", monospace; }
ul { margin: 0 0 12px; padding-left: 20px; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 0 0 12px; }
.tile { background: #f4f5f7; border-radius: 8px; padding: 9px 16px; min-width: 110px; }
.tile b { display: block; font-size: 20px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span { color: #626a75; font-size: 13px; }
.good, .bad, .note { border-left: 4px solid #1a7f4b; }
.bad { border-left-color: #c0392b; }
.note { border-left-color: #d99a00; }
footer { color: #626a75; font-size: 13px; margin-top: 20px; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


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


Block = Text | Lines | Code | Table | Tiles | Image


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
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_text(title)}</h1>\n{sub}{body}{end}</main>\n</body>\n</html>\n"
    )


def data_uri(png: bytes) -> str:
    """The address of a PNG that is its own content."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _text(text: object) -> str:
    # Control characters have no place in HTML, lone surrogates none in UTF-8.
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return escape("".join(character for character in whole if character in "\n\t" or ord(character) >= 32))


def _address(path: str) -> str:
    """A relative path as a link; anything that names a scheme or a host is refused as a link to nothing."""
    parts = urlsplit(path)
    return "#" if parts.scheme or parts.netloc or path.startswith("//") else quote(path)


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
