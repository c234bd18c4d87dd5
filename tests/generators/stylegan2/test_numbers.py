"""Settings in a checkpoint that are numbers of numpy, which its own machinery would have to make."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from latent_inv.errors import InputError
from latent_inv.generators.stylegan2.pickles import Record, read_pickle
from latent_inv.generators.stylegan2.records import as_number

KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [*KINDS, ">f4", ">i8"])
def test_scalars_and_arrays_come_back(kind: str, protocol: int) -> None:
    array = np.arange(6).reshape(2, 3).astype(kind)
    assert as_number(read_pickle(pickle.dumps(array, min(protocol, 4)))) == array.tolist()
    scalar = array.astype(array.dtype.newbyteorder("="))[1, 2]
    number = as_number(read_pickle(pickle.dumps(scalar, protocol)))
    assert number == scalar.item()
    assert type(number) is type(scalar.item())


def test_columns_first() -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert as_number(read_pickle(pickle.dumps(array, 4))) == array.tolist()


def test_older_names_are_the_same() -> None:
    """Public checkpoints were written by numpy 1, whose module had no underscore."""
    data = pickle.dumps(np.float64(0.25), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in data
    assert as_number(read_pickle(data)) == 0.25


@pytest.mark.parametrize("value", [None, "skip", 0.01, 256, (1, 2), {"a": 1}])
def test_all_else_stays(value: Any) -> None:
    assert as_number(value) is value


def _record(name: str, *args: Any, state: Any = None) -> Record:
    found = Record(name, args)
    found.state = state
    return found


DOUBLE = _record("numpy.dtype", "f8", state=(3, "<"))


@pytest.mark.parametrize(
    "damaged",
    [
        _record("numpy.core.multiarray.scalar", DOUBLE, b"\0" * 7),
        _record("numpy.core.multiarray.scalar", DOUBLE),
        _record("numpy.core.multiarray.scalar", _record("numpy.dtype", "O8"), b"\0" * 8),
        _record("numpy.core.multiarray.scalar", "f8", b"\0" * 8),
        _record("numpy.core.multiarray._reconstruct", state=(1, (3,), DOUBLE, False, b"\0" * 16)),
        _record("numpy.core.multiarray._reconstruct", state=(1, (2**40,), DOUBLE, False, b"\0" * 16)),
        _record("numpy.core.multiarray._reconstruct", state=(1, (-1,), DOUBLE, False, b"\0" * 16)),
        _record("numpy.core.multiarray._reconstruct", state=(1, "2", DOUBLE, False, b"\0" * 16)),
        _record("numpy.core.multiarray._reconstruct", state=(1, (1,), DOUBLE, False, 2**40)),
        _record("numpy.core.multiarray._reconstruct", state=(1, (1,), DOUBLE, False, _record("_codecs.encode"))),
        _record("numpy.core.multiarray._reconstruct"),
        _record("numpy.ndarray", (2,)),
    ],
    ids=lambda record: f"{record.name.rpartition('.')[2]} {record.args!r:.20} {record.state!r:.40}",
)
def test_damaged_ones_are_refused(damaged: Record) -> None:
    with pytest.raises(InputError) as caught:
        as_number(damaged)
    assert caught.value.field == "checkpoint"
