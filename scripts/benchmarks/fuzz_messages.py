"""Requests that are valid up to one field, or less: good messages, and how they are spoilt."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_INTEGERS = (0, 1, -1, 2, 7, 63, 64, 255, 1000, 16384, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**32, 10**9)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 5e-324, 1e308, math.inf, -math.inf, math.nan, 3.0, 1e6)
_TEXTS = (
    *("", " ", "faces", "z", "stlpips-alex", "w+", "smooth", "0", "-1", "\0", "a" * 70, "b" * 5000, "Ω≈ç√", "\u202e"),
    *("../../etc/passwd", "/dev/zero", "file:///etc/passwd", "diffusers:/etc", "'; DROP TABLE jobs; --", "%s%n", "{0}"),
    *("ab" * 32, "AB" * 32, "0" * 63, "\ud7ff", "𝔘", "\n\r\t", "None", "nan"),
)


def spoil_one(message: Message, chance: random.Random, contents: Sequence[bytes]) -> Message:
    """A copy that differs in one field, at any depth; one that was not set may be.

    Args:
        contents: byte strings that a field of bytes may be given, as they are or with some bytes changed.
    """
    copied: Message = type(message)()
    copied.CopyFrom(message)
    places = [(inner, field) for inner in _inner(copied) for field in inner.DESCRIPTOR.fields]
    if not places:  # nothing is asked for, so only something unknown can be
        copied.MergeFromString(bytes([8 * chance.randint(1, 15), chance.randrange(128)]))
        return copied
    inner, field = chance.choice(places)
    _spoil(inner, field, chance, contents)
    return copied


def spoil_bytes(data: bytes, chance: random.Random, most: int = 6) -> bytes:
    """Some bytes changed, put in, repeated or cut off."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, most)):
        place = chance.randrange(len(changed) + 1)
        kind = chance.random()
        if kind < 0.6 and place < len(changed):
            changed[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind < 0.75:
            changed[place:place] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 8)))
        elif kind < 0.9:
            del changed[place : place + chance.randint(1, 16)]
        else:
            del changed[place:]
    return bytes(changed)


def _inner(message: Message) -> list[Message]:
    """The message and all that are set inside it."""
    found = [message]
    fields: Any = message.ListFields()
    for field, value in fields:
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        if _is_map(field):
            kind = field.message_type.fields_by_name["value"]
            values = list(value.values()) if kind.type == FieldDescriptor.TYPE_MESSAGE else []
        else:
            values = list(value) if field.is_repeated else [value]
        for item in values:
            found += _inner(item)
    return found


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _spoil(message: Message, field: Any, chance: random.Random, contents: Sequence[bytes]) -> None:
    holder: Any = getattr(message, field.name)
    if _is_map(field):
        _spoil_map(holder, field, chance, contents)
    elif field.is_repeated:
        _spoil_list(holder, field, chance, contents)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if message.HasField(field.name) and chance.random() < 0.3:
            message.ClearField(field.name)
            return
        holder.SetInParent()
        if holder.DESCRIPTOR.fields and chance.random() < 0.7:
            _spoil(holder, chance.choice(holder.DESCRIPTOR.fields), chance, contents)
    elif chance.random() < 0.1:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(field, chance, contents, holder))


def _spoil_map(holder: Any, field: Any, chance: random.Random, contents: Sequence[bytes]) -> None:
    kind = field.message_type.fields_by_name["value"]
    keys = list(holder)
    if keys and chance.random() < 0.3:
        del holder[chance.choice(keys)]
        return
    # A map of many is rare, but somebody sends it.
    for number in range(chance.choice((1, 1, 1, 2, 300))):
        key = chance.choice((*_TEXTS[:8], f"part{number}", *keys))
        if kind.type == FieldDescriptor.TYPE_MESSAGE:
            inner = holder[key]
            _spoil(inner, chance.choice(inner.DESCRIPTOR.fields), chance, contents)
        else:
            holder[key] = _value(kind, chance, contents, None)


def _spoil_list(holder: Any, field: Any, chance: random.Random, contents: Sequence[bytes]) -> None:
    kind = chance.random()
    if len(holder) and kind < 0.3:
        del holder[chance.randrange(len(holder))]
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        for _ in range(chance.choice((1, 1, 1, 40))):
            inner = holder.add()
            if inner.DESCRIPTOR.fields:
                _spoil(inner, chance.choice(inner.DESCRIPTOR.fields), chance, contents)
    elif len(holder) and kind < 0.6:
        holder[chance.randrange(len(holder))] = _value(field, chance, contents, None)
    else:
        holder.extend([_value(field, chance, contents, None)] * chance.choice((1, 1, 2, 65, 500)))


def _value(field: Any, chance: random.Random, contents: Sequence[bytes], now: Any) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.choice([*field.enum_type.values_by_number, 99, -1])
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return chance.choice((*_FLOATS, chance.uniform(-2, 2)))
    if kind == FieldDescriptor.CPPTYPE_STRING and field.type == FieldDescriptor.TYPE_BYTES:
        data = chance.choice((b"", now or b"", *contents)) if chance.random() < 0.9 else chance.randbytes(64)
        return spoil_bytes(data, chance) if chance.random() < 0.6 else data
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return chance.choice((*_TEXTS, (now or "") + "x"))
    small = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
    number = chance.choice((*_INTEGERS, chance.randrange(300)))
    return max(-(2**31), min(2**31 - 1, number)) if small else number
