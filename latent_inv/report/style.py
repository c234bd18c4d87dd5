"""How pages look: light or dark as the reader's system asks, and light on paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --back: #f4f5f7; --box: #fff; --ink: #1c2026; --soft: #626a75; --line: #e4e7eb;
  --fine: #eceef1; --link: #0b62a8; --good: #1a7f4b; --bad: #c0392b; --note: #d99a00; }
@media screen and (prefers-color-scheme: dark) {
  :root { --back: #14171c; --box: #1d2127; --ink: #e4e7eb; --soft: #9ba4b0; --line: #2e343c;
    --fine: #292e36; --link: #6cb6f5; --good: #3fb27a; --bad: #e5695c; --note: #e0ae3a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0 0 12px; overflow-wrap: anywhere; }
.sub { color: var(--soft); margin: 0 0 20px; overflow-wrap: anywhere; }
section { background: var(--box); border: 1px solid var(--line); border-radius: 10px; padding: 18px 22px;
  margin: 0 0 16px; }
section > :last-child { margin-bottom: 0; }
p { margin: 0 0 10px; overflow-wrap: anywhere; }
a { color: var(--link); }
figure { margin: 0 0 12px; }
figcaption { color: var(--soft); font-size: 13px; margin-top: 4px; }
img { max-width: 100%; height: auto; display: block; background: #fff; border-radius: 6px; }
img.pixels { image-rendering: pixelated; border-radius: 0; }
.scroll { overflow-x: auto; margin: 0 0 12px; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 5px 22px 5px 0; border-top: 1px solid var(--fine); }
tr:first-child > * { border-top: 0; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
th[scope=row] { font-weight: 400; color: var(--soft); white-space: nowrap; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
td.n { text-align: right; }
pre { background: var(--back); border-radius: 6px; padding: 10px 12px; margin: 0 0 12px; overflow-x: auto;
  font: 13px/1.5 ui-monospace, Menlo, "DejaVu Sans Mono", monospace; }
ul { margin: 0 0 12px; padding-left: 20px; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 0 0 12px; }
.tile { background: var(--back); border-radius: 8px; padding: 9px 16px; min-width: 110px; }
.tile b { display: block; font-size: 20px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.good, .bad, .note { border-left: 4px solid var(--good); }
.bad { border-left-color: var(--bad); }
.note { border-left-color: var(--note); }
footer { color: var(--soft); font-size: 13px; margin-top: 20px; }
@media (max-width: 600px) { main { padding: 20px 12px 32px; } section { padding: 14px 14px; } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
