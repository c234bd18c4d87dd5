"""`exported:FILE.pt2`: a program of `torch.export.save`, with a text beside it that says what its numbers mean."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from latent_inv.errors import AssetError, LatentInvError
from latent_inv.files import open_regular, sha256_of

from .base import Generator
from .own.adapter import Own, attributes
from .own.description import describe, read_table
from .own.graph import Graph
from .own.pt2 import Archive


class Exported(Own):
    """A program whose operators are run one by one; see `own.graph`."""

    path: ClassVar[Path]

    @classmethod
    def make_network(cls, device: torch.device, dtype: torch.dtype) -> nn.Module:
        if sha256_of(cls.path) != cls.weights_sha256:
            raise AssetError(f"{cls.file} is another file than when it was opened; start again")
        archive = Archive(cls.path)
        try:
            return Graph(archive, device, dtype)
        finally:
            archive.close()


def open_exported(reference: str, name: str) -> type[Generator]:
    """The class of one file; its weights stay where they are.

    Args:
        reference: path of the file.
        name: what the generator is to be called.
    Raises:
        AssetError: the file or the text beside it is not there, or cannot be used.
    """
    path = Path(reference).expanduser()
    beside = path.with_suffix(".toml").name
    regular(path)
    archive = Archive(path)
    try:
        signature = archive.signature()
    finally:
        archive.close()
    description = describe(read_table(path), signature, beside, path.stem)
    own = attributes(
        description, signature, name=name, file=path.name, beside=beside, sha256=sha256_of(path), path=path.absolute()
    )
    return type("Exported", (Exported,), own)


def regular(path: Path) -> None:
    """Raises: AssetError: there is no such file, or it is a folder or device."""
    try:
        open_regular(path).close()
    except LatentInvError as error:
        raise AssetError(error.message) from error
