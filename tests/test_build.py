"""What is asked of an encoder when a job is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from latent_inv import build
from latent_inv.spec import Encoder
from tests.test_objective import built

Asked = list[dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The fixed parts with which an encoder was asked; it answers with zeros, which the caller may change."""
    found: Asked = []

    def encode(passes: int, fixed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found.append({name: tensor.clone() for name, tensor in fixed.items()})
        return {"code": torch.zeros(1, 4, 4, 4)} if fixed else {"z": torch.zeros(1, 12)}

    monkeypatch.setattr(build, "_encode", lambda *_: encode)
    return found


def test_it_sees_with_the_classes_that_were_asked_for_not_with_drawn_ones(asked: Asked) -> None:
    made = built(generator="toy", conditions="class=3", initialiser=Encoder(count=6))
    assert asked
    assert all(fixed["class"].argmax().item() == 3 for fixed in asked)
    assert all(start["class"].argmax().item() == 3 for start in made.starts)


def test_classes_that_are_drawn_are_those_of_the_start(asked: Asked) -> None:
    made = built(generator="toy", initialiser=Encoder(count=6))
    assert [fixed["class"].tolist() for fixed in asked] == [start["class"].tolist() for start in made.starts]


def test_it_is_asked_once_where_it_has_one_answer(asked: Asked) -> None:
    made = built(initialiser=Encoder(count=6))
    assert len(asked) == 1
    made.starts[0]["z"].add_(7)
    assert (built(initialiser=Encoder()).starts[0]["z"] == 0).all()
    assert len(asked) == 2, "once a job"
