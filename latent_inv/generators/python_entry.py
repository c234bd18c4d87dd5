"""`python:PACKAGE.MODULE:FACTORY`: a generator that the user's own, installed code makes.

The factory takes no arguments and returns a subclass of `Generator`, or a pair: a module of torch with its weights, and
what else a text beside a file would say, as a dictionary. It runs in this process with all that this process may do, so
only whoever works in it, or the operator of a server in its settings, can name one.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from latent_inv.errors import AssetError, LatentInvError
from latent_inv.incidents import brief, is_out_of_memory
from latent_inv.types import Latents

from .base import Generator, LoadProgress
from .own.adapter import Own, attributes
from .own.description import describe
from .own.signature import Form, Signature

logger = logging.getLogger(__name__)

_ENTRY = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_EXAMPLE = '{"range": [-1.0, 1.0], "size": [64, 64], "latents": {"z": {"shape": [16]}}}'
#: what a class must say of itself
_NEEDED = ("title", "spaces", "default_space")


class FromModule(Own):
    """A module that a factory returned; it is copied, so that number formats do not share weights."""

    module: ClassVar[nn.Module]

    @classmethod
    def make_network(cls, device: torch.device, dtype: torch.dtype) -> nn.Module:
        return _Guard(cls.file)("copying it", lambda: copy.deepcopy(cls.module).to(device=device, dtype=dtype))

    def _decode(self, latents: Latents) -> Tensor:
        decode = super()._decode
        return _Guard(self.file)("decoding", lambda: decode(latents))


def open_python(reference: str, name: str) -> type[Generator]:
    """The class that an entry makes.

    Args:
        reference: "package.module:factory".
        name: what the generator is to be called.
    Raises:
        AssetError: there is no such entry, its code failed, or it made something else.
    """
    found = _ENTRY.fullmatch(reference)
    if found is None:
        raise AssetError(f'"python:{reference:.80}" names no factory; for example: python:mypackage.generators:make')
    module, factory = found.groups()
    with_errors = _Guard(f"python:{reference}")
    code = with_errors("importing it", lambda: importlib.import_module(module))
    make = getattr(code, factory, None)
    if not callable(make):
        raise AssetError(f'the module {module} has no "{factory}" that could be called (python:{reference})')
    if inspect.isclass(make) and issubclass(make, Generator):
        return _of_class(make, name, with_errors)
    made = with_errors("calling it", make)
    if inspect.isclass(made) and issubclass(made, Generator):
        return _of_class(made, name, with_errors)
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module) and isinstance(made[1], Mapping):
        return _of_module(made[0], made[1], name, with_errors.entry)
    raise AssetError(
        f"python:{reference} made a {type(made).__name__}; it must return a subclass of Generator, "
        f"or a module of torch and a dictionary such as {_EXAMPLE}"
    )


def _of_class(kind: type[Generator], name: str, guard: _Guard) -> type[Generator]:
    lacking = [one for one in _NEEDED if not hasattr(kind, one)]
    if lacking:
        raise AssetError(
            f"{guard.entry}: {kind.__name__} lacks {', '.join(lacking)}; see latent_inv.generators.Generator"
        )
    if kind.default_space not in kind.spaces:
        text = f'its default_space "{kind.default_space!s:.40}" is none of its spaces'
        raise AssetError(f"{guard.entry}: {text}: {', '.join(kind.spaces)}")
    if inspect.isabstract(kind):
        raise AssetError(f"{guard.entry}: {kind.__name__} must define {', '.join(sorted(kind.__abstractmethods__))}")

    class Guarded(kind):  # type: ignore[misc, valid-type]
        """The user's class; what its code raises names the entry."""

        @classmethod
        def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Generator:
            loaded = guard("loading it", lambda: super(Guarded, cls).load(device, dtype, progress))
            if not isinstance(loaded, cls):
                found = type(loaded).__name__
                raise AssetError(
                    f"{guard.entry}: load returned a {found}, expected `cls(network)`, of the class it is asked"
                )
            return loaded

        def _decode(self, latents: Latents) -> Tensor:
            return guard("decoding", lambda: super(Guarded, self)._decode(latents))

        def encode(self, images: Tensor) -> Latents | None:
            return guard("encoding", lambda: super(Guarded, self).encode(images))

    Guarded.__name__ = Guarded.__qualname__ = kind.__name__
    Guarded.name = name
    return Guarded


def _of_module(module: nn.Module, table: Mapping[str, Any], name: str, entry: str) -> type[Generator]:
    latents = table.get("latents")
    if not isinstance(latents, Mapping) or not latents:
        raise AssetError(
            f"{entry}: latents is missing, in the order of the module's arguments; for example: {_EXAMPLE}"
        )
    # What a dictionary says is all that is known of a module.
    signature = Signature(tuple(Form(str(part), ()) for part in latents))
    kind = type(module).__name__
    description = describe(table, signature, entry, kind)
    own = attributes(
        description, signature, name=name, file=entry, beside=entry, sha256=weights_of(module), module=module
    )
    return type(kind, (FromModule,), own)


def weights_of(module: nn.Module) -> str:
    """SHA-256 of a module's weights by name; of one without, of what it is called."""
    digest = hashlib.sha256(f"{type(module).__module__}.{type(module).__qualname__}".encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _Guard:
    """Runs the user's code: what it raises is told in one sentence that names the entry, and whole in the log."""

    def __init__(self, entry: str) -> None:
        self.entry = entry

    def __call__(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except LatentInvError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            logger.exception("%s failed at %s", self.entry, what)
            raise AssetError(f"{self.entry} failed at {what}: {brief(error)}") from error


__all__ = ["FromModule", "open_python", "weights_of"]
