"""Clients of the service. No torch.

>>> from latent_inv.client import Client
>>> with Client("127.0.0.1:50051") as client:  # doctest: +SKIP
...     result = client.invert("photo.png", steps=100)
...     result.save("out")
...     job = client.jobs.create("photo.png", request_id="photo-1")  # goes on without this process
...     client.jobs.wait(job.job_id).result.save("out")
...     client.artifacts.download(client.jobs.get(job.job_id).artifacts["reconstruction.png"], "reconstruction.png")
"""

from __future__ import annotations

from .artifact import Artifact
from .asynchronous import AsyncClient
from .blocking import Client
from .job import Job

__all__ = ["Artifact", "AsyncClient", "Client", "Job"]
