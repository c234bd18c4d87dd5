"""Files of latents that are damaged, or made to do harm: a typed error, quickly, with nothing large allocated."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_inv.errors import LatentsError, LimitError
from latent_inv.latents import LatentsFile, Limits, check_origin, fit_latents, load_latents, save_latents
from tests.test_latents import ORIGIN, npy, npz, pt, safetensors, w_plus

_WHOLE = {
    "safetensors": save_latents(None, {"z": w_plus(1, 6)}, **ORIGIN),
    "npz": npz(z=w_plus(1, 6)),
    "npy": npy(w_plus(1, 6)),
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(_WHOLE)), st.data())
def test_damage_ends_in_a_typed_error_or_in_arrays(kind: str, data: st.DataObject) -> None:
    content = bytearray(_WHOLE[kind])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    with suppress(LatentsError, LimitError):
        file = load_latents(bytes(content[:cut]))
        assert all(isinstance(array, np.ndarray) for array in file.latents.values())


def test_the_same_latents_give_the_same_bytes() -> None:
    latents = {"z": w_plus(1, 6), "noise": w_plus(1, 3).astype(np.float64)}
    backwards = dict(reversed(latents.items()))
    extra = {str(index): "x" for index in range(20)}
    first = save_latents(None, latents, **ORIGIN, extra=extra)
    for again in (latents, backwards):
        assert save_latents(None, again, **ORIGIN, extra=dict(reversed(extra.items()))) == first
    assert int.from_bytes(first[:8], "little") % 8 == 0


def test_more_metadata_never_hides_the_origin() -> None:
    data = save_latents(None, {"z": w_plus(1, 6)}, **ORIGIN, extra={"generator": "other", "note": "kept"})
    file = load_latents(data)
    assert (file.generator, file.extra["note"]) == ("toy", "kept")


@pytest.mark.parametrize(
    "array", [np.zeros((0, 3)), np.float32(1), np.zeros((1, 2), complex), np.array([["a"]]), np.zeros((1, 2), bool)]
)
def test_what_is_no_latents_is_not_saved(array: np.ndarray) -> None:
    with pytest.raises(LatentsError):
        save_latents(None, {"z": array}, **ORIGIN)


def test_parts_of_different_length_are_not_saved() -> None:
    with pytest.raises(LatentsError, match="noise 2, z 1"):
        save_latents(None, {"z": w_plus(1, 6), "noise": w_plus(2, 6)}, **ORIGIN)


def test_strided_and_big_endian_arrays_are_saved_by_value() -> None:
    values = np.arange(12.0, dtype=">f4").reshape(3, 4)[:, ::2]
    assert load_latents(save_latents(None, {"z": values}, **ORIGIN)).latents["z"].tolist() == values.tolist()


def test_bfloat16_is_read() -> None:
    body = torch.tensor([1.5, -2.25]).bfloat16().view(torch.int16).numpy().tobytes()
    data = safetensors({"z": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}, body)
    assert load_latents(data).latents["z"].tolist() == [[1.5, -2.25]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|i1", "<i8", "|b1"])
def test_every_npy_of_numbers_is_read(dtype: str, order: Any) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype).copy(order=order)
    read = load_latents(npy(values)).latents[""]
    assert read.tolist() == values.tolist()
    assert read.dtype == values.dtype.newbyteorder("=")
    assert read.flags.writeable


def npy_header(text: str, body: bytes = b"", version: int = 1) -> bytes:
    content = text.encode()
    size = struct.pack("<H" if version == 1 else "<I", len(content))
    return b"\x93NUMPY" + bytes([version, 0]) + size + content + body


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10**9,)}",
        "{'descr': '<f4', 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1L,)}",
        "{'descr': '<f4\\d', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f1', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}",
        "(" * 9000,
        "-" * 9000 + "1",
        "[" * 90 + "]" * 90,
        "\0",
        " " * 20_000,
        "",
    ],
)
def test_strange_npy_headers_are_refused(header: str) -> None:
    for version in (1, 2, 3):
        with pytest.raises(LatentsError):
            load_latents(npy_header(header, bytes(4), version))


def numbers(shape: Any, offsets: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "entry",
    [
        numbers([1e999], [0, 4]),
        numbers(["1"], [0, 4]),
        numbers([True], [0, 4]),
        numbers("1", [0, 4]),
        numbers([1], [0.0, 4.0]),
        numbers([1], [0]),
        numbers([1], [-4, 0]),
        numbers([2**62, 4], [0, 4]),
        numbers([1] * 40, [0, 4]),
        numbers([1], [0, 4], dtype="C64"),
        {"dtype": "F32"},
        [],
        None,
    ],
)
def test_strange_safetensors_headers_are_refused(entry: Any) -> None:
    with pytest.raises(LatentsError):
        load_latents(safetensors({"z": entry}, bytes(4)))


def test_strange_metadata_is_refused_or_read_as_text() -> None:
    entry = numbers([1], [0, 4])
    assert load_latents(safetensors({"__metadata__": {"a": 1}, "z": entry}, bytes(4))).extra == {"a": "1"}
    assert load_latents(safetensors({"__metadata__": None, "z": entry}, bytes(4))).generator is None
    with pytest.raises(LatentsError):
        load_latents(safetensors({"__metadata__": [1], "z": entry}, bytes(4)))


# ---- files that say that they are large --------------------------------------------------------


def overlapping() -> bytes:
    """60 arrays that all lie on the same MiB."""
    size = 2**20
    return safetensors({f"z{index}": numbers([size], [0, size], "U8") for index in range(60)}, bytes(size))


def expanded() -> bytes:
    """A view of one number that says that it is a million of them; larger ones are not made, in case they work."""
    return pt({"z": torch.zeros(1).expand(1000, 1000)})


def many() -> bytes:
    entry = numbers([0], [0, 0])
    return safetensors({f"z{index}": entry for index in range(5000)})


def long_header() -> bytes:
    return safetensors(json.dumps({"__metadata__": {"a": "x" * 600_000}}).encode())


def npz_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z.npy", npy(np.zeros(10**6, np.float32)))
    return buffer.getvalue()


@pytest.mark.parametrize("make", [overlapping, expanded, many, long_header, npz_bomb])
def test_nothing_large_is_allocated_for_a_small_file(make: Any) -> None:
    data = make()
    limits = Limits(max_bytes=3_000_000, max_parts=64, max_header_bytes=500_000)
    with suppress(LatentsError):
        load_latents(pt({"z": torch.zeros(1)}))  # imports are not counted below
    tracemalloc.start()
    try:
        with pytest.raises(LimitError):
            load_latents(data, limits=limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The file itself, its parsed header, and the archive's table: not what it describes (4 to 60 MB).
    assert peak < 2_900_000


def test_an_npz_with_one_name_twice_or_with_other_members_is_refused() -> None:
    for names in (("z.npy", "z.npy"), ("z.npy", "readme.txt")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                # A second member of one name is what the file format allows and zipfile warns of.
                archive.filelist.append(archive.filelist[0]) if name in archive.namelist() else archive.writestr(
                    name, npy(w_plus(2))
                )
        with pytest.raises(LatentsError, match=r"twice|no array"):
            load_latents(buffer.getvalue())


@pytest.mark.parametrize("value", [{"z": torch.zeros(2, device="meta")}, {"z": 1}, "text"])
def test_a_pt_of_anything_but_plain_tensors_is_refused(value: Any) -> None:
    with pytest.raises(LatentsError):
        load_latents(pt(value))


def test_a_torchscript_program_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"):
            archive.writestr(name, b"")
    with pytest.raises(LatentsError, match="TorchScript"):
        load_latents(buffer.getvalue())


# ---- values from Python ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [[[1.0], [1.0, 2.0]], [object()], torch.zeros(1, 3).to_sparse(), "text"])
def test_values_that_are_no_arrays_are_refused_by_part(value: Any) -> None:
    with pytest.raises(LatentsError) as caught:
        fit_latents({"z": value}, {"z": (3,)})
    assert caught.value.field == "latents.z"


def test_tensors_and_lists_fit_like_arrays() -> None:
    for value in ([[1, 2]], torch.tensor([[1.0, 2.0]]).bfloat16(), torch.tensor([[1.0, 2.0]], requires_grad=True)):
        assert fit_latents({"z": value}, {"z": (2,)})["z"].tolist() == [[1.0, 2.0]]


def test_what_is_fitted_shares_no_memory() -> None:
    value = np.zeros((1, 3), np.float32)
    assert not np.shares_memory(fit_latents({"z": value}, {"z": (3,)})["z"], value)


def test_a_path_that_cannot_be_one_is_told() -> None:
    with pytest.raises(LatentsError, match="cannot read"):
        load_latents("a\0b")


def test_latents_without_a_weight_hash_are_taken_with_a_warning() -> None:
    file = LatentsFile(latents={}, generator="toy", space=None, weights_sha256=None, extra={})
    (warning,) = check_origin(file, generator="toy", weights_sha256="ab" * 32)
    assert "weights" in warning
