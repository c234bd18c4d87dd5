"""Pages: every text escaped, nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from latent_inv import report
from latent_inv.report.style import STYLE
from tests.report.helpers import FILES, HOSTILE, PLAIN_TAGS, read_html, result


def test_every_text_of_a_page_is_escaped() -> None:
    blocks = [
        report.Text(HOSTILE),
        report.Lines([HOSTILE, (HOSTILE, HOSTILE)]),
        report.Code(HOSTILE),
        report.Table([(HOSTILE, HOSTILE, (HOSTILE, "a.png"))]),
        report.Table([(1, HOSTILE)], header=(HOSTILE, "b")),
        report.Tiles({HOSTILE: HOSTILE}),
        report.Image(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
    ]
    text = report.page(HOSTILE, [report.Section(HOSTILE, blocks, tone=HOSTILE)], subtitle=HOSTILE, footer=HOSTILE)
    text.encode("utf-8")
    reader = read_html(text)
    assert {tag for tag, _ in reader.found} <= PLAIN_TAGS
    assert not [name for _, attrs in reader.found for name in attrs if name.startswith("on")]
    # title, heading, subtitle, footer, section; text 1, lines 2, code 1, tables 3 + 2, tiles 2, caption 1
    assert reader.text.count("<script>alert(1)</script>") == 17
    assert "\x00" not in text


def test_a_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    result().save(tmp_path)
    reader = read_html((tmp_path / "index.html").read_text("utf-8"))
    sources = [attrs["src"] or "" for _, attrs in reader.found if "src" in attrs]
    assert len(sources) == 2
    shown = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert shown == [(tmp_path / "comparison.png").read_bytes(), (tmp_path / "history.png").read_bytes()]
    links = {attrs["href"] for _, attrs in reader.found if "href" in attrs}
    assert links == set(FILES.values())


@pytest.mark.parametrize("path", ["javascript:alert(1)", "http://a.b/c.png", "//a.b/c.png", "data:text/html,x"])
def test_links_lead_nowhere_but_beside_the_page(path: str) -> None:
    text = report.page("t", [report.Section("s", [report.Image(path, "a", link=path), report.Lines([("a", path)])])])
    addresses = [attrs.get("src") or attrs.get("href") for tag, attrs in read_html(text).found if tag in ("img", "a")]
    assert addresses == ["#", "#", "#"]


def test_names_with_spaces_can_be_linked() -> None:
    text = report.page("t", [report.Section("s", [report.Image("a b#/ü?.png", "a")])])
    assert [attrs["src"] for tag, attrs in read_html(text).found if tag == "img"] == ["a%20b%23/%C3%BC%3F.png"]


def test_every_colour_of_a_page_has_a_dark_one() -> None:
    light, _, rest = STYLE.partition("@media screen and (prefers-color-scheme: dark)")
    dark = rest[: rest.index("\n}\n")]
    named = set(re.findall(r"var\((--\w+)\)", STYLE))
    assert named <= set(re.findall(r"(--\w+):", light))
    assert named <= set(re.findall(r"(--\w+):", dark))
    assert STYLE in report.page("t", [])
