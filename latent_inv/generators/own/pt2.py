"""Files of `torch.export.save`, read without `torch.export.load`.

That one unpickles example inputs and constants, evaluates texts as Python (sizes, guards), looks names up in all of
torch and what it imports, and loads compiled code: whoever makes such a file can run anything. Here a file is JSON and
raw numbers; everything in it that is neither is refused, or (example inputs, guards, notes on where code came from)
never looked at. The layout is that of torch.export's schema 8, in archives of version 0.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latent_inv.errors import AssetError, LatentInvError
from latent_inv.incidents import is_out_of_memory

from .signature import BOUNDS, Form, Signature

#: most members of an archive, and bytes of what is parsed as a whole
_MAX_MEMBERS, _MAX_JSON = 50_000, 256 * 2**20
_SCHEMA = 8
#: codes of number formats in the schema
DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
    7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_SYMBOL = re.compile(r"(?:Symbol\('([a-z]+[0-9]+)'(?:, *[a-z]+=True)*\)|([a-z]+[0-9]+))")
_AGAIN = "export it again with this version of torch, as `torch.export.save(program, path)`"


class Archive:
    """An open file.

    Args:
        path: of the operator's or the user's choice, never a client's.
    Raises:
        AssetError: it is none, it is damaged, or it holds what is never read.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        with self.reading():
            self._zip = zipfile.ZipFile(path)
            self._members = self._look(path.stat().st_size)
            self.program: Mapping[str, Any] = self._json(self._only_program())
            if self.program["schema_version"]["major"] != _SCHEMA:
                found = str(self.program["schema_version"]["major"])
                raise AssetError(f"{self.name} has version {found:.20} of torch.export, {_SCHEMA} is read; {_AGAIN}")

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def signature(self) -> Signature:
        """What the program takes and gives.

        Raises:
            AssetError: it needs other inputs than tensors, gives more than a picture, or changes its own weights.
        """
        with self.reading():
            module = self.program["graph_module"]
            graph, specs = module["graph"], module["signature"]
            inputs = [
                _named(one["user_input"]["arg"], self.name) for one in specs["input_specs"] if "user_input" in one
            ]
            for one in specs["input_specs"]:
                if not {"user_input", "parameter", "buffer", "tensor_constant", "constant_input"} & set(one):
                    raise AssetError(
                        f"{self.name} needs an input of the kind {next(iter(one))!s:.40}, which is not read"
                    )
            others = [str(kind) for one in specs["output_specs"] for kind in one if kind != "user_output"]
            if others:
                text = f"{self.name} changes what it is given or its own weights ({others[0]:.40})"
                raise AssetError(f"{text}; call .eval() on the module before it is exported")
            if len(specs["output_specs"]) != 1:
                found = len(specs["output_specs"])
                raise AssetError(f"{self.name} gives {found} results; export a module that gives the picture alone")
            output = _named(specs["output_specs"][0]["user_output"]["arg"], self.name)
            least, most = self._rows([*inputs, output])
            last = next((n["target"] for n in graph["nodes"] if n["outputs"] == [{"as_tensor": {"name": output}}]), "")
            return Signature(
                inputs=tuple(self._form(name) for name in inputs),
                picture=self._form(output),
                least=least,
                most=most,
                bounds=BOUNDS.get(str(last).removeprefix("torch.ops.aten.").removesuffix(".default").removesuffix("_")),
            )

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers and constants, by the names that the graph has for them.

        Raises:
            AssetError: one is missing, pickled, or not what the file says of it.
        """
        with self.reading():
            found = {
                kind: self._payload(f"data/{kind}/{self._program_name()}_{kind}_config.json", f"data/{kind}/")
                for kind in ("weights", "constants")
            }
            tensors: dict[str, Tensor] = {}
            for one in self.program["graph_module"]["signature"]["input_specs"]:
                ((kind, spec),) = one.items()
                if kind in ("parameter", "buffer", "tensor_constant"):
                    name = spec[f"{kind}_name"]
                    held = found["weights"].get(name, found["constants"].get(name))
                    if held is None:
                        raise AssetError(f'{self.name} has no numbers for "{name!s:.80}"')
                    tensors[spec["arg"]["name"]] = held
            return tensors

    def constants(self) -> dict[str, Any]:
        """Inputs that were fixed when the program was exported: name -> None, number or text."""
        with self.reading():
            fixed: dict[str, Any] = {}
            for one in self.program["graph_module"]["signature"]["input_specs"]:
                if "constant_input" in one:
                    ((kind, value),) = one["constant_input"]["value"].items()
                    fixed[one["constant_input"]["name"]] = None if kind == "as_none" else value
            return fixed

    def _look(self, size: int) -> dict[str, zipfile.ZipInfo]:
        """Members without the archive's folder; everything that is refused is refused by its header."""
        infos = self._zip.infolist()
        if len(infos) > _MAX_MEMBERS:
            raise AssetError(f"{self.name} has {len(infos)} members, at most {_MAX_MEMBERS} are accepted")
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
            raise AssetError(f"{self.name} has compressed members, which torch.export.save never writes")
        if sum(info.file_size for info in infos) > size:
            raise AssetError(f"{self.name} says that it holds more than its {size} bytes")
        members = {info.filename.partition("/")[2]: info for info in infos}
        for name in members:
            if name.startswith(("data/aotinductor/", "data/executorch/")):
                raise AssetError(f"{self.name} holds compiled code, which is never loaded; {_AGAIN}")
        if any(info.filename.endswith("serialized_exported_program.json") for info in infos):
            raise AssetError(f"{self.name} was saved by an old torch; {_AGAIN}")
        if "archive_format" not in members or self._zip.read(members["archive_format"]) != b"pt2":
            raise AssetError(f"{self.name} is cut off, or a zip archive of something else than torch.export.save")
        if "byteorder" in members and self._zip.read(members["byteorder"]).strip() != b"little":
            raise AssetError(f"{self.name} was saved on a machine with another byte order; {_AGAIN}")
        return members

    def _only_program(self) -> str:
        names = [name for name in self._members if name.startswith("models/") and name.endswith(".json")]
        if len(names) != 1:
            raise AssetError(f"{self.name} holds {len(names)} programs, exactly one is accepted")
        return names[0]

    def _program_name(self) -> str:
        return self._only_program().removeprefix("models/").removesuffix(".json")

    def _json(self, member: str) -> Any:
        if member not in self._members:
            raise AssetError(f'{self.name} lacks "{member:.80}"; {_AGAIN}')
        if self._members[member].file_size > _MAX_JSON:
            raise AssetError(f'"{member:.80}" of {self.name} is over {_MAX_JSON // 2**20} MiB')
        return json.loads(self._zip.read(self._members[member]))

    def _payload(self, config: str, folder: str) -> dict[str, Tensor]:
        held: dict[str, Tensor] = {}
        read: dict[str, bytearray] = {}
        for name, meta in self._json(config)["config"].items():
            if meta["use_pickle"] or not re.fullmatch(r"(weight|tensor)_[0-9]+", meta["path_name"]):
                raise AssetError(
                    f'{self.name} has "{name!s:.80}" as a pickle, which could run code; it is never opened'
                )
            member = folder + meta["path_name"]
            if member not in read:
                read[member] = bytearray(self._zip.read(self._members[member]))
            held[name] = self._tensor(str(name), meta["tensor_meta"], read[member])
        return held

    def _tensor(self, name: str, meta: Mapping[str, Any], data: bytearray) -> Tensor:
        dtype = DTYPES[meta["dtype"]]
        sizes, strides = ([int(one["as_int"]) for one in meta[key]] for key in ("sizes", "strides"))
        count: int = math.prod(sizes)
        offset, itemsize = int(meta["storage_offset"]["as_int"]), torch.empty(0, dtype=dtype).element_size()
        reach = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1
        if min([*sizes, *strides, offset], default=0) < 0 or (count and reach * itemsize > len(data)):
            raise AssetError(f'{self.name} has {len(data)} bytes for "{name:.80}", and says that they are more')
        if count * itemsize > max(len(data), 2**20):
            raise AssetError(f'{self.name} blows "{name:.80}" up to {count} numbers')
        if not count:
            return torch.empty(sizes, dtype=dtype)
        flat = torch.frombuffer(data, dtype=dtype, count=len(data) // itemsize)
        return flat.as_strided(sizes, strides, offset)

    def _meta(self, name: str) -> Mapping[str, Any]:
        return self.program["graph_module"]["graph"]["tensor_values"][name]

    def _form(self, name: str) -> Form:
        meta = self._meta(name)
        dtype = DTYPES.get(meta["dtype"])
        sides = tuple(int(side["as_int"]) if "as_int" in side else None for side in meta["sizes"][1:])
        if dtype is None:
            return Form(name, sides, "of another number format", floating=False)
        return Form(name, sides, str(dtype).removeprefix("torch."), dtype.is_floating_point)

    def _rows(self, names: list[str]) -> tuple[int, int | None]:
        """Least and most rows of a call; the first side of everything must be the same."""
        firsts = [self._meta(name)["sizes"][:1] for name in names]
        if any(not first for first in firsts):
            raise AssetError(f"{self.name} has an input or a result without rows; its first side must be the batch")
        if all("as_int" in first[0] for first in firsts):
            counts = {int(first[0]["as_int"]) for first in firsts}
            if len(counts) != 1 or min(counts) < 1:
                found = ", ".join(map(str, sorted(counts)))
                raise AssetError(f"{self.name} has inputs and result with {found} rows; they must have the same")
            return min(counts), max(counts)
        symbols = {_symbol(first[0]) for first in firsts}
        if len(symbols) != 1 or None in symbols:
            text = "has first sides that differ between inputs and result"
            raise AssetError(f"{self.name} {text}; they must be one and the same dimension, the batch")
        limits = self.program["range_constraints"].get(symbols.pop(), {})
        least, most = limits.get("min_val"), limits.get("max_val")
        return max(1, int(least or 1)), None if most is None else int(most)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Say in one sentence what is wrong with the file."""
        try:
            yield
        except LatentInvError:
            raise
        except FileNotFoundError as error:
            raise AssetError(f'there is no file "{self.name}"') from error
        except OSError as error:
            raise AssetError(f'cannot read "{self.name}": {error.strerror}') from error
        except zipfile.BadZipFile as error:
            raise AssetError(f"{self.name} is cut off, damaged, or no file of torch.export.save") from error
        except Exception as error:  # whatever a file that is not what it says leads to
            if is_out_of_memory(error):
                raise
            raise AssetError(f"{self.name} is damaged, or of a torch that writes otherwise; {_AGAIN}") from error


def _symbol(side: Mapping[str, Any]) -> str | None:
    """The name of a side that is free; None if it is fixed, or computed from others."""
    found = _SYMBOL.fullmatch(str(side.get("as_expr", {}).get("expr_str", "")))
    return None if found is None else found.group(1) or found.group(2)


def _named(argument: Mapping[str, Any], file: str) -> str:
    ((kind, value),) = argument.items()
    if kind != "as_tensor":
        raise AssetError(
            f"{file} takes or gives something that is no tensor ({kind!s:.40}); bring it inside the module"
        )
    return str(value["name"])
