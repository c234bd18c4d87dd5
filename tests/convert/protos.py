"""What the .proto files say in words: the comment of every field and of every enum value."""

from __future__ import annotations

import re
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "protos" / "latent_inv" / "v1"
_BLOCK = re.compile(r"(message|enum|oneof|service)\s+(\w+)\s*\{(\})?")
_FIELD = re.compile(r"(?:optional |repeated )?[\w.<>, ]+?\s+(\w+)\s*=\s*\d+;")
_VALUE = re.compile(r"(\w+)\s*=\s*\d+;")
_NUMBER = r"(\d+\^\d+ - \d+|\d+(?:\.\d+)?(?:e-?\d+)?)"


def comments() -> dict[str, str]:
    """ "Message.field" or "VALUE_OF_AN_ENUM" → its comment on one line."""
    found: dict[str, str] = {}
    for path in sorted(_FOLDER.glob("*.proto")):
        blocks: list[tuple[str, str]] = []
        said: list[str] = []
        for line in map(str.strip, path.read_text().splitlines()):
            if line.startswith("//"):
                said.append(line.removeprefix("//").strip())
                continue
            if block := _BLOCK.match(line):
                if not block[3]:
                    blocks.append((block[1], block[2]))
            elif line.startswith("}"):
                blocks.pop()
            elif blocks and blocks[-1][0] == "enum" and (value := _VALUE.match(line)):
                found[value[1]] = " ".join(said)
            elif blocks and blocks[-1][0] in ("message", "oneof") and (field := _FIELD.match(line)):
                message = next(name for kind, name in reversed(blocks) if kind == "message")
                found[f"{message}.{field[1]}"] = " ".join(said)
            said = []
    return found


def number(text: str) -> float:
    """A number as comments write it: 1e6, 0.001, 2^63 - 1."""
    if "^" in text:
        base, exponent, less = (int(part) for part in re.findall(r"\d+", text))
        return base**exponent - less
    return float(text)


def stated_range(comment: str) -> dict[str, float]:
    """low, high, above, below, as far as the comment says them."""
    found: dict[str, float] = {}
    if both := re.search(rf"(?<![\w^]){_NUMBER} to {_NUMBER}", comment):
        found |= {"low": number(both[1]), "high": number(both[2])}
    for key, sign in (("low", ">="), ("above", ">"), ("high", "<="), ("below", "<")):
        if one := re.search(rf"(?<!-){sign} {_NUMBER}", comment):
            found[key] = number(one[1])
    return found


def stated_default(comment: str) -> str | None:
    """The text after "default", without quotes; None if there is none that is a value."""
    found = re.search(rf'default (?:"([^"]*)"|{_NUMBER})', comment)
    return (found[1] or found[2]) if found else None
