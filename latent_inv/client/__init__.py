"""Clients of the service. No torch.

>>> from latent_inv.client import Client
>>> with Client("127.0.0.1:50051") as client:  # doctest: +SKIP
...     result = client.invert("photo.png", steps=100)
...     result.save("out")
"""

from __future__ import annotations

from .asynchronous import AsyncClient
from .blocking import Client

__all__ = ["AsyncClient", "Client"]
