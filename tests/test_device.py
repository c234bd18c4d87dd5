"""Where to compute, decided once and checked."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from latent_inv.device import DTYPES, place
from latent_inv.errors import SpecError, UnsupportedError
from latent_inv.spec import DTYPES as NAMES


def test_the_cpu_always_works() -> None:
    placement = place("cpu", threads=1, lane_width=8)
    assert (placement.device, placement.threads, placement.lane_width) == ("cpu", 1, 8)
    assert placement.torch_device == torch.device("cpu")
    placement.synchronise()
    assert pickle.loads(pickle.dumps(placement)) == placement


def test_auto_takes_what_is_there() -> None:
    device = place().device
    assert device == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    assert place("cpu").lane_width == 4


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ({"device": "gpu"}, "device", 'cuda:N or mps, found "gpu"'),
        ({"device": ""}, "device", "must be"),
        ({"device": "x" * 999}, "device", "must be"),
        ({"device": None}, "device", "found NoneType"),
        ({"device": torch.device("cpu")}, "device", "found device"),
        ({"threads": 0}, "threads", "from 1 to"),
        ({"threads": 10**9}, "threads", "found 1000000000"),
        ({"threads": True}, "threads", "found True"),
        ({"threads": 1.5}, "threads", "found 1.5"),
        ({"threads": "2"}, "threads", "found '2'"),
        ({"lane_width": 0}, "lane_width", "from 1 to 256"),
        ({"lane_width": 257}, "lane_width", "from 1 to 256"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        place(**{"device": "cpu", **settings})
    assert caught.value.field == field
    assert said in caught.value.message
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("device", ["cuda:99", "cuda:x", "cpu:x"])
def test_what_this_machine_has_not_is_told(device: str) -> None:
    with pytest.raises(UnsupportedError, match='"cpu" always works') as caught:
        place(device)
    assert caught.value.field == "device"


def test_number_formats_have_one_list() -> None:
    assert tuple(DTYPES) == NAMES


def test_threads_are_only_set_if_asked_for() -> None:
    before = torch.get_num_threads()
    place("cpu").apply()
    assert torch.get_num_threads() == before
    place("cpu", threads=1).apply()
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
