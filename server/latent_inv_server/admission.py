"""What a request for a job must be like before it becomes one. No I/O."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

from latent_inv.errors import InputError, LatentInvError, LimitError, unknown_name
from latent_inv.result import GeneratorInfo
from latent_inv.spec import JobSpec
from latent_inv.v1 import job_pb2

MAX_LABELS = 16
MAX_LABEL_CHARS = 63
#: a spec without its pictures and latents is kept in the database and told in lists
MAX_SUMMARY_BYTES = 32 * 1024

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class Asked:
    """A request for a job, as it is kept.

    Attributes:
        spec: the whole `JobSpec`, serialized.
        sha256: of the request without its request_id, to tell a repetition from another request.
        summary: the `JobSpec` without pictures and latents, serialized.
        artifacts: hashes of the uploads that stand for its pictures.
    """

    spec: bytes
    sha256: str
    summary: bytes
    labels: Mapping[str, str]
    artifacts: tuple[str, ...]


def check_id(value: str, field: str) -> None:
    """Refuse ids that are no ids.

    Raises:
        InputError: anything but 1 to 128 letters, digits, ".", "_" or "-", or only dots.
    """
    if not _ID.fullmatch(value) or not value.strip("."):
        raise InputError(f'must be 1 to 128 letters, digits, ".", "_" or "-", found {value[:40]!r}', field=field)


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels as they are kept.

    Raises:
        InputError: too many, too long, or with characters that are not printed.
    """
    if len(labels) > MAX_LABELS:
        raise InputError(f"at most {MAX_LABELS} labels are accepted, found {len(labels)}", field="labels")
    for key, value in labels.items():
        if not key:
            raise InputError("a label needs a name, found an empty one", field="labels")
        for text in (key, value):
            if len(text) > MAX_LABEL_CHARS:
                found = f"names and values have at most {MAX_LABEL_CHARS} characters, found {len(text)}"
                raise InputError(found, field="labels")
            if text and not text.isprintable():
                raise InputError(f"only printable characters are accepted, found {text[:40]!r}", field="labels")
    return dict(labels)


def read_request(spec: job_pb2.JobSpec, labels: Mapping[str, str]) -> Asked:
    """What is kept of a request. Hashes megabytes: not for the event loop.

    Raises:
        LimitError: the settings alone are too large.
    """
    data = spec.SerializeToString(deterministic=True)
    digest = hashlib.sha256(data)
    digest.update(json.dumps(dict(labels), sort_keys=True).encode())
    pictures = (spec.image, spec.weight)
    artifacts = tuple(picture.artifact_sha256 for picture in pictures if picture.HasField("artifact_sha256"))
    return Asked(data, digest.hexdigest(), summary_of(spec), labels, artifacts)


def summary_of(spec: job_pb2.JobSpec) -> bytes:
    """The spec without pictures and latents, serialized.

    Raises:
        LimitError: that is still too large.
    """
    summary = job_pb2.JobSpec()
    summary.CopyFrom(spec)
    summary.ClearField("image")
    summary.ClearField("weight")
    if summary.initialiser.HasField("given"):
        summary.initialiser.given.ClearField("latents")
    summary.DiscardUnknownFields()
    data = summary.SerializeToString(deterministic=True)
    if len(data) > MAX_SUMMARY_BYTES:
        text = f"settings beside pictures and latents have at most {MAX_SUMMARY_BYTES} bytes, found {len(data)}"
        raise LimitError(text, field="spec")
    return data


def check_known(spec: JobSpec, generators: Mapping[str, GeneratorInfo]) -> None:
    """Refuse what the engine would refuse later, as far as descriptions of generators tell.

    Raises:
        SpecError: there is no such generator, or it has no such space.
    """
    info = generators.get(spec.generator)
    if info is None:
        raise unknown_name("generator", spec.generator, list(generators), field="generator")
    if spec.space and spec.space not in info.spaces:
        raise unknown_name("space", spec.space, list(info.spaces), field="space")


def in_request(error: LatentInvError) -> LatentInvError:
    """The engine names fields of the spec; whoever asked knows them as fields of a request."""
    if not error.field:
        return error
    named = copy(error)  # the other one may be told elsewhere, too
    named.field = f"spec.{error.field}"
    return named
