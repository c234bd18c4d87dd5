"""Settings classes ⇄ messages, driven by the fields of both. A new setting needs nothing here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from latent_inv.errors import SpecError, at, unknown_name
from latent_inv.settings import Settings

S = TypeVar("S", bound=Settings)


def plain_fields(kind: type[Settings]) -> dict[str, Field[Any]]:
    """The fields that go over the wire by name: numbers, names and switches."""
    return {item.name: item for item in fields(kind) if item.metadata}


def read_fields(message: Message, kind: type[Settings]) -> dict[str, Any]:
    """The plain fields of a message that are set, as keyword arguments for `kind`.

    Raises:
        SpecError: an enum has a number that this version does not know.
    """
    values = {}
    for name in plain_fields(kind):
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        if descriptor.has_presence and not message.HasField(name):
            continue
        value = getattr(message, name)
        if descriptor.enum_type is not None:
            value = enum_name(descriptor.enum_type, value, name)
        if value == "":
            continue  # an empty text is an unset one
        values[name] = value
    return values


def read_settings(message: Message, kind: type[S]) -> S:
    """A settings class from its message; unset fields take their defaults.

    Raises:
        SpecError: a value is out of its range.
    """
    return kind(**read_fields(message, kind))


def read_component(message: Message, table: Mapping[str, type[Settings]], special: Mapping[str, Any]) -> Settings:
    """The settings in a oneof whose fields are named as in `table`.

    Args:
        special: field name → function from its message to further keyword arguments.
    Raises:
        SpecError: nothing is set, or a value is out of its range.
    """
    name = message.WhichOneof("kind")
    if name is None:
        raise SpecError(f"one of {', '.join(table)} must be set, found none")
    with at(name):
        inner = getattr(message, name)
        more = special[name](inner) if name in special else {}
        return table[name](**read_fields(inner, table[name]), **more)


def write_fields(settings: Settings, message: Message) -> None:
    """Set the plain fields of `message` from `settings`."""
    for name in plain_fields(type(settings)):
        value = getattr(settings, name)
        if value is None:
            continue
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        if descriptor.enum_type is not None:
            value = enum_number(descriptor.enum_type, value, name)
        elif descriptor.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
            value = int(value)
        setattr(message, name, value)
    if isinstance(message, Message):
        message.SetInParent()


def write_component(settings: Settings, message: Message, table: Mapping[str, type[Settings]]) -> Message:
    """Put `settings` into the oneof of `message`; gives the inner message."""
    name = next(name for name, kind in table.items() if kind is type(settings))
    inner: Message = getattr(message, name)
    inner.SetInParent()
    write_fields(settings, inner)
    return inner


def enum_name(enum: Any, number: int, field: str) -> str:
    """The name of an enum's value as the library has it: KIND_HUBER → huber, and "" for the unspecified one.

    Raises:
        SpecError: this version knows no such number.
    """
    value = enum.values_by_number.get(number)
    if value is None:
        accepted = ", ".join(str(known) for known in enum.values_by_number)
        raise SpecError(f"unknown enum number {number}, accepted: {accepted}", field=field)
    name = value.name.removeprefix(_prefix(enum)).lower()
    return "" if name == "unspecified" else name


def enum_number(enum: Any, name: str, field: str) -> int:
    """The inverse of `enum_name`."""
    wanted = _prefix(enum) + name.upper()
    if wanted not in enum.values_by_name:
        known = [enum_name(enum, number, field) for number in enum.values_by_number]
        raise unknown_name("value", name, [text for text in known if text], field=field)
    return int(enum.values_by_name[wanted].number)


def _prefix(enum: Any) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"


def read_optional(message: Message, field: str, kind: type[S]) -> S | None:
    """The settings in a message field, None if it is unset."""
    if not message.HasField(field):
        return None
    with at(field):
        return read_settings(getattr(message, field), kind)
