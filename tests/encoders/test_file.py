"""Encoders at rest: what goes in comes out, and what is no encoder of this generator is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from latent_inv.encoders import AmortisedEncoder, load_encoder, read_encoder, write_encoder
from latent_inv.errors import AssetError
from tests.contracts import loaded
from tests.encoders.helpers import SPACES, card_of, encoder_file, network_of

SIZE = (32, 32)


@pytest.mark.parametrize("where", SPACES)
def test_what_was_written_is_read(where: str, tmp_path: Path) -> None:
    """But for the rounding to float16."""
    network = network_of(where, SIZE)
    card = card_of(where, network, SIZE)
    write_encoder(tmp_path / "a", network, card)
    again, read = read_encoder(tmp_path / "a")
    assert read == card
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    found = again.state_dict()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(found[name], tensor.half().float()), name
            assert found[name].dtype == torch.float32
    write_encoder(tmp_path / "b", again, card)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_long_training_can_be_read_again(tmp_path: Path) -> None:
    """Batch normalisation counts its batches, and float16 ends at 65 504."""
    network = network_of("smooth", SIZE)
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.fill_(1_000_000)
    write_encoder(tmp_path / "a", network, card_of("smooth", network, SIZE))
    read_encoder(tmp_path / "a")


def test_an_encoder_is_of_its_generator_and_weights(tmp_path: Path) -> None:
    smooth = loaded("smooth")
    path = encoder_file(tmp_path)
    assert load_encoder(smooth, path).space_name == "z"
    with pytest.raises(AssetError, match=r"trained for generator smooth, this is dead.*train-encoder --generator dead"):
        load_encoder(loaded("dead"), path)
    for changed, said in (
        ({"weights_sha256": "2" * 64}, "weights 222222222222, this is 1111"),
        ({"space": "w"}, "space w"),
    ):
        with pytest.raises(AssetError, match=said) as caught:
            load_encoder(smooth, encoder_file(tmp_path, **changed))
        assert caught.value.field == "encoder"


def test_no_encoder_is_told_how_to_make_one() -> None:
    with pytest.raises(AssetError, match="train-encoder --generator smooth"):
        load_encoder(loaded("smooth"))


class Bomb:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def _with_card(data: bytes, change: Any) -> bytes:
    length = int.from_bytes(data[:8], "little")
    card = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["card"])
    return save(load(data), metadata={"card": change(card) if callable(change) else change})


def _changed(**fields: Any) -> Any:
    return lambda card: json.dumps({**card, **fields})


def _without(name: str) -> Any:
    return lambda card: json.dumps({key: value for key, value in card.items() if key != name})


CARDS: dict[str, Any] = {
    "no JSON": "{",
    "a list": "[]",
    "a number": "3",
    "deep": "[" * 100_000,
    "other format": _changed(format="latent_inv encoder 9"),
    **{f"no {name}": _without(name) for name in ("format", "generator", "size", "shape", "scores", "versions")},
    "scores are a list": _changed(scores=[1, 2]),
    "versions are text": _changed(versions="1.2"),
    "endless samples": _changed(samples=float("inf")),
    "one side": _changed(size=[32]),
    "other widths": _changed(shape={"widths": [8, 16, 16], "vectors": {"z": 12}, "maps": {}}),
    "huge widths": _changed(shape={"widths": [2**40, 2**40], "vectors": {"z": 12}, "maps": {}}),
    "negative widths": _changed(shape={"widths": [-8], "vectors": {"z": 12}, "maps": {}}),
    "no widths": _changed(shape={"widths": [], "vectors": {"z": 12}, "maps": {}}),
    "vectors are a list": _changed(shape={"widths": [8, 16, 32], "vectors": ["z"], "maps": {}}),
    "a map out of depth": _changed(shape={"widths": [8, 16, 32], "vectors": {"z": 12}, "maps": {"code": [4, 9]}}),
    "a name of a method": _changed(shape={"widths": [8, 16, 32], "vectors": {"z.a": 12}, "maps": {}}),
}


@pytest.mark.parametrize("what", CARDS)
def test_a_card_that_makes_no_sense_is_refused(what: str, tmp_path: Path) -> None:
    path = encoder_file(tmp_path)
    path.write_bytes(_with_card(path.read_bytes(), CARDS[what]))
    with pytest.raises(AssetError, match=r'"smooth\.safetensors" is no encoder, or damaged') as caught:
        read_encoder(path)
    assert caught.value.field == "encoder"
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999])
def test_a_file_that_is_cut_is_refused(share: float, tmp_path: Path) -> None:
    path = encoder_file(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(AssetError):
        read_encoder(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path, left = tmp_path / "encoder.safetensors", tmp_path / "left"
    torch.save({"weights": Bomb(left)}, path)
    with pytest.raises(AssetError, match="no encoder, or damaged"):
        read_encoder(path)
    assert not left.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_are_numbers(value: float, tmp_path: Path) -> None:
    network = network_of("smooth", SIZE)
    network.vector_out["z"].bias[3] = value
    write_encoder(tmp_path / "a", network, card_of("smooth", network, SIZE))
    with pytest.raises(AssetError, match="damaged"):
        read_encoder(tmp_path / "a")


@pytest.mark.parametrize("name", ["none.safetensors", "."])
def test_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="cannot be read") as caught:
        read_encoder(tmp_path / name)
    assert caught.value.field == "encoder"


def test_other_files_are_no_encoders(tmp_path: Path) -> None:
    for number, data in enumerate(
        (b"\0" * 100, b"\xff" * 100, save({"a": torch.zeros(2)}), b"\x02" + 7 * b"\0" + b"[]")
    ):
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        with pytest.raises(AssetError, match="no encoder, or damaged"):
            read_encoder(path)


def test_an_encoder_has_the_numbers_of_its_generator() -> None:
    network = network_of("smooth", SIZE)
    wide = AmortisedEncoder(network, card_of("smooth", network, SIZE), loaded("smooth", torch.float64))
    found = wide(torch.zeros(1, 3, 32, 32, dtype=torch.float64), passes=3)
    assert found["z"].dtype == torch.float64
