"""Between the wire and the library's values. No torch.

settings   any settings class ⇄ its message, field by field, by name; nothing here knows a single component
tensors    arrays and pictures ⇄ messages, sizes checked before anything is allocated
requests   what is asked for: messages → specs, and back
answers    what comes back: results and events → messages, and back
"""

from __future__ import annotations

from .answers import (
    decoded_from,
    decoded_to,
    encoded_from,
    encoded_to,
    info_from,
    info_to,
    preview_from,
    preview_to,
    progress_from,
    progress_to,
    result_from,
    result_to,
    sampled_from,
    sampled_to,
)
from .requests import (
    crop_to,
    decode_message,
    decode_spec,
    encode_message,
    encode_spec,
    job_message,
    job_spec,
    sample_message,
    sample_spec,
)
from .residents import load_message, load_spec, residents_from, residents_to
from .tensors import Contents, array_from, array_to, image_from, image_to, latents_from, latents_to, uploaded_to

__all__ = [
    "Contents",
    "array_from",
    "array_to",
    "crop_to",
    "decode_message",
    "decode_spec",
    "decoded_from",
    "decoded_to",
    "encode_message",
    "encode_spec",
    "encoded_from",
    "encoded_to",
    "image_from",
    "image_to",
    "info_from",
    "info_to",
    "job_message",
    "job_spec",
    "load_message",
    "load_spec",
    "latents_from",
    "latents_to",
    "preview_from",
    "preview_to",
    "progress_from",
    "progress_to",
    "residents_from",
    "residents_to",
    "result_from",
    "result_to",
    "sample_message",
    "sample_spec",
    "sampled_from",
    "sampled_to",
    "uploaded_to",
]
