"""Memory of a machine and of containers on it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from latent_inv.machine import kills_for_memory, memory_bytes, resident_bytes

TOTAL = psutil.virtual_memory().total
MIB = 2**20


def groups(root: Path, own: str, **limits: str) -> tuple[Path, Path]:
    """A folder as the system shows control groups, with `__` for `/` in names, and the file that names one's own."""
    for name, text in limits.items():
        path = (
            root
            / "groups"
            / name.replace("__", "/").replace("max", "memory.max").replace("bytes", "memory.limit_in_bytes")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (root / "own").write_text(own)
    return root / "groups", root / "own"


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/", {"max": f"{64 * MIB}"}, 64 * MIB),
        ("0::/", {"max": "max"}, TOTAL),
        ("0::/a/b", {"a__b__max": f"{9 * MIB}", "a__max": f"{7 * MIB}"}, 7 * MIB),
        ("0::/a/b", {"a__b__max": "max", "max": f"{8 * MIB}"}, 8 * MIB),
        ("0::/../../a", {"max": f"{6 * MIB}"}, 6 * MIB),
        ("2:cpu,memory:/x\n1:name=systemd:/y", {"memory__x__bytes": f"{5 * MIB}"}, 5 * MIB),
        ("2:cpu,memory:/x", {"memory__x__bytes": "9223372036854771712"}, TOTAL),
        ("1:cpu:/x", {"memory__x__bytes": "1"}, TOTAL),
        ("0::/gone", {}, TOTAL),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, own: str, limits: dict[str, str], expected: int) -> None:
    assert memory_bytes(*groups(tmp_path, own, **limits)) == expected


def test_without_control_groups_it_is_all_of_the_machine(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path, tmp_path / "nothing") == TOTAL


def test_a_process_holds_some() -> None:
    before = resident_bytes()
    held = b"x" * (64 * MIB)
    assert resident_bytes() - before > 32 * MIB
    assert before < resident_bytes() < TOTAL
    del held


def test_what_the_kernel_has_ended_for_memory_is_counted(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 3\noom_kill_other 9\n")
    assert kills_for_memory(tmp_path / "vmstat") == 3
    (tmp_path / "old").write_text("nr_free_pages 5\n")
    assert kills_for_memory(tmp_path / "old") is None
    assert kills_for_memory(tmp_path / "missing") is None
