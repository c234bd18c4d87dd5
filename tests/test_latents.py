"""The latents border: what is written comes back, what does not fit is named, and nothing is ever unpickled."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load as load_safetensors

from latent_inv.errors import InputError, LatentsError, LimitError
from latent_inv.images import to_uint8
from latent_inv.latents import FORMAT, LatentsFile, Limits, check_origin, fit_latents, load_latents, save_latents
from latent_inv.result import Decoded
from latent_inv.spec import DecodeSpec
from tests.engine.helpers import drain, job, result_of, toy_engine

ORIGIN = {"generator": "toy", "space": "w+", "weights_sha256": "ab" * 32}
W_PLUS = {"w": (18, 512)}


def w_plus(*shape: int) -> np.ndarray:
    """Latents that differ in every number."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def npz(**parts: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **parts)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def pt(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def safetensors(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


# ---- writing, and reading it back --------------------------------------------------------------


_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["z", "w+", "noise 3", "ß/x"]),
        arrays.arrays(
            st.sampled_from([np.float32, np.float64]),
            (2, 3),
            elements=_FINITE,
        ),
        min_size=1,
    )
)
def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path, latents: dict[str, np.ndarray]) -> None:
    data = save_latents(tmp_path / "a.safetensors", latents, **ORIGIN, extra={"seed": "7"})
    assert (tmp_path / "a.safetensors").read_bytes() == data
    file = load_latents(tmp_path / "a.safetensors")
    assert {"generator": file.generator, "space": file.space, "weights_sha256": file.weights_sha256} == ORIGIN
    assert file.extra["seed"] == "7"
    assert file.warnings == ()
    assert file.latents.keys() == latents.keys() == load_safetensors(data).keys()
    for name, array in latents.items():
        for read in (file.latents[name], load_safetensors(data)[name]):  # others can read it, too
            assert read.dtype == array.dtype
            assert read.tobytes() == array.tobytes()


def test_the_file_says_what_it_is() -> None:
    data = save_latents(None, {"w": w_plus(1, 18, 512)}, **ORIGIN)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header["__metadata__"]
    assert metadata["format"] == FORMAT
    assert metadata["weights_sha256"] == ORIGIN["weights_sha256"]
    assert "float32" in metadata["part.w"]
    assert all(isinstance(value, str) for value in metadata.values())


@pytest.mark.parametrize("latents", [{}, {"z": np.array([[np.inf]])}])
def test_what_is_not_whole_is_not_saved(latents: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(LatentsError):
        save_latents(tmp_path / "a.safetensors", latents, **ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    before = save_latents(path, {"z": w_plus(1, 4)}, **ORIGIN)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        save_latents(path, {"z": w_plus(1, 5)}, **ORIGIN)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a.safetensors", before)]
    with pytest.raises(InputError, match="cannot"):
        save_latents(tmp_path / "missing" / "a.safetensors", {"z": w_plus(1, 4)}, **ORIGIN)


@pytest.mark.parametrize("toy", ["smooth", "toy"])
def test_saved_latents_give_the_picture_again_after_a_restart(toy: str, tmp_path: Path) -> None:
    # Everything that was optimised must be in the file, and a second job must not change the first.
    result = result_of(job(toy, steps=5)).save(tmp_path)
    engine = toy_engine()
    other = result_of(job(toy, steps=3, picture_seed=1), engine)
    file = load_latents(tmp_path / result.files["latents"])
    engine.submit("again", DecodeSpec(latents=file.latents, generator=file.generator or ""))
    decoded = drain(engine, {"again"})[0]["again"].result
    assert isinstance(decoded, Decoded)
    # 0 levels, not 1: the same width, machine and build give the same bits.
    assert (to_uint8(decoded.images[0]) == to_uint8(result.image)).all()
    assert (to_uint8(other.image) != to_uint8(result.image)).any()


# ---- formats, told from the content ------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".npy", ".pt", ".bin", ""])
def test_the_suffix_never_decides(suffix: str, tmp_path: Path) -> None:
    array = w_plus(1, 18, 512)
    contents = {
        "safetensors": (save_latents(None, {"w": array}, **ORIGIN), "w"),
        "npz": (npz(w=array), "w"),
        "npy": (npy(array), ""),
        "torch": (pt({"w": torch.from_numpy(array)}), "w"),
        "one tensor": (pt(torch.from_numpy(array)), ""),
    }
    own = {".safetensors": "safetensors", ".npz": "npz", ".npy": "npy", ".pt": "torch"}
    for kind, (data, part) in contents.items():
        path = tmp_path / f"latents{suffix}"
        path.write_bytes(data)
        file = load_latents(path)
        assert list(file.latents) == [part]
        assert (file.latents[part] == array).all()
        kind = "torch" if kind == "one tensor" else kind
        lies = suffix in own and own[suffix] != kind
        assert file.warnings == ((f"{kind} data in a {suffix} file",) if lies else ())
        assert load_latents(data).latents[part].tobytes() == array.tobytes()
        assert (file.generator is None) == (kind != "safetensors")


def test_tensors_of_any_kind_are_read() -> None:
    values = torch.tensor([[1.5, -2.0]])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        file = load_latents(pt({"z": values.to(dtype).requires_grad_()}))
        assert file.latents["z"].tolist() == values.tolist()


@pytest.mark.parametrize("kind", ["pt", "pt in a dict", "legacy pt", "bare pickle", "npy", "npz"])
def test_nothing_is_unpickled(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    trap = Trap(marker)
    legacy = io.BytesIO()
    torch.save({"z": trap}, legacy, _use_new_zipfile_serialization=False)
    objects = np.array([trap], dtype=object)
    data = {
        "pt": pt(trap),
        "pt in a dict": pt({"z": torch.zeros(1), "more": trap}),
        "legacy pt": legacy.getvalue(),
        "bare pickle": pickle.dumps(trap),
        "npy": npy(objects),
        "npz": npz(z=objects),
    }[kind]
    with pytest.raises(LatentsError):
        load_latents(data)
    assert not marker.exists()
    # The trap works: whoever unpickles it makes the file.
    pickle.loads(pickle.dumps(trap)).close()
    assert marker.exists()


def test_object_arrays_are_refused_by_name() -> None:
    with pytest.raises(LatentsError, match=r'"styles\.npy" is an object array'):
        load_latents(npz(styles=np.array([{}], dtype=object)))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "accepted are safetensors"),
        (b"PK\x03\x04" + bytes(50), "damaged"),
        (b"\x93NUMPY\x01\x00", "damaged"),
        (safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)), "damaged"),
        (safetensors({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)), "damaged"),
        (safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(4)), "damaged"),
        (safetensors({"a": 3}), "damaged"),
        (safetensors(b"{" * 100_000), "damaged"),
        (struct.pack("<Q", 2**63) + b"{}", "cut off"),
        (safetensors({}), "no arrays"),
        (pt([torch.zeros(1)]), "dictionary of tensors"),
        (pt({"a": {"b": torch.zeros(1)}}), "dictionary of tensors"),
    ],
)
def test_other_content_is_told(data: bytes, text: str) -> None:
    with pytest.raises(LatentsError, match=text):
        load_latents(data)


def test_a_path_that_is_no_file_is_told_without_its_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.npz", tmp_path):
        with pytest.raises(LatentsError, match=r"is a folder|no file") as caught:
            load_latents(path)
        assert str(tmp_path.parent) not in str(caught.value)


# ---- limits, before anything is allocated ------------------------------------------------------


def test_sizes_are_compared_with_the_limits(tmp_path: Path) -> None:
    limits = Limits(max_bytes=4000, max_parts=2)
    array = np.zeros((1, 500), np.float32)
    for data in (npy(array), npz(z=array), save_latents(None, {"z": array}, **ORIGIN)):
        assert load_latents(data, limits=limits).latents
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z.npy", npy(np.zeros(500_000, np.float32)))
    assert len(bomb.getvalue()) < 4000
    big = tmp_path / "big"
    big.write_bytes(bytes(4001))
    for source in (bytes(4001), big, bomb.getvalue()):
        with pytest.raises(LimitError, match="4000"):
            load_latents(source, limits=limits)
    with pytest.raises(LimitError, match="3 arrays, at most 2"):
        load_latents(npz(a=array[:, :9], b=array[:, :9], c=array[:, :9]), limits=limits)


# ---- fitting to a space ------------------------------------------------------------------------


def test_one_picture_and_rows_are_told_apart() -> None:
    one = w_plus(18, 512)
    for given_array in (one, one[None]):
        fitted = fit_latents({"w": given_array}, W_PLUS)["w"]
        assert fitted.shape == (1, 18, 512)
        assert (fitted[0] == one).all()
    assert fit_latents({"w": w_plus(3, 18, 512)}, W_PLUS)["w"].shape == (3, 18, 512)


def test_one_vector_is_for_all_layers_and_equal_layers_are_one_vector() -> None:
    rows = w_plus(2, 512)
    for given_array in (rows, rows[:, None]):
        fitted = fit_latents({"w": given_array}, W_PLUS)["w"]
        assert fitted.shape == (2, 18, 512)
        assert (fitted == rows[:, None]).all()
        assert (fit_latents({"w": fitted}, {"w": (512,)})["w"] == rows).all()
    assert (fit_latents({"w": rows[0]}, W_PLUS)["w"] == rows[:1, None]).all()
    with pytest.raises(LatentsError, match=r"expected \[18, 512\]"):
        fit_latents({"tokens": rows}, {"tokens": (18, 512)})  # no part of layers
    broken = np.broadcast_to(rows[:, None], (2, 18, 512)).copy()
    broken[1, 4, 7] = np.nan
    with pytest.raises(LatentsError, match="its layers differ"):
        fit_latents({"w": broken}, {"w": (512,)})


def test_a_square_part_is_one_picture_where_both_readings_fit() -> None:
    assert fit_latents({"z": w_plus(4, 4)}, {"z": (4, 4)})["z"].shape == (1, 4, 4)
    assert fit_latents({"z": w_plus(4, 4)}, {"z": (4,)})["z"].shape == (4, 4)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int64", "bool", ">f4"])
def test_numbers_of_any_kind_are_cast(dtype: str) -> None:
    given_array = np.array([[0, 1, 1]], dtype=dtype)
    fitted = fit_latents({"": given_array}, {"z": (3,)})["z"]
    assert fitted.dtype == np.float32
    assert fitted.tolist() == [[0.0, 1.0, 1.0]]
    assert fit_latents({"z": given_array}, {"z": (3,)}, dtype=np.float64)["z"].dtype == np.float64


def test_a_float64_keeps_its_bits_where_they_are_wanted() -> None:
    value = np.array([[0.1, 1 / 3]])
    assert fit_latents({"z": value}, {"z": (2,)}, dtype=np.float64)["z"].tobytes() == value.tobytes()


@pytest.mark.parametrize(
    ("array", "shape", "texts"),
    [
        (w_plus(1, 16, 8, 8), (4, 8, 8), ["[4, 8, 8] or [n, 4, 8, 8]", "[1, 16, 8, 8]"]),
        (w_plus(1, 8, 8, 4), (4, 8, 8), ["[4, 8, 8]", "[1, 8, 8, 4]", "transpose(0, 3, 1, 2) would fit"]),
        (w_plus(8, 8, 4), (4, 8, 8), ["[8, 8, 4]", "transpose(2, 0, 1) would fit"]),
        (w_plus(1, 256), (18, 512), ["[18, 512]", "[1, 256]", "or [n, 512] for all layers alike"]),
        (w_plus(1, 18, 512), (512,), ["[512] or [n, 512]", "[1, 18, 512]", "its layers differ"]),
        (w_plus(1, 14, 512), (18, 512), ["[18, 512]", "[1, 14, 512]"]),
        (w_plus(0, 3), (3,), ["[3]", "[0, 3]"]),
        (np.array(["a"]), (1,), ["numbers"]),
        (np.array([[1j]]), (1,), ["numbers", "complex"]),
        (np.array([[1e300]]), (1,), ["too large for float32"]),
    ],
)
def test_what_does_not_fit_is_told_with_both_shapes(array: Any, shape: tuple[int, ...], texts: list[str]) -> None:
    with pytest.raises(LatentsError) as caught:
        fit_latents({"w": array}, {"w": shape}, field="start.latents")
    assert caught.value.field == "start.latents.w"
    assert all(text in str(caught.value) for text in texts), str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named(value: float) -> None:
    array = w_plus(1, 18, 512)
    array[0, 7, 300] = value
    with pytest.raises(LatentsError, match=r"\[0, 7, 300\]"):
        fit_latents({"w": array}, W_PLUS)


def test_names_of_parts_are_checked() -> None:
    shapes = {"z": (2,), "noise": (3,)}
    with pytest.raises(LatentsError, match="missing noise; unknown 'nose'"):
        fit_latents({"z": w_plus(2), "nose": w_plus(3)}, shapes)
    with pytest.raises(LatentsError, match="missing noise, z; unknown ''"):
        fit_latents({"": w_plus(2)}, shapes)
    with pytest.raises(LatentsError, match="z 1, noise 2"):
        fit_latents({"z": w_plus(2), "noise": w_plus(2, 3)}, shapes)
    assert list(fit_latents({"noise": w_plus(3), "z": w_plus(2)}, shapes)) == ["z", "noise"]


def test_what_was_given_is_not_changed_or_shared() -> None:
    given_array = np.zeros((1, 3))
    fit_latents({"z": given_array}, {"z": (3,)})["z"][:] = 1
    assert (given_array == 0).all()


# ---- whose latents they are --------------------------------------------------------------------


def said(**fields: str | None) -> LatentsFile:
    return LatentsFile(latents={}, extra={}, **{**ORIGIN, **fields})  # type: ignore[arg-type]


def test_latents_of_others_are_refused() -> None:
    here = {"generator": "toy", "weights_sha256": "ab" * 32}
    assert check_origin(said(), **here) == ()
    assert len(check_origin(said(generator=None, weights_sha256=None), **here)) == 1
    with pytest.raises(LatentsError, match=r'"eyes".*"toy"'):
        check_origin(said(generator="eyes"), **here)
    with pytest.raises(LatentsError, match=r"cdcdcdcd.*abababab"):
        check_origin(said(weights_sha256="cd" * 32), **here)
