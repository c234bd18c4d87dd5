"""`exported:`: programs of torch.export, and files that only look like one."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latent_inv.errors import AssetError
from latent_inv.files import sha256_of
from latent_inv.generators.own.batches import in_calls
from tests import own

CPU = torch.device("cpu")


def load(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    return own.opened("exported", path).load(CPU, dtype)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as it should be; not to be changed."""
    return own.export_vector(tmp_path_factory.mktemp("exported") / "whole.pt2")


def rewritten(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same archive with other members."""
    with zipfile.ZipFile(source) as archive:
        members = {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{target.stem}/{name}", data)
    return target


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same archive with another program."""

    def change_members(members: dict[str, bytes]) -> None:
        program = json.loads(members["models/model.json"])
        change(program)
        members["models/model.json"] = json.dumps(program).encode()

    return rewritten(source, target, change_members)


def nodes_of(program: dict[str, Any]) -> list[dict[str, Any]]:
    return program["graph_module"]["graph"]["nodes"]  # type: ignore[no-any-return]


def test_a_picture_is_that_of_the_module(whole: Path) -> None:
    generator = load(whole)
    latents = generator.sample(range(5))
    torch.testing.assert_close(generator(latents), own.seeded(own.Vector)(latents["z"]), atol=1e-6, rtol=0)
    assert generator.weights_sha256 == sha256_of(whole)
    assert generator.name == "own"
    assert generator.source == "whole"


@pytest.mark.parametrize(("least", "most"), [(1, 1), (2, 2), (3, 3), (1, 3), (2, None), (1, None), (5, 7)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9])
def test_any_number_of_rows(least: int, most: int | None, rows: int) -> None:
    calls: list[int] = []

    def call(x: Tensor, y: Tensor) -> Tensor:
        calls.append(len(x))
        assert len(x) == len(y)
        return x * 10 + y

    x, y = torch.arange(rows * 2.0).reshape(rows, 2), torch.arange(rows * 2.0).reshape(rows, 2)
    assert torch.equal(in_calls(call, (x, y), least, most), x * 10 + y)
    assert all(least <= count <= (most or count) for count in calls)


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_fixed_number_of_rows_rounds_them_alike(rows: int, tmp_path: Path) -> None:
    generator = load(own.export_vector(tmp_path / "a.pt2", rows))
    latents = generator.sample(range(8))
    forward = generator(latents)
    for shift in range(1, 8):
        assert torch.equal(generator({"z": latents["z"].roll(shift, 0)}).roll(-shift, 0), forward)


def test_a_class_and_any_size(tmp_path: Path) -> None:
    generator = load(own.export_any_size(tmp_path / "a.pt2"))
    assert list(generator.spaces) == ["code", "code+kind"]
    assert generator.stride == 8
    module = own.seeded(own.AnySize)
    for size in ((16, 24), (40, 32)):
        latents = generator.sample((1, 2), "code", size)
        images = generator(latents)
        assert images.shape == (2, 3, *size)
        raw = module(latents["code"], latents["kind"])
        torch.testing.assert_close(images, raw.permute(0, 3, 1, 2) / 127.5 - 1, atol=1e-5, rtol=0)


class Leaves(nn.Module):
    """Leaves its range."""

    def forward(self, z: Tensor) -> Tensor:
        return (1.02 * torch.tanh(z[:, :, None, None] * 3)).expand(-1, 3, 8, 8)


def test_what_leaves_the_range_is_cut(tmp_path: Path) -> None:
    path = own.export(tmp_path / "a.pt2", Leaves(), (torch.zeros(1, 3),))
    path.with_suffix(".toml").write_text("range = [-1, 1]")
    generator = load(path)
    assert float(generator({"z": torch.full((1, 3), 9.0)}).max()) == 1.0


# ---- programs that cannot be used --------------------------------------------------------------


class Own(nn.Module):
    """Something that is wrong with a module; the right one ends in tanh of [R, 3, 8, 8]."""

    def __init__(self, wrong: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.wrong = wrong
        self.linear = nn.Linear(6, 192)
        self.norm = nn.BatchNorm1d(192)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, z: Tensor) -> Any:
        return self.wrong(self, z)

    def square(self, z: Tensor) -> Tensor:
        return self.linear(z).view(-1, 3, 8, 8)


def counting(self: Any, z: Tensor) -> Tensor:
    self.count.add_(1)
    return torch.tanh(self.square(z) * self.count)


def cut(self: Any, z: Tensor) -> Tensor:
    z.mul_(0.5)
    return torch.tanh(self.square(z))


UNUSABLE: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "two results": (lambda m, z: (torch.tanh(m.square(z)), z), "gives 2 results"),
    "random": (lambda m, z: torch.tanh(m.square(z) + torch.randn(3, 8, 8)), r"draws random numbers \(\"randn\"\)"),
    "dropout": (lambda m, z: torch.tanh(nn.functional.dropout(m.square(z), 0.5, True)), "draws random numbers"),
    "not finite": (lambda m, z: torch.tanh(m.square(z) * 0 / 0), "not finite"),
    "counts": (counting, "changes its own weights or the latents"),
    "changes its input": (cut, "changes its own weights or the latents"),
    "mixes rows": (
        lambda m, z: torch.tanh(m.square(z - z.mean(0, keepdim=True))),
        r"mixes rows.*call .eval\(\)",
    ),
    "no gradient": (lambda m, z: torch.tanh(m.square(z).detach()), "differentiable = false"),
    "no forward mode": (
        lambda m, z: torch.tanh(
            m.square(nn.functional.scaled_dot_product_attention(*[z.view(-1, 1, 2, 3)] * 3).view(-1, 6))
        ),
        "forward_mode = false",
    ),
    "grey": (lambda m, z: torch.tanh(m.square(z)[:, :1]), r"gives \[rows, 1, 8, 8\]"),
    "flat": (lambda m, z: torch.tanh(m.linear(z)), r"gives \[rows, 192\]"),
    "range": (lambda m, z: torch.tanh(m.square(z)) * 1, "range is missing"),
    "an operator": (lambda m, z: torch.tanh(m.square(z) + torch.fft.rfft(z).abs().sum() * 0), 'operator "aten.fft'),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_cannot_be_used_is_said_when_it_is_loaded(what: str, tmp_path: Path) -> None:
    wrong, said = UNUSABLE[what]
    shapes = {"z": {0: torch.export.Dim("batch", min=1, max=64)}}
    path = own.export(tmp_path / "a.pt2", Own(wrong).eval(), (torch.ones(2, 6),), shapes)
    with pytest.raises(AssetError, match=said) as caught:
        load(path)
    assert "a.pt2" in str(caught.value) or "a.toml" in str(caught.value)


def test_what_it_says_is_what_helps(tmp_path: Path) -> None:
    shapes = {"z": {0: torch.export.Dim("batch", min=1, max=64)}}
    for what, line in (("no gradient", "differentiable = false"), ("no forward mode", "forward_mode = false")):
        path = own.export(tmp_path / "a.pt2", Own(UNUSABLE[what][0]).eval(), (torch.ones(2, 6),), shapes)
        path.with_suffix(".toml").write_text(line)
        assert not load(path).forward_mode


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("range = [0, 1]", r"gives numbers from -0\.\d+ to 0\.\d+ .*expected \[0, 1\]; set `range` in a.toml"),
        ("range = [0, 255]", r"expected \[0, 255\]"),
        ("range = [0, 100]", r"expected \[0, 100\]"),
        ('layout = "channels_last"', r"a picture is \[rows, height, width, 3\]"),
    ],
)
def test_a_text_that_is_not_true(text: str, said: str, tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "a.pt2"
    path.write_bytes(whole.read_bytes())
    path.with_suffix(".toml").write_text(text)
    with pytest.raises(AssetError, match=said):
        load(path)


def test_another_file_than_was_opened(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "a.pt2"
    path.write_bytes(whole.read_bytes())
    kind = own.opened("exported", path)
    path.write_bytes(whole.read_bytes() + b" ")
    with pytest.raises(AssetError, match="another file than when it was opened"):
        kind.load(CPU, torch.float32)


# ---- files that only look like one -------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cut off, damaged, or no file"),
        (b"not a zip", "cut off, damaged, or no file"),
        (b"PK\x03\x04" + b"\0" * 100, "cut off, damaged, or no file"),
    ],
)
def test_no_archive(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    path.write_bytes(content)
    with pytest.raises(AssetError, match=said):
        own.opened("exported", path)


def test_half_a_file(tmp_path: Path, whole: Path) -> None:
    path, data = tmp_path / "a.pt2", whole.read_bytes()
    for share in (0.2, 0.5, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(AssetError, match="cut off"):
            own.opened("exported", path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r'no file "no\.pt2"') as caught:
        own.opened("exported", tmp_path / "no.pt2")
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(AssetError, match="folder"):
        own.opened("exported", tmp_path)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/readme", "hello")
    with pytest.raises(AssetError, match="something else than torch"):
        own.opened("exported", path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(AssetError, match="something else than torch"):
        own.opened("exported", path)


def test_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/archive_format", b"pt2")
        archive.writestr("a/models/model.json", b"[" * 10_000_000)
    with pytest.raises(AssetError, match="compressed members"):
        own.opened("exported", path)


def test_deep_json(tmp_path: Path, whole: Path) -> None:
    path = rewritten(whole, tmp_path / "a.pt2", lambda members: members.update({"models/model.json": b"[" * 200_000}))
    with pytest.raises(AssetError, match="damaged, or of a torch that writes otherwise"):
        own.opened("exported", path)


class Evil:
    """Makes the file named in the environment when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ('echo ran > "$LATENT_INV_EVIL"',))


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ran"
    monkeypatch.setenv("LATENT_INV_EVIL", str(path))
    return path


def evil_pickle() -> bytes:
    buffer = io.BytesIO()
    torch.save(Evil(), buffer)
    return buffer.getvalue()


def evil_config(kind: str, path_name: str) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        name = f"data/{kind}/model_{kind}_config.json"
        config = json.loads(members[name])
        first = next(iter(config["config"].values()))
        first.update(use_pickle=True, path_name=path_name)
        members[name] = json.dumps(config).encode()
        members[f"data/{kind}/{path_name}"] = (
            evil_pickle() if path_name.startswith(("w", "t")) else pickle.dumps(Evil())
        )

    return change


@pytest.mark.parametrize(
    ("kind", "path_name"),
    [("weights", "weight_0"), ("constants", "tensor_0"), ("constants", "opaque_obj_0"), ("constants", "custom_obj_0")],
)
def test_a_pickle_is_never_opened(kind: str, path_name: str, tmp_path: Path, whole: Path, marker: Path) -> None:
    path = rewritten(whole, tmp_path / "a.pt2", evil_config(kind, path_name))
    with pytest.raises(AssetError, match="pickle, which could run code"):
        load(path)
    assert not marker.exists()


def test_the_pickle_of_examples_is_not_looked_at(tmp_path: Path, whole: Path, marker: Path) -> None:
    """torch.export.load does, as the first lines show: else this would test nothing."""
    path = rewritten(
        whole, tmp_path / "a.pt2", lambda members: members.update({"data/sample_inputs/model.pt": evil_pickle()})
    )
    with pytest.raises(Exception):  # noqa: B017, PT011, whatever it says: it has run by then
        torch.export.load(path)
    assert marker.exists()
    marker.unlink()
    assert load(path)(load(path).sample((1,))).shape == (1, 3, 24, 24)
    assert not marker.exists()


CODE = "__import__('os').system('echo ran > \"$LATENT_INV_EVIL\"')"


def in_sizes(program: dict[str, Any]) -> None:
    for meta in program["graph_module"]["graph"]["tensor_values"].values():
        for side in meta["sizes"]:
            if "as_expr" in side:
                side["as_expr"]["expr_str"] = CODE


def in_guards(program: dict[str, Any]) -> None:
    program["guards_code"] = [CODE]


def in_names(program: dict[str, Any]) -> None:
    node = nodes_of(program)[-1]
    node["name"] = f"x = {CODE} #"


def in_notes(program: dict[str, Any]) -> None:
    for node in nodes_of(program):
        node["metadata"] = {"stack_trace": f'"""\n{CODE}\n"""', "nn_module_stack": CODE, "from_node": CODE}


def calling(target: str) -> Callable[[dict[str, Any]], None]:
    def change(program: dict[str, Any]) -> None:
        node = nodes_of(program)[0]
        node["target"] = target
        node["inputs"] = [{"name": "command", "arg": {"as_string": 'echo ran > "$LATENT_INV_EVIL"'}, "kind": 1}]

    return change


@pytest.mark.parametrize("change", [in_guards, in_names, in_notes], ids=lambda one: one.__name__)
def test_text_that_is_no_part_of_the_mathematics_does_nothing(
    change: Callable[[dict[str, Any]], None], tmp_path: Path, whole: Path, marker: Path
) -> None:
    generator = load(edited(whole, tmp_path / "a.pt2", change))
    latents = generator.sample((1,))
    assert torch.equal(generator(latents), load(whole)(latents))
    assert not marker.exists()


def test_sizes_are_no_python(tmp_path: Path, whole: Path, marker: Path) -> None:
    with pytest.raises(AssetError, match="first sides that differ"):
        load(edited(whole, tmp_path / "a.pt2", in_sizes))
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.add.out",
        "torch.ops.aten.add.__class__",
        "torch.ops.mine.decode.default",
        "torch.ops.higher_order.cond",
        "_operator.attrgetter",
        "math.__loader__.load_module",
        "#mine:decode",
        "print",
    ],
)
def test_what_is_no_operator_of_the_list_is_refused_by_name(
    target: str, tmp_path: Path, whole: Path, marker: Path
) -> None:
    with pytest.raises(AssetError, match="not among those that are run here") as caught:
        load(edited(whole, tmp_path / "a.pt2", calling(target)))
    assert target.removeprefix("torch.ops.") in str(caught.value)
    assert not marker.exists()


def test_compiled_code_is_refused(tmp_path: Path, whole: Path) -> None:
    path = rewritten(
        whole, tmp_path / "a.pt2", lambda members: members.update({"data/aotinductor/model/a.so": b"\x7fELF"})
    )
    with pytest.raises(AssetError, match="compiled code"):
        own.opened("exported", path)


def stretched(key: str, value: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        name = "data/weights/model_weights_config.json"
        config = json.loads(members[name])
        config["config"]["first.weight"]["tensor_meta"][key] = value
        members[name] = json.dumps(config).encode()

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (stretched("sizes", [{"as_int": 2**40}, {"as_int": 6}]), "says that they are more"),
        (stretched("storage_offset", {"as_int": 10**9}), "says that they are more"),
        (stretched("storage_offset", {"as_int": -4}), "says that they are more"),
        (stretched("dtype", 8), "says that they are more"),
        (stretched("dtype", 99), "damaged, or of a torch"),
        (stretched("sizes", "all"), "damaged, or of a torch"),
        (lambda members: members.pop("data/weights/weight_0"), "damaged, or of a torch"),
        (lambda members: members.pop("data/weights/model_weights_config.json"), "lacks"),
        (lambda members: members.update({"data/weights/weight_0": b""}), "says that they are more"),
        (lambda members: members.update({"byteorder": b"big"}), "byte order"),
        (lambda members: members.update({"models/other.json": b"{}"}), "holds 2 programs"),
        (lambda members: members.pop("models/model.json"), "holds 0 programs"),
        (lambda members: members.update({"models/model.json": b"{}"}), "damaged, or of a torch"),
    ],
)
def test_numbers_that_are_not_there(
    change: Callable[[dict[str, bytes]], None], said: str, tmp_path: Path, whole: Path
) -> None:
    with pytest.raises(AssetError, match=said):
        load(rewritten(whole, tmp_path / "a.pt2", change))


def test_a_tensor_that_is_blown_up(tmp_path: Path, whole: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        stretched("sizes", [{"as_int": 2**20}, {"as_int": 2**20}])(members)
        stretched("strides", [{"as_int": 0}, {"as_int": 0}])(members)

    with pytest.raises(AssetError, match="blows"):
        load(rewritten(whole, tmp_path / "a.pt2", change))


def test_another_version(tmp_path: Path, whole: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        program["schema_version"]["major"] = 9

    with pytest.raises(AssetError, match=r"has version 9 of torch\.export, 8 is read"):
        own.opened("exported", edited(whole, tmp_path / "a.pt2", change))
