"""Errors on the wire: the same class, field and time to wait on the other side, and never too long."""

from __future__ import annotations

from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from latent_inv import errors
from latent_inv.convert.errors import error_from, error_to, short
from latent_inv.errors import MAX_MESSAGE_CHARS, InternalError, LatentInvError, LimitError, SpecError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, LatentInvError) and kind is not LatentInvError
]


def there_and_back(error: LatentInvError) -> LatentInvError:
    status = error_to(error)
    return error_from(code_pb2.Code.Name(status.code), status.message, status.SerializeToString())


def details(status: status_pb2.Status, kind: Any) -> list[Any]:
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["", "solver.learning_rate"])
@pytest.mark.parametrize("retry_after", [None, 0.0, 0.25, 3600.0])
def test_every_class_is_itself_again(kind: type[LatentInvError], field: str, retry_after: float | None) -> None:
    error = kind("must be ≥ 1, found 0", field=field, retry_after=retry_after)
    back = there_and_back(error)
    assert type(back) is kind
    assert (back.message, back.field, back.retry_after) == (error.message, field, retry_after)
    assert str(back) == str(error)


def test_every_class_has_its_own_reason_and_a_real_status() -> None:
    assert len(KINDS) >= 14
    assert len({kind.reason for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert kind.status in set(code_pb2.Code.keys())
        assert kind.status not in ("OK", "UNKNOWN")


def test_what_the_status_carries() -> None:
    status = error_to(LimitError("too many", field="seeds", retry_after=1.5))
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    assert status.message == "seeds: too many"
    (info,) = details(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("LIMIT_EXCEEDED", "latent_inv")
    (bad,) = details(status, error_details_pb2.BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [("seeds", "too many")]
    (retry,) = details(status, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1500
    plain = error_to(InternalError("no"))
    assert details(plain, error_details_pb2.BadRequest) == details(plain, error_details_pb2.RetryInfo) == []


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_any_text_fits(message: str, field: str) -> None:
    status = error_to(SpecError(message, field=field))
    assert len(status.message.encode()) <= MAX_MESSAGE_CHARS
    back = there_and_back(SpecError(message, field=field))
    assert len(back.message.encode()) <= MAX_MESSAGE_CHARS
    if len(f"{field}: {message}".encode()) <= 200:
        assert (back.message, back.field) == (message, field)


@pytest.mark.parametrize("character", ["x", "é", "猫", "🐈"])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_a_long_text_is_cut_at_a_character(character: str, shift: int) -> None:
    text = "a" * shift + character * 2000
    cut = short(text)
    assert len(cut.encode()) <= MAX_MESSAGE_CHARS
    assert len(cut.encode()) > MAX_MESSAGE_CHARS - 4
    assert cut.endswith("…")
    assert text.startswith(cut[:-1])
    exact = "a" * MAX_MESSAGE_CHARS
    assert short(exact) == exact


def test_a_text_that_is_no_unicode_is_still_sent() -> None:
    assert there_and_back(SpecError("half a \ud83d pair")).message.startswith("half a ")


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_fits_into_the_headers_of_a_call(kind: type[LatentInvError]) -> None:
    """Clients of gRPC take 8 KiB of headers; details travel as base64, and text with three characters a byte."""
    status = error_to(kind("≤" * 5000, field="é" * 5000, retry_after=1))
    escaped, encoded = 3 * len(status.message.encode()), 4 * len(status.SerializeToString()) / 3
    assert escaped + encoded < 8 * 1024 - 512


@pytest.mark.parametrize("code", code_pb2.Code.keys())
def test_a_status_without_details_is_typed_too(code: str) -> None:
    error = error_from(code, "why", None)
    assert error.message == "why"
    assert error.status == code or code in ("OUT_OF_RANGE",) or type(error) is InternalError


@pytest.mark.parametrize("rubbish", [b"\xff\xff\xff", b"\x0a\xff", b"text"])
def test_details_that_cannot_be_read_do_not_hide_the_error(rubbish: bytes) -> None:
    error = error_from("NOT_FOUND", "why", rubbish)
    assert (type(error), error.message) == (errors.NotFoundError, "why")


def test_details_of_others_are_passed_over() -> None:
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="why")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="SOMETHING_NEW", domain="elsewhere"))
    status.details.add().Pack(error_details_pb2.BadRequest())
    status.details.add(type_url="type.example.com/of.somebody", value=b"\xff")
    error = error_from("NOT_FOUND", "why", status.SerializeToString())
    assert (type(error), error.message, error.field) == (errors.NotFoundError, "why", "")
