"""How large a file of latents may be; compared with what headers say, before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from latent_inv.errors import LimitError


@dataclass(frozen=True)
class Limits:
    """How large a file of latents may be.

    Attributes:
        max_bytes: of the file, and of all its arrays once they are unpacked.
        max_parts: arrays in one file.
        max_header_bytes: of the header of a safetensors file, which is parsed as a whole.
    """

    max_bytes: int = 512 * 2**20
    max_parts: int = 64
    max_header_bytes: int = 4 * 2**20

    def check(self, found: int, what: str) -> None:
        """Raises: LimitError: over `max_bytes`."""
        if found > self.max_bytes:
            raise LimitError(f"{what} has {found} bytes, at most {self.max_bytes} are accepted", field="latents")

    def check_parts(self, found: int) -> None:
        """Raises: LimitError: over `max_parts`."""
        if found > self.max_parts:
            text = f"the file holds {found} arrays, at most {self.max_parts} are accepted"
            raise LimitError(text, field="latents")

    def check_header(self, found: int) -> None:
        """Raises: LimitError: over `max_header_bytes`."""
        if found > self.max_header_bytes:
            text = f"the header has {found} bytes, at most {self.max_header_bytes} are accepted"
            raise LimitError(text, field="latents")
