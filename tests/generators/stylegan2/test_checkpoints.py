"""Checkpoints in, our file out; and files that want something run."""

from __future__ import annotations

import argparse
import builtins
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latent_inv.errors import AssetError, InputError
from latent_inv.generators import open_table
from latent_inv.generators.stylegan2 import convert, open_model
from latent_inv.generators.stylegan2.checkpoints import read_checkpoint
from latent_inv.generators.stylegan2.pickles import read_pickle
from tests.generators.stylegan2.making import CLASSES, SMALL, network, pickled, saved, state_dictionary, write


def same(weights: dict[str, torch.Tensor], made: torch.nn.Module) -> None:
    state = made.state_dict()
    assert weights.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(weights[name], tensor, msg=name)


@pytest.mark.parametrize("shape", [SMALL, CLASSES], ids=["plain", "classes"])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickle_is_read(shape: Any, protocol: int, tmp_path: Path) -> None:
    made = network(shape)
    found, weights = read_checkpoint(write(tmp_path / "a.pkl", pickled(made, protocol)))
    assert found == shape
    same(weights, made)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dictionary_is_read(zipped: bool, tmp_path: Path) -> None:
    made = network(SMALL)
    # What training scripts keep beside it: options, and states of optimisers.
    options = argparse.Namespace(path="/data", size=16, betas=(0.0, 0.99), mixed=0.9)
    optimiser = torch.optim.Adam(made.synthesis.b4.parameters()).state_dict()
    content = {"g_ema": state_dictionary(made), "latent_avg": torch.zeros(1), "args": options, "g_optim": optimiser}
    found, weights = read_checkpoint(write(tmp_path / "a.pt", saved(content, zipped)))
    assert found == SMALL
    same(weights, made)


def test_the_file_is_a_generator(tmp_path: Path) -> None:
    made, target = network(CLASSES), tmp_path / "out.safetensors"
    convert(write(tmp_path / "a.pkl", pickled(made)), target)
    kind = open_table().find(f"stylegan2:{target}")
    generator: Any = kind.load(torch.device("cpu"), torch.float32)
    assert kind.size == CLASSES.size == (4, 8)
    assert len(kind.info().weights_sha256) == 64
    drawn = generator.sample((1, 2), "z")
    w = made.mapping(drawn["z"], drawn["class"])
    expected = made(made.synthesis.styles(w[:, None].expand(-1, CLASSES.rows, -1)), {}).clamp(-1, 1)
    for latents in (drawn, {"w": w}, {"w+": generator.map(drawn["z"], drawn["class"])}):
        assert torch.equal(generator(latents), expected)
    w_avg = made.mapping.w_avg
    assert torch.allclose(generator.map(drawn["z"], drawn["class"], psi=0)[:, 3], w_avg)
    half = generator.map(drawn["z"], drawn["class"], psi=0.5, cutoff=1)
    assert torch.allclose(half[:, 0], (w + w_avg) / 2)
    assert torch.equal(half[:, 1], w)
    # What the mapping makes is typical for the prior of w; far out is not.
    prior = kind.spaces["w"].parts["w"].prior
    many = generator.sample(range(200), "z")
    typical = prior.typicality(generator.network.mapping(many["z"], many["class"]))
    assert 0.2 < typical.median() < 0.8
    assert prior.typicality(10 * w + 5).min() > 0.99


class Bad:
    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> Any:
        return self.call, self.args


class Stateful:
    def __setstate__(self, state: Any) -> None:
        raise SystemExit("ran")

    def __getstate__(self) -> Any:
        return {"x": 1}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Bad(os.system, "touch ran"), "system"),
        (Bad(builtins.eval, "open('ran', 'w')"), "eval"),
        (Bad(getattr, "", "join"), "getattr"),
        (Bad(torch.load, "ran"), "torch"),
        (Stateful(), "Stateful|_reconstructor"),
    ],
)
def test_whatever_wants_to_run_is_refused(
    content: Any, named: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"G_ema": content}, protocol)
    with pytest.raises(InputError, match=named):
        convert(write(tmp_path / "a.pkl", data), tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04r\xff\xff\xff\xff.",  # memo of 64 GB
        b"\x80\x04N" + b"r\xff\xff\xff\x7f" + b".",
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"abc.",  # a terabyte of bytes
        b"\x80\x04\x96" + (2**62).to_bytes(8, "little") + b"abc.",
        b"\x80\x04\x8b" + (2**31 - 1).to_bytes(4, "little") + b".",
        b"(ios\nsystem\n.",
        b"",
        b"hello",
        b"\x00" * 100,
    ],
)
def test_damaged_and_huge_ones_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"damaged|memory|uses"):
        read_pickle(data)


def test_a_tensor_cannot_be_more_than_its_bytes(tmp_path: Path) -> None:
    made = network(SMALL)
    huge = torch.zeros(1).expand(10**6, 10**6)
    made.synthesis.b4._buffers["resample_filter"] = Huge(huge)
    with pytest.raises(InputError, match="says that it has"):
        read_checkpoint(write(tmp_path / "a.pkl", pickled_huge(made)))


class Huge:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def clone(self) -> torch.Tensor:
        return self.tensor


def pickled_huge(made: Any) -> bytes:
    return pickled(made)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_half_a_file(share: float, tmp_path: Path) -> None:
    made = network(SMALL)
    for data in (
        pickled(made),
        saved({"g_ema": state_dictionary(made)}),
        saved({"g_ema": state_dictionary(made)}, False),
    ):
        with pytest.raises(InputError):
            read_checkpoint(write(tmp_path / "a.pkl", data[: int(len(data) * share)]))


def test_old_ones_of_tensorflow(tmp_path: Path) -> None:
    data = b"\x80\x03cdnnlib.tflib.network\nNetwork\n)\x81."
    with pytest.raises(InputError, match="TensorFlow"):
        read_checkpoint(write(tmp_path / "a.pkl", data))


def test_what_is_missing_and_what_is_too_much_is_listed(tmp_path: Path) -> None:
    state = state_dictionary(network(SMALL))
    del state["convs.1.noise.weight"]
    state["convs.9.noise.bias"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"missing are .*b8.conv1.noise_strength.*not be .*convs.9.noise.bias"):
        read_checkpoint(write(tmp_path / "a.pt", saved({"g_ema": state})))


def test_other_files_are_no_generators(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no file"):
        open_model(str(tmp_path / "none.safetensors"), "x")
    with pytest.raises(AssetError, match="convert"):
        open_model(str(write(tmp_path / "a.safetensors", b"hello")), "x")
    with pytest.raises(InputError, match="G_ema"):
        read_checkpoint(write(tmp_path / "a.pkl", pickle.dumps({"D": 1})))
    made = network(SMALL)
    convert(write(tmp_path / "b.pkl", pickled(made)), tmp_path / "b.safetensors")
    data = (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(AssetError, match="damaged"):
        open_model(str(write(tmp_path / "c.safetensors", data[:-100])), "x")
