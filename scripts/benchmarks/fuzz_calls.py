"""Every call of every service, with requests that are right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import Message

from latent_inv import convert
from latent_inv.client.job import job_from
from latent_inv.client.messages import create_request, encode_request, read_event, sample_request
from latent_inv.spec import (
    CMAES,
    LBFGS,
    Adam,
    Budget,
    DecodeSpec,
    Encoder,
    GaussNewton,
    Halving,
    LatentPrior,
    LevenbergMarquardt,
    Perceptual,
    Pixel,
    Reporting,
    Seeds,
    TotalVariation,
)
from latent_inv.v1 import artifact_service_pb2 as files
from latent_inv.v1 import generator_service_pb2 as generators
from latent_inv.v1 import inversion_service_pb2 as inversions
from latent_inv.v1 import job_service_pb2 as jobs

from .fuzz_files import pictures

#: a small one: what is asked here is whether requests are understood, and not how well pictures are found
GENERATOR, SIDE, LATENTS = "smooth", 32, 12

Read = Callable[[Any], Any]


@dataclass
class Method:
    """One call of a service.

    Attributes:
        path: as on the wire.
        good: requests that are right; of a stream, its messages one after the other.
        read: makes the library's value of an answer, as clients do.
    """

    path: str
    good: list[list[Message]]
    answer: type[Message]
    read: Read = lambda _: None
    sends: bool = False
    receives: bool = False


def services(seed: int) -> dict[str, list[Method]]:
    """Good requests of every kind, by service."""
    made = [create(number, picture, **arguments) for number, (picture, arguments) in enumerate(asked(seed))]
    sha = hashlib.sha256(b"good").hexdigest()
    package = "/latent_inv.v1."
    z = np.zeros((2, LATENTS), np.float32)
    sampled = [sample_request((1, 2), GENERATOR, space="z", height=SIDE, width=SIDE, dtype="float32")]
    decoded = [
        convert.decode_message(DecodeSpec(latents={"z": array}, generator=GENERATOR, dtype=kind))
        for array, kind in ((z, "float32"), (z[:1].astype(np.float64), "float64"), (z.astype(np.float16), "float32"))
    ]
    encoded = [
        encode_request(picture, GENERATOR, space="", crop=None, value_range=None, dtype="float32")
        for picture in pictures(seed)[:4]
    ]
    header = files.UploadArtifactHeader(sha256=sha, size=4, content_type="image/png")
    upload = [
        files.UploadArtifactRequest(header=header),
        *(files.UploadArtifactRequest(chunk=b) for b in (b"go", b"od")),
    ]
    job_ids = ["nobody", "0" * 32]

    def one(messages: list[Any]) -> list[list[Message]]:
        return [[message] for message in messages]

    def calls(service: str, *methods: Method) -> list[Method]:
        for method in methods:
            method.path = f"{package}{service}/{method.path}"
        return list(methods)

    inverted = [inversions.InvertRequest(spec=message.spec, detach=False) for message in made]
    return {
        "inversion": calls(
            "InversionService",
            Method("Invert", one(inverted), inversions.InvertResponse, lambda m: read_event(m, ""), receives=True),
        ),
        "jobs": calls(
            "JobService",
            Method("CreateJob", one(made), jobs.CreateJobResponse, lambda m: job_from(m.job)),
            Method("GetJob", one([jobs.GetJobRequest(job_id=i) for i in job_ids]), jobs.GetJobResponse),
            Method(
                "ListJobs",
                one(
                    [
                        jobs.ListJobsRequest(page_size=3, labels={"a": "b"}),
                        jobs.ListJobsRequest(states=[jobs.JOB_STATE_QUEUED, jobs.JOB_STATE_SUCCEEDED]),
                    ]
                ),
                jobs.ListJobsResponse,
                lambda m: [job_from(job) for job in m.jobs],
            ),
            Method("CancelJob", one([jobs.CancelJobRequest(job_id=i) for i in job_ids]), jobs.CancelJobResponse),
            Method("DeleteJob", one([jobs.DeleteJobRequest(job_id=i) for i in job_ids]), jobs.DeleteJobResponse),
            Method(
                "WatchJob",
                one([jobs.WatchJobRequest(job_id=i, after_sequence=3) for i in job_ids]),
                jobs.WatchJobResponse,
                receives=True,
            ),
        ),
        "generators": calls(
            "GeneratorService",
            Method(
                "ListGenerators",
                one([generators.ListGeneratorsRequest()]),
                generators.ListGeneratorsResponse,
                lambda m: [convert.info_from(item) for item in m.generators],
            ),
            Method(
                "ListLoadedGenerators",
                one([generators.ListLoadedGeneratorsRequest()]),
                generators.ListLoadedGeneratorsResponse,
                convert.residents_from,
            ),
            Method(
                "LoadGenerator",
                one(
                    [
                        generators.LoadGeneratorRequest(
                            generator=GENERATOR, dtype="DTYPE_FLOAT32", precision="PRECISION_AUTO"
                        )
                    ]
                ),
                generators.LoadGeneratorResponse,
                convert.residents_from,
            ),
            Method(
                "UnloadGenerator",
                one([generators.UnloadGeneratorRequest(generator=GENERATOR)]),
                generators.UnloadGeneratorResponse,
                convert.residents_from,
            ),
            Method(
                "GetGenerator",
                one([generators.GetGeneratorRequest(name=GENERATOR)]),
                generators.GetGeneratorResponse,
                lambda m: convert.info_from(m.generator),
            ),
            Method("Sample", one(sampled), generators.SampleResponse, convert.sampled_from),
            Method("Decode", one(decoded), generators.DecodeResponse, convert.decoded_from),
            Method("Encode", one(encoded), generators.EncodeResponse, convert.encoded_from),
        ),
        "artifacts": calls(
            "ArtifactService",
            Method("UploadArtifact", [list(upload)], files.UploadArtifactResponse, sends=True),
            Method("GetArtifact", one([files.GetArtifactRequest(sha256=sha)]), files.GetArtifactResponse),
            Method("ListArtifacts", one([files.ListArtifactsRequest(page_size=2)]), files.ListArtifactsResponse),
            Method(
                "DownloadArtifact",
                one([files.DownloadArtifactRequest(sha256=sha, offset=1)]),
                files.DownloadArtifactResponse,
                receives=True,
            ),
            Method("DeleteArtifact", one([files.DeleteArtifactRequest(sha256=sha)]), files.DeleteArtifactResponse),
        ),
    }


def asked(seed: int) -> list[tuple[Any, dict[str, Any]]]:
    """Pictures and settings of jobs that are right, as different as they can be."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(-1, 1, (SIDE, SIDE, 3)).astype(np.float32)
    png, jpeg = pictures(seed)[4], pictures(seed)[13]
    z = rng.standard_normal((1, LATENTS)).astype(np.float32)
    few = Budget(steps=2, seconds=1.0, target_psnr_db=30.0, target_lpips=0.1)
    return [
        (png, {"solver": Adam(), "initialiser": Seeds(), "budget": Budget(steps=1), "labels": {"a": "b"}}),
        (jpeg, {"weight": np.ones((9, 12), np.float32), "losses": (Pixel(kind="huber"), Perceptual(weight=0.5))}),
        (pixels, {"value_range": (-1, 1), "crop": (0, 0, 16, 16), "solver": LBFGS(), "budget": few}),
        ((pixels + 1) / 2, {"value_range": (0, 1), "start": {"z": z}, "losses": (LatentPrior(), TotalVariation())}),
        (
            (pixels * 127 + 127).astype(np.uint8),
            {"value_range": (0, 255), "initialiser": Halving(), "dtype": "float64"},
        ),
        (png, {"solver": LevenbergMarquardt(), "initialiser": Encoder(), "reporting": Reporting(preview_steps=1)}),
        (png, {"solver": CMAES(), "priority": "bulk", "lane_width": 2, "seed": 2**62}),
        (png, {"solver": GaussNewton(), "perceptual": "stlpips-alex", "space": "z"}),
    ]


def create(number: int, picture: Any, *, labels: Any = None, **arguments: Any) -> jobs.CreateJobRequest:
    """A request that makes a job."""
    name = f"fuzz-{number}"
    return create_request(picture, GENERATOR, arguments, request_id=name, labels=labels)
