"""Training: it learns, and goes on after a stop as if there had been none."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from latent_inv.encoders import training
from latent_inv.encoders.training import CHECKPOINT_FILE, Look, Training
from latent_inv.errors import InputError, SpecError
from tests.encoders.helpers import train, trainer_of
from tests.encoders.test_file import Bomb


@pytest.fixture(autouse=True)
def _own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of a second between two looks at the clock: the learning rate depends on the time."""
    now = iter(range(10**9))
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: next(now) / 16))


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    """Of the network and of the average that is kept."""
    states = {"network": trainer.network.state_dict(), "kept": trainer.kept.state_dict()}
    return {f"{name} {key}": tensor.clone() for name, state in states.items() for key, tensor in state.items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_it_learns_the_way_back() -> None:
    """Before training, the mean of the prior is the answer; a few decibels above it come within 250 small steps."""
    trainer = trainer_of(batch=16, pixel_rows=0, perceptual_rows=0, learning_rate=5e-3, average=0.9)
    before = trainer.scores(32)
    train(trainer, 250)
    after = trainer.scores(32)
    for name in ("psnr_db after 1 pass", "psnr_db after 2 passes", "psnr_db jpeg50 after 2 passes"):
        assert after[name] > before[name] + 1.5, name
    assert after["lpips after 2 passes"] < before["lpips after 2 passes"]
    assert after["psnr_db after 2 passes"] > after["psnr_db after 1 pass"], "a look at the reconstruction helps"


def test_scores_are_of_latents_that_are_never_trained_on() -> None:
    trainer = trainer_of()
    scores = trainer.scores(8)
    assert set(scores) == {
        f"{what}after {n} pass{'es' * (n > 1)}" for what in ("psnr_db ", "psnr_db jpeg50 ", "lpips ") for n in (1, 2, 3)
    }
    train(trainer, 1)
    other = trainer_of(seed=1)
    assert trainer_of().scores(8) == scores, "the same set each time"
    assert other.scores(8) != scores


@pytest.mark.parametrize(("generator", "space"), [("smooth", "z"), ("toy", "code"), ("toy", "code+class")])
def test_a_training_goes_on_as_if_it_had_not_stopped(generator: str, space: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"perceptual_rows": 1, "late": 0.0}
    straight = trainer_of(generator, space, **settings)
    train(straight, 6)
    first = trainer_of(generator, space, **settings)
    begun = weights(first)
    train(first, 3)
    first.save(tmp_path)
    second = trainer_of(generator, space, **settings)
    second.restore(tmp_path)
    assert (second.steps, second.seconds) == (3, 3 / 16)
    train(second, 3)
    assert equal(weights(straight), weights(second))
    assert (straight.steps, straight.seconds) == (second.steps, second.seconds)
    assert not equal(begun, weights(second))
    train(first, 3)
    assert equal(weights(straight), weights(first)), "saving changes nothing"


def test_a_step_depends_on_its_number_and_the_seed_alone() -> None:
    first, second, other = trainer_of(), trainer_of(), trainer_of(seed=1)
    train(first, 2)
    torch.manual_seed(7)
    train(second, 2)
    train(other, 2)
    assert equal(weights(first), weights(second))
    assert not equal(weights(first), weights(other))


def test_global_randomness_and_the_generator_are_left_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    trainer = trainer_of()
    before = {name: tensor.clone() for name, tensor in trainer.generator.network.state_dict().items()}
    train(trainer, 2)
    assert torch.equal(torch.get_rng_state(), state)
    after = trainer.generator.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(parameter.grad is not None for parameter in trainer.generator.network.parameters())


def test_it_looks_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    """12 seconds at 1/16 a step; a look every 5 seconds at most, each one saved."""
    trainer = trainer_of(minutes=0.2)
    found = list(trainer.run(tmp_path))
    assert trainer.steps == 12 * 16
    looks = [look for look in found if look is not None]
    assert looks == trainer.looks
    assert [look.step for look in looks] == [80, 160, 192]
    assert all(isinstance(look, Look) and look.scores for look in looks)
    again = trainer_of(minutes=0.2)
    again.restore(tmp_path)
    assert again.looks == looks
    assert list(again.run()) == [], "there is no time left"
    longer = trainer_of(minutes=0.3)
    longer.restore(tmp_path)
    train(longer, 1)
    assert longer.steps == 193


def test_the_learning_rate_rises_and_falls() -> None:
    trainer = trainer_of(minutes=0.2, learning_rate=0.01)
    rates = [trainer.optimiser.param_groups[0]["lr"] for _ in trainer.run()]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) < 0.01
    assert rates[-1] < 1e-5


# ---- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generator", "space", "changed"),
    [
        ("dead", "", {}),
        ("smooth", "", {"width": 16}),
        ("smooth", "", {"seed": 1}),
        ("smooth", "", {"learning_rate": 1e-3}),
    ],
)
def test_another_training_in_the_folder_is_refused(
    generator: str, space: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    trainer_of().save(tmp_path)
    with pytest.raises(InputError, match="another training") as caught:
        trainer_of(generator, space, **changed).restore(tmp_path)
    assert caught.value.field == "out"


def test_another_space_in_the_folder_is_refused(tmp_path: Path) -> None:
    trainer_of("toy", "code").save(tmp_path)
    with pytest.raises(InputError, match="another training"):
        trainer_of("toy", "code+class").restore(tmp_path)


def test_other_weights_of_the_generator_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer_of().save(tmp_path)
    other = trainer_of()
    monkeypatch.setattr(type(other.generator), "weights_sha256", "2" * 64)
    with pytest.raises(InputError, match="another training"):
        other.restore(tmp_path)


def test_a_damaged_training_is_refused_and_nothing_is_unpickled(tmp_path: Path) -> None:
    trainer = trainer_of()
    trainer.save(tmp_path)
    file = tmp_path / CHECKPOINT_FILE
    whole = file.read_bytes()
    torch.save({"said": Bomb(tmp_path / "left")}, tmp_path / "bomb")
    for data in (b"", b"no", whole[: len(whole) // 2], (tmp_path / "bomb").read_bytes()):
        file.write_bytes(data)
        with pytest.raises(InputError) as caught:
            trainer.restore(tmp_path)
        assert "damaged" in caught.value.message or "empty" in caught.value.message
    assert not (tmp_path / "left").exists()
    file.unlink()
    with pytest.raises(InputError):
        trainer.restore(tmp_path)


def test_without_a_gradient_the_latents_alone_are_learnt() -> None:
    for changed in ({"pixel": 0.0}, {"perceptual": 0.0}):
        with pytest.raises(SpecError, match="set pixel and perceptual to 0"):
            trainer_of("frozen", **changed)
    trainer = trainer_of("frozen", pixel=0.0, perceptual=0.0)
    before = weights(trainer)
    train(trainer, 2)
    assert not equal(before, weights(trainer))


def test_every_setting_is_told_and_checked() -> None:
    for item in fields(Training):
        assert item.metadata["doc"].endswith(".")
    with pytest.raises(SpecError) as caught:
        Training(batch=0)
    assert caught.value.field == "batch"
    with pytest.raises(SpecError, match="unknown space"):
        trainer_of("smooth", "w")
