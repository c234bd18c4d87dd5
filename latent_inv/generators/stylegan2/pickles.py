"""Pickles of networks, read without running anything that stands in them.

Names in a pickle become inert records, and only a few names are known; `records` makes tensors of them afterwards, with
every size held against the bytes that are there. No module of the file is imported, and no source text in it is run.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import torch

from latent_inv.errors import InputError

#: the whole file is held in memory once; public checkpoints have 100 to 400 MB
MAX_BYTES = 4 * 2**30
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
#: what a file of torch.save before version 1.6 begins with
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
#: functions and classes that become records; nothing of them is called
_RECORDED = {
    PERSISTENT,
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.storage._load_from_bytes",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    "numpy.dtype",
    "numpy.ndarray",
    "_codecs.encode",  # how protocols below 3 write bytes
    "torch.device",
    "torch.Size",
}
_DICTIONARIES = {"collections.OrderedDict", "dnnlib.util.EasyDict", "argparse.Namespace"}
#: storage classes -> what they hold
STORAGES: Mapping[str, torch.dtype] = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
#: ways to make objects other than by a known name, and the registry of extensions
_FORBIDDEN = ("INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")


class Record:
    """What a pickle says about one object: the name that it wants called, with what, and the state set afterwards."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name, self.args = name, args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Name(NamedTuple):
    """A known name. A tuple, so that no instruction of a pickle can change it."""

    name: str

    def __call__(self, *args: Any) -> Record:
        return Record(self.name, args)


class Storage(NamedTuple):
    """Raw numbers, and the name of their class."""

    kind: str
    data: bytes | memoryview


class _Stored(NamedTuple):
    """A storage that follows later in the file."""

    kind: str
    key: str


class _Reader(pickle.Unpickler):
    """An unpickler that makes records, plain containers, and nothing else."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")
        # New classes each time: whatever a pickle does to them ends with it.
        self._dictionaries = {name: type(name.rpartition(".")[2], (dict,), {}) for name in _DICTIONARIES}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in self._dictionaries:
            return self._dictionaries[full]
        if full not in _RECORDED and full not in STORAGES:
            _refuse(full)
        return _Name(full)

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _Name):
            return _Stored(pid[1].name, str(pid[2]))
        raise InputError("the file points to data outside of it", field="checkpoint")


def _refuse(name: str) -> NoReturn:
    if name.startswith("dnnlib.tflib"):
        raise InputError(
            "this is a checkpoint of TensorFlow (dnnlib.tflib), whose weights stand in a program of its own; convert "
            "it to PyTorch with the tools of its authors first",
            field="checkpoint",
        )
    raise InputError(
        f'the file wants "{name:.100}", which no network needs; nothing of it was run, and it is refused',
        field="checkpoint",
    )


def read_pickle(data: bytes) -> Any:
    """The content of a pickle, or of an old file of torch.save: containers, numbers, text, `Record`s and `Storage`s.

    Raises:
        InputError: it is damaged, or holds anything else; the message names it.
    """
    stream = io.BytesIO(data)
    content = _load(stream)
    if content != _TORCH_MAGIC or isinstance(content, Record):
        return content
    return _read_torch(stream)


def _load(stream: io.BytesIO) -> Any:
    start = stream.tell()
    _scan(stream)
    stream.seek(start)
    try:
        return _Reader(stream).load()
    except InputError:
        raise
    except Exception as error:  # an unpickler raises anything for a bad stream
        raise InputError(
            f"the pickle is damaged ({type(error).__name__}); is the file whole?", field="checkpoint"
        ) from error


def _scan(stream: io.BytesIO) -> None:
    """Refuse, before anything is built, instructions that make other objects or that reserve memory for nothing."""
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            count += 1
            if opcode.name in _FORBIDDEN:
                raise InputError(
                    f"the pickle uses {opcode.name}, which no checkpoint of a network needs", field="checkpoint"
                )
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                full = f"{module}.{name}"
                if full not in _RECORDED and full not in _DICTIONARIES and full not in STORAGES:
                    _refuse(full)
            # An unpickler makes its memo as large as the largest number in it.
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
                raise InputError(
                    f"the pickle asks for {argument} places of memory after {count} instructions", field="checkpoint"
                )
    except InputError:
        raise
    except Exception as error:  # ValueError for most, but also what decoding numbers and text raises
        raise InputError(
            f"the pickle is damaged ({type(error).__name__}); is the file whole?", field="checkpoint"
        ) from error


def _read_torch(stream: io.BytesIO) -> Any:
    """What follows the magic number: version, system, the object, keys of storages, and their numbers one by one."""
    _load(stream), _load(stream)
    content, keys = _load(stream), _load(stream)
    if not isinstance(keys, list):
        raise InputError("the file of torch.save is damaged; is it whole?", field="checkpoint")
    kinds: dict[str, str] = {}
    _replace(content, lambda stored: kinds.setdefault(stored.key, stored.kind))
    view, found = stream.getbuffer(), {}
    for key in map(str, keys):
        kind = kinds.get(key, "")
        if kind not in STORAGES:
            raise InputError("the file of torch.save has numbers of an unknown kind", field="checkpoint")
        numbers = int.from_bytes(stream.read(8), "little")
        start, size = stream.tell(), numbers * STORAGES[kind].itemsize
        if start + size > len(view):
            raise InputError(
                f"the file ends {start + size - len(view)} bytes before its numbers do; is it whole?",
                field="checkpoint",
            )
        found[key] = Storage(kind, view[start : start + size])
        stream.seek(start + size)
    missing = [key for key in kinds if key not in found]
    if missing:
        raise InputError(f"the file lacks the numbers of {len(missing)} tensors; is it whole?", field="checkpoint")
    return _replace(content, lambda stored: found[stored.key])


def _replace(tree: Any, put: Callable[[_Stored], Any]) -> Any:
    """`tree` with storages put in, each part of it once, however often it is referred to."""
    done: dict[int, Any] = {}

    def visit(item: Any) -> Any:
        if isinstance(item, _Stored):
            return put(item)
        if id(item) in done:
            return done[id(item)]
        if isinstance(item, dict):
            new: Any = {}
            done[id(item)] = new
            new.update({key: visit(value) for key, value in item.items()})
        elif isinstance(item, list):
            new = []
            done[id(item)] = new
            new += [visit(value) for value in item]
        elif type(item) is tuple:
            new = done[id(item)] = tuple(visit(value) for value in item)
        elif isinstance(item, Record):
            new = done[id(item)] = Record(item.name, ())
            new.args, new.state = visit(item.args), visit(item.state)
        else:
            return item
        return new

    try:
        return visit(tree)
    except RecursionError as error:
        raise InputError("the file is nested too deeply", field="checkpoint") from error
