"""Generators by name and by reference: `faces` stands in a table, `diffusers:/models/vae` is opened by its family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from latent_inv.errors import SpecError, unknown_name

from .base import Generator

#: open(reference, name): looks at what the reference means, without loading weights, and gives a class made for it.
#: `reference` is what follows "family:", `name` what the generator is to be called. Raises AssetError, SpecError.
Opener = Callable[[str, str], type[Generator]]


class GeneratorTable(Mapping[str, type[Generator]]):
    """Generators by name, in the order in which they are listed.

    Args:
        fixed: those that stand in a table.
        families: prefix -> opener.
        aliases: name -> reference, "family:…", opened when first asked for.
        open_any: may whoever asks give a reference himself? A server's clients may not: it names files.
    Raises:
        SpecError: an alias takes the name of another generator, or is of no family.
    """

    def __init__(
        self,
        fixed: Mapping[str, type[Generator]],
        families: Mapping[str, Opener] | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        open_any: bool = False,
    ) -> None:
        self._fixed, self._families, self._open_any = dict(fixed), dict(families or {}), open_any
        self._aliases = dict(aliases or {})
        self._opened: dict[str, type[Generator]] = {}
        for name, reference in self._aliases.items():
            if name in self._fixed:
                raise SpecError(f'"{name:.80}" is the name of another generator', field="generators")
            if not self._is_reference(reference):
                raise unknown_name("family of generators", reference, self.forms, field="generators")

    @property
    def forms(self) -> list[str]:
        """What a reference may begin with."""
        return [f"{family}:…" for family in self._families]

    def find(self, name: str) -> type[Generator]:
        """The adapter called `name`.

        Raises:
            SpecError: there is none. AssetError: what a reference means is not there, or cannot be used.
        """
        if name in self._fixed:
            return self._fixed[name]
        reference = self._aliases.get(name, name if self._open_any else "")
        if not self._is_reference(reference):
            raise unknown_name("generator", name, [*self, *(self.forms if self._open_any else ())], field="generator")
        if name not in self._opened:
            family, _, rest = reference.partition(":")
            self._opened[name] = self._families[family](rest, name)
        return self._opened[name]

    def _is_reference(self, text: str) -> bool:
        family, colon, rest = text.partition(":")
        return bool(colon and rest) and family in self._families

    def __getitem__(self, name: str) -> type[Generator]:
        try:
            return self.find(name)
        except SpecError as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        yield from self._fixed
        yield from self._aliases

    def __len__(self) -> int:
        return len(self._fixed) + len(self._aliases)
