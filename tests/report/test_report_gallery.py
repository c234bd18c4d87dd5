"""Galleries: escaped, sorted without a network, and no script but ours."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess

from latent_inv import report
from latent_inv.report.gallery import GALLERY_SCRIPT
from tests.conftest import require
from tests.report.helpers import HOSTILE, PLAIN_TAGS, read_html

CARDS = [
    report.Card("a.png", "./thumbnails/a.jpg", "both of a", "./a.png", ("PSNR 20",), numbers={"psnr": 20.0}),
    report.Card("b.png", "./thumbnails/b.jpg", "both of b", numbers={"psnr": 30.0, "failed": None}),
    report.Card("c.png", warn="failed: text", kind="failed", numbers={"psnr": None, "failed": 1.0}),
]
ORDERS = {"psnr": ("PSNR", False), "failed": ("failed first", True)}


def gallery_page(cards: list[report.Card]) -> str:
    return report.page("t", [report.Section("s", [report.Gallery(cards, ORDERS)])])


def test_every_text_is_escaped() -> None:
    card = report.Card(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), HOSTILE, HOSTILE, {HOSTILE: 1.0})
    gallery = report.Gallery([card], {HOSTILE: (HOSTILE, True)}, HOSTILE)
    text = report.page("t", [report.Section("s", [gallery])])
    text.encode("utf-8")
    reader = read_html(text)
    assert {tag for tag, _ in reader.found} <= PLAIN_TAGS | {"button", "input", "output", "script"}
    assert [tag for tag, _ in reader.found].count("script") == 1
    assert not [name for _, attrs in reader.found for name in attrs if name.startswith("on") and name != "onerror"]
    assert not [attrs for tag, attrs in reader.found if tag == "img" and "onerror" in attrs]
    # two buttons, title, line, warning
    assert reader.text.count("<script>alert(1)</script>") == 5
    assert "\x00" not in text


def test_the_policy_lets_our_script_run_and_no_other() -> None:
    text = gallery_page(CARDS)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "unsafe-inline'; base-uri" in text, "styles alone may stand in the page"
    assert "script" not in report.page("t", [report.Section("s", [report.Text("no gallery")])])


def test_pictures_are_loaded_when_they_are_seen() -> None:
    pictures = [attrs for tag, attrs in read_html(gallery_page(CARDS)).found if tag == "img"]
    assert [attrs["src"] for attrs in pictures] == ["./thumbnails/a.jpg", "./thumbnails/b.jpg"]
    assert {attrs["loading"] for attrs in pictures} == {"lazy"}
    assert all(attrs["alt"] for attrs in pictures)


def test_numbers_to_sort_by_stand_in_the_page() -> None:
    cards = [attrs for tag, attrs in read_html(gallery_page(CARDS)).found if tag == "li"]
    assert [attrs.get("data-psnr") for attrs in cards] == ["20", "30", None]
    assert [attrs.get("data-failed") for attrs in cards] == [None, None, "1"]


def test_without_scripts_the_buttons_are_not_shown() -> None:
    (bar,) = [attrs for _, attrs in read_html(gallery_page(CARDS)).found if attrs.get("class") == "bar"]
    assert "hidden" in bar


# A page in as few lines as the script needs.
_PAGE = """
const card = (title, kind, numbers) => ({ dataset: { kind, ...numbers }, hidden: false,
  querySelector: () => ({ textContent: title }) });
const button = (key, way) => { const span = { textContent: '' }, state = {};
  return { dataset: { key, way }, querySelector: () => span, getAttribute: name => state[name],
    setAttribute: (name, value) => { state[name] = String(value); },
    addEventListener(_, call) { this.click = call; }, span }; };
const cards = [card('A one', 'done', { psnr: '20' }), card('B two', 'failed', {}), card('C ONE', 'done', { psnr: '5' }),
  card('D', 'done', { psnr: '20' })];
const list = { children: cards, append(...given) { this.children = given; } };
const buttons = [button('', '1'), button('psnr', '-1')], output = {}, bar = { hidden: true };
buttons[0].setAttribute('aria-pressed', 'true');
const input = { value: '', addEventListener(_, call) { this.type = call; } };
const parts = { '.cards': list, input, output, '.bar': bar };
const box = { querySelector: name => parts[name], querySelectorAll: () => buttons };
globalThis.document = { querySelectorAll: () => [box] };
"""
_USE = """
const say = () => console.log(list.children.filter(each => !each.hidden).map(each => each.text[0]).join(''),
  output.textContent, buttons.map(each => each.span.textContent.trim()).join('|'));
say();
for (const number of [1, 1, 0, 0]) { buttons[number].click(); say(); }
for (const text of ['one', 'FAILED', ' one  a ', 'zzz', '']) { input.value = text; input.type(); say(); }
console.log(bar.hidden);
"""


def test_it_sorts_and_searches() -> None:
    node = shutil.which("node")
    require("node", node is not None, "install Node.js")
    code = _PAGE + GALLERY_SCRIPT + _USE
    done = subprocess.run([str(node), "-e", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "abcd 4 of 4 |",
        "adcb 4 of 4 |↓",
        "cadb 4 of 4 |↑",
        "abcd 4 of 4 ↑|",
        "dcba 4 of 4 ↓|",
        "ca 2 of 4 ↓|",
        "b 1 of 4 ↓|",
        "a 1 of 4 ↓|",
        " 0 of 4 ↓|",
        "dcba 4 of 4 ↓|",
        "false",
    ]
