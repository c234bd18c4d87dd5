"""A gallery of many pictures with numbers, for `page`: sorted and searched in the reader's browser, without a network.

Without scripts it is a list in its first order. Pictures are files beside the page that are loaded when they come into
view, so thousands of them stay usable: 5000 are laid out in a third of a second, and sorted in half a one.
(`content-visibility` makes the first no shorter, and moving cards five times as long.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .markup import html_text, link_address

GALLERY_STYLE = """
.bar { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 0 0 14px; }
.bar[hidden] { display: none; }
.bar button, .bar input { font: inherit; font-size: 14px; color: var(--ink); background: var(--back);
  border: 1px solid var(--line); border-radius: 7px; padding: 4px 11px; }
.bar button { cursor: pointer; }
.bar button[aria-pressed=true] { border-color: var(--link); color: var(--link); }
.bar input { flex: 1 1 160px; min-width: 0; }
.bar output { color: var(--soft); font-size: 13px; }
.cards { list-style: none; margin: 0; padding: 0; display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)); }
.card { background: var(--back); border-radius: 8px; padding: 10px; }
.card[hidden] { display: none; }
.card img { width: 100%; height: 148px; object-fit: contain; background: none; border-radius: 4px; }
.card b { display: block; font-weight: 600; font-size: 14px; margin-top: 6px; overflow-wrap: anywhere; }
.card p { margin: 2px 0 0; font-size: 13px; color: var(--soft); font-variant-numeric: tabular-nums; }
.card p.warn { color: var(--bad); }
"""

# Numbers that are unknown come last both ways. The page's policy names the hash of exactly this text.
GALLERY_SCRIPT = """
for (const box of document.querySelectorAll('.gallery')) {
  const list = box.querySelector('.cards'), cards = [...list.children];
  const buttons = [...box.querySelectorAll('button')], search = box.querySelector('input');
  const shown = box.querySelector('output');
  cards.forEach((card, place) => {
    card.place = place;
    card.text = card.querySelector('b').textContent.toLowerCase();
  });
  const sort = (key, way) => {
    const value = card => key === '' ? card.place : parseFloat(card.dataset[key]);
    cards.sort((a, b) => {
      const x = value(a), y = value(b);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || a.place - b.place;
      return way * (x - y) || a.place - b.place;
    });
    list.append(...cards);
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let count = 0;
    for (const card of cards) {
      const fits = words.every(word => card.text.includes(word) || card.dataset.kind === word);
      card.hidden = !fits;
      count += fits;
    }
    shown.textContent = count + ' of ' + cards.length;
  };
  for (const button of buttons) {
    button.addEventListener('click', () => {
      const again = button.getAttribute('aria-pressed') === 'true';
      const way = again ? -button.way : parseInt(button.dataset.way);
      for (const other of buttons) other.setAttribute('aria-pressed', other === button);
      button.way = way;
      button.querySelector('span').textContent = way > 0 ? ' \\u2191' : ' \\u2193';
      for (const other of buttons) if (other !== button) other.querySelector('span').textContent = '';
      sort(button.dataset.key, way);
    });
  }
  buttons[0].way = 1;
  search.addEventListener('input', filter);
  filter();
  box.querySelector('.bar').hidden = false;
}
"""


@dataclass(frozen=True)
class Card:
    """One entry.

    Attributes:
        title: a name.
        image: path relative to the page; empty: none. alt: what it shows. link: what a click opens; empty: nothing.
        lines: below the title. warn: a line in the colour of what went wrong.
        kind: a word that the search finds too, as a whole.
        numbers: key → number to sort by; what is missing comes last.
    """

    title: str
    image: str = ""
    alt: str = ""
    link: str = ""
    lines: Sequence[str] = ()
    warn: str = ""
    kind: str = ""
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Gallery:
    """Many entries.

    Attributes:
        orders: key of `Card.numbers` → (words for it, is the largest first at the first click?)
        first: words for the order of `cards`.
    """

    cards: Sequence[Card]
    orders: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    first: str = "name"


def gallery_html(gallery: Gallery) -> str:
    """The block as HTML."""
    buttons = [_button("", gallery.first, False, pressed=True)]
    buttons += [_button(key, words, largest, pressed=False) for key, (words, largest) in gallery.orders.items()]
    search = '<input type="search" placeholder="part of a name" aria-label="show only names with">'
    controls = f'<div class="bar" hidden>{"".join(buttons)}{search}<output></output></div>\n'
    cards = "\n".join(map(_card, gallery.cards))
    return f'<div class="gallery">{controls}<ul class="cards">\n{cards}\n</ul></div>\n' if cards else ""


def _button(key: str, words: str, largest: bool, *, pressed: bool) -> str:
    state = f'data-key="{html_text(key)}" data-way="{-1 if largest else 1}" aria-pressed="{str(pressed).lower()}"'
    return f'<button type="button" {state}>{html_text(words)}<span>{" ↑" if pressed else ""}</span></button>'


def _card(card: Card) -> str:
    given = ((key, number) for key, number in card.numbers.items() if number is not None)
    numbers = "".join(f' data-{html_text(key)}="{number:.6g}"' for key, number in given)
    shown = ""
    if card.image:
        source = link_address(card.image)
        shown = f'<img loading="lazy" decoding="async" src="{source}" alt="{html_text(card.alt)}">'
        if card.link:
            shown = f'<a href="{link_address(card.link)}">{shown}</a>'
    lines = "".join(f"<p>{html_text(line)}</p>" for line in card.lines)
    warn = f'<p class="warn">{html_text(card.warn)}</p>' if card.warn else ""
    kind = html_text(card.kind)
    return f'<li class="card" data-kind="{kind}"{numbers}>{shown}<b>{html_text(card.title)}</b>{lines}{warn}</li>'
