"""Arrays on the wire: bit-equal there and back, and sizes that cannot be are refused before anything is allocated."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latent_inv import convert
from latent_inv.errors import ImageError, LatentsError, LimitError, ShapeError, SpecError
from latent_inv.images import Limits, load
from latent_inv.v1 import data_pb2

FORMATS = ("float16", "float32", "float64", "uint8", "uint16", "bool")


def there_and_back(array: np.ndarray) -> np.ndarray:
    message = data_pb2.Tensor.FromString(convert.array_to(array).SerializeToString())
    return convert.array_from(message)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(FORMATS).flatmap(
        lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    )
)
def test_arrays_are_bit_equal_there_and_back(array: np.ndarray) -> None:
    back = there_and_back(array)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "uint16"])
def test_bytes_are_little_endian_whatever_the_array_is(name: str) -> None:
    values = np.arange(6).reshape(2, 3)
    message = convert.array_to(values.astype(np.dtype(name).newbyteorder(">")))
    assert message.data == values.astype(np.dtype(name).newbyteorder("<")).tobytes()
    assert np.array_equal(convert.array_from(message), values)


def test_views_are_sent_as_they_look() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (array.T, array[:, ::-1], array[..., 1:3], np.broadcast_to(array[:1], (5, 3, 4))):
        assert np.array_equal(there_and_back(view), view)


@pytest.mark.parametrize("name", ["int64", "complex64", "datetime64[s]", "object", "longdouble", "U3"])
def test_other_number_formats_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"arrays of float32.*found") as caught:
        convert.array_to(np.zeros(3, name))
    assert caught.value.field == "dtype"


FLOAT, BYTE = data_pb2.DTYPE_FLOAT32, data_pb2.DTYPE_UINT8
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no format", {"shape": [1], "data": b"x"}, "dtype"),
    ("an unknown format", {"dtype": 42, "shape": [1], "data": b"x"}, "dtype"),
    ("too few bytes", {"dtype": FLOAT, "shape": [2, 2], "data": b"x" * 15}, "data"),
    ("too many bytes", {"dtype": FLOAT, "shape": [2, 2], "data": b"x" * 17}, "data"),
    ("bytes for nothing", {"dtype": FLOAT, "shape": [0, 3], "data": b"x"}, "data"),
    ("no shape and no bytes", {"dtype": FLOAT}, "data"),
    ("a negative side", {"dtype": BYTE, "shape": [-1, 4], "data": b"1234"}, "shape"),
    ("two negative sides", {"dtype": BYTE, "shape": [-2, -2], "data": b"1234"}, "shape"),
    ("the smallest side", {"dtype": BYTE, "shape": [-(2**63)], "data": b""}, "shape"),
    ("nine sides", {"dtype": BYTE, "shape": [1] * 9, "data": b"1"}, "shape"),
    ("a million sides", {"dtype": BYTE, "shape": [1] * 10**6, "data": b"1"}, "shape"),
    ("a product of 2^124", {"dtype": BYTE, "shape": [2**62, 2**62], "data": b""}, "data"),
    # 2^64 wraps around to 0, and 2^64 + 4 to 4, in 64 bits.
    ("a product that wraps to none", {"dtype": BYTE, "shape": [2**32, 2**32], "data": b""}, "data"),
    ("a size that wraps to four", {"dtype": FLOAT, "shape": [2**62 + 1], "data": b"1234"}, "data"),
    ("more than memory", {"dtype": FLOAT, "shape": [2**40], "data": b"1234"}, "data"),
]


@pytest.mark.parametrize(("fields", "field"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_sizes_that_cannot_be_are_refused_at_no_cost(fields: dict[str, Any], field: str) -> None:
    message = data_pb2.Tensor(**fields)
    tracemalloc.start()
    try:
        with pytest.raises((ShapeError, SpecError)) as caught:
            convert.array_from(message)
        assert tracemalloc.get_traced_memory()[1] < 2**20, "nothing large is made for it"
    finally:
        tracemalloc.stop()
    assert caught.value.field == field
    assert len(str(caught.value)) < 300


def test_empty_arrays_are_arrays() -> None:
    assert convert.array_from(data_pb2.Tensor(dtype=FLOAT, shape=[0, 3])).shape == (0, 3)
    for shape in ([0, 2**62], [2**62, 0, 2**62]):
        with pytest.raises(ShapeError, match="no array of") as caught:
            convert.array_from(data_pb2.Tensor(dtype=FLOAT, shape=shape))
        assert caught.value.field == "shape"


def test_what_came_cannot_be_written_to() -> None:
    assert not there_and_back(np.ones(3, np.float32)).flags.writeable


def test_bools_are_zero_or_one() -> None:
    message = data_pb2.Tensor(dtype=data_pb2.DTYPE_BOOL, shape=[3], data=bytes([0, 1, 1]))
    assert convert.array_from(message).tolist() == [False, True, True]
    with pytest.raises(SpecError, match="0 or 1") as caught:
        convert.array_from(data_pb2.Tensor(dtype=data_pb2.DTYPE_BOOL, shape=[3], data=bytes([0, 2, 1])))
    assert caught.value.field == "data"


# ---- latents -----------------------------------------------------------------------------------


def test_latents_keep_their_parts_and_bits() -> None:
    sent = {"z": np.array([[1.5, np.nan, -0.0]], np.float32), "noise.0": np.ones((1, 2, 2), np.float64)}
    back = convert.latents_from(convert.latents_to(sent))
    assert back.keys() == sent.keys()
    # Whether a value is finite is for the engine to say, which knows the part and its shape.
    assert all(back[name].tobytes() == sent[name].tobytes() for name in sent)


def test_tensors_of_torch_are_latents_too() -> None:
    grown = torch.ones(1, 3, requires_grad=True)
    back = convert.latents_from(convert.latents_to({"z": grown, "w": torch.ones(1, 2, dtype=torch.bfloat16)}))  # type: ignore[dict-item]
    assert np.array_equal(back["z"], np.ones((1, 3)))
    assert back["w"].dtype == np.float32


@pytest.mark.parametrize("latent", [np.array([1, 2]), np.array(["a"]), np.array([None]), "text", [[1, 2], [3]]])
def test_latents_that_are_no_floats_are_refused(latent: Any) -> None:
    with pytest.raises((LatentsError, ImageError, ShapeError, SpecError)) as caught:
        convert.latents_to({"z": latent})
    assert caught.value.field.startswith("latents.z")


def test_too_many_parts_are_refused() -> None:
    parts = {f"part {n}": convert.array_to(np.zeros(1, np.float32)) for n in range(65)}
    with pytest.raises(LimitError, match="at most 64 parts, found 65") as caught:
        convert.latents_from(data_pb2.Latents(parts=parts))
    assert caught.value.field == "parts"


def test_a_long_name_of_a_part_is_cut_in_the_path() -> None:
    bad = data_pb2.Tensor(dtype=FLOAT, shape=[1])
    with pytest.raises(ShapeError) as caught:
        convert.latents_from(data_pb2.Latents(parts={"x" * 5000: bad}))
    assert len(caught.value.field) < 100


# ---- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_a_tensor_of_floats_loads_as_it_would_here(name: str, value_range: tuple[float, float]) -> None:
    low, high = value_range
    array = np.linspace(low, high, 8 * 9 * 3).reshape(8, 9, 3).astype(name)
    message = convert.image_to(array, value_range)
    here = load(array, value_range=value_range)
    there = convert.image_from(message, limits=Limits(), field="image")
    assert np.array_equal(here.pixels, there.pixels)
    with pytest.raises(ImageError, match="value_range"):
        convert.image_from(convert.image_to(array), limits=Limits(), field="image")


@pytest.mark.parametrize("name", ["uint8", "uint16", "bool"])
@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3), (3, 8, 9), (8, 9, 4), (1, 8, 9)])
def test_a_tensor_of_integers_loads_as_it_would_here(name: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2 if name == "bool" else np.iinfo(name).max, shape).astype(name)
    here, there = load(array), convert.image_from(convert.image_to(array), limits=Limits(), field="image")
    assert np.array_equal(here.pixels, there.pixels)
    assert (here.weight is None) == (there.weight is None)
    if here.weight is not None and there.weight is not None:
        assert np.array_equal(here.weight, there.weight)


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(SpecError, match="accepted") as caught:
        convert.image_to(np.zeros((8, 8), np.float32), (0.0, 2.0))
    assert caught.value.field == "value_range"


def test_values_outside_their_range_are_refused_with_both_ends() -> None:
    message = convert.image_to(np.full((8, 8), 1.5, np.float32), (0.0, 1.0))
    with pytest.raises(ImageError, match=r"range \(0, 1\).*1\.5") as caught:
        convert.image_from(message, limits=Limits(), field="spec.image")
    assert caught.value.field == "spec.image"
