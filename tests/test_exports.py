"""The shape of the code: what is public, what it says of itself, and what may be where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import latent_inv

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    path
    for folder in ("latent_inv", "server/latent_inv_server")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "latent_inv/v1/" not in path.as_posix()
]
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]
MAX_LINES = 330


def test_the_files_are_found() -> None:
    assert len(FILES) > 60
    assert "latent_inv/engine/runner.py" in NAMES


@pytest.mark.parametrize("name", latent_inv.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(latent_inv, name)
    assert found.__name__ == name
    assert found.__doc__


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(latent_inv, "no_such_name")  # noqa: B009
    assert set(latent_inv.__all__) <= set(dir(latent_inv))


def test_names_for_type_checkers_are_the_same() -> None:
    """What a type checker sees is written apart from what is imported lazily."""
    tree = ast.parse((ROOT / "latent_inv" / "__init__.py").read_text())
    seen = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level for alias in node.names
    }
    assert seen == set(latent_inv.__all__)


def test_every_component_can_be_asked_for_without_another_import() -> None:
    from latent_inv import spec

    tables: tuple[Any, ...] = (spec.LOSSES, spec.SOLVERS, spec.INITIALISERS)
    missing = {kind.__name__ for table in tables for kind in table.values()} - set(latent_inv.__all__)
    assert not missing


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, latent_inv; print(sorted({'torch', 'numpy', 'grpc', 'PIL', 'typer'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_types_are_published() -> None:
    assert (ROOT / "latent_inv" / "py.typed").exists()


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public classes, functions and methods of a module that say nothing of themselves.

    A method that fills in what its base class documents needs no text of its own, so methods of
    classes with bases are left out.
    """
    if not ast.get_docstring(tree):
        yield "the module"
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield node.name
        if isinstance(node, ast.ClassDef) and not node.bases:
            for item in node.body:
                if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    public = not item.name.startswith("_")
                    # A setter, or the types alone of what is documented once.
                    told = any(
                        isinstance(mark, ast.Attribute) or (isinstance(mark, ast.Name) and mark.id == "overload")
                        for mark in item.decorator_list
                    )
                    if public and not told and not ast.get_docstring(item):
                        yield f"{node.name}.{item.name}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
class TestEveryFile:
    def test_says_what_it_is(self, path: Path) -> None:
        assert not list(undocumented(ast.parse(path.read_text())))

    def test_is_short(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= MAX_LINES

    def test_validates_with_errors_and_not_with_asserts(self, path: Path) -> None:
        assert not [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]

    def test_leaves_autograd_to_the_runner(self, path: Path) -> None:
        # Training an encoder is no inversion: it has weights to change. And a stranger's program is tried once.
        others = ("latent_inv/encoders/training.py", "latent_inv/generators/own/trial.py")
        if path.relative_to(ROOT).as_posix() not in ("latent_inv/engine/runner.py", *others):
            assert not re.findall(r"autograd\.(?:grad|backward)\b|\.backward\(", path.read_text())

    def test_touches_no_global_switch(self, path: Path) -> None:
        text = path.read_text()
        # Layers can only be made from the global generator; there it is put back at once.
        text = re.sub(r"with torch.random.fork_rng\(devices=\[\]\):\n +torch.manual_seed", "", text)
        assert not re.findall(
            r"manual_seed\((?!int|key)|set_default_dtype|LOAD_TRUNCATED_IMAGES\s*=|pickle\.load", text
        )
        assert "weights_only=False" not in text
        assert "allow_pickle=True" not in text

    def test_is_of_the_right_side(self, path: Path) -> None:
        """The library knows no server, and only the borders know the wire."""
        name, text = path.relative_to(ROOT).as_posix(), path.read_text()
        if not name.startswith(("server/", "latent_inv/cli/")):
            assert "latent_inv_server" not in text
        if not name.startswith(("server/", "latent_inv/client/", "latent_inv/convert/")):
            assert not re.findall(r"^\s*(?:import|from) grpc|latent_inv\.v1", text, re.MULTILINE)


def test_the_runner_does_call_autograd() -> None:
    assert "autograd.grad" in (ROOT / "latent_inv" / "engine" / "runner.py").read_text()


def test_the_look_for_docstrings_finds_what_is_missing() -> None:
    code = "class A:\n    def f(self): ...\ndef _private(): ...\ndef g(): 'Says.'\n"
    assert list(undocumented(ast.parse(code))) == ["the module", "A", "A.f"]
