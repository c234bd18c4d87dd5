"""Toys among the generators."""

from __future__ import annotations

import pytest

from latent_inv.generators import GENERATORS
from tests.toy import TOYS


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in TOYS.items():
        monkeypatch.setitem(GENERATORS, name, kind)
