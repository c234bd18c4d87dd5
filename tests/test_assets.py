"""Weights by name: what is fetched has the right hash, or the error says in one sentence how to get it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latent_inv import downloads
from latent_inv.asset_table import ASSETS, Asset, Hub, Local, PackageData, Wheel
from latent_inv.assets import AssetStore, cache_folder, fetch, load_checkpoint, weights_hash
from latent_inv.downloads import Finished, copy_member, run_command, scrub
from latent_inv.errors import AssetError, SpecError

CONTENT = b"weights" * 1000
TOY = Asset(
    name="toy",
    source=Wheel("toy-package", "1.0", "toy_package/w.bin", 500),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    licence_package="MIT",
    licence_data="none",
    licence_unknown="nothing",
    used_for="tests",
)


@pytest.fixture(autouse=True)
def _network_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATENT_INV_OFFLINE", raising=False)


def make_wheel(folder: Path, content: bytes = CONTENT, member: str = "toy_package/w.bin") -> Path:
    wheel = folder / "toy_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return wheel


class FakePip:
    """Stands in for the command runner: leaves a wheel, or fails with what pip would print."""

    def __init__(self, content: bytes = CONTENT, code: int = 0, output: str = "", during: Callable[[], None] = int):
        self.content, self.code, self.output, self.during = content, code, output, during
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str], environment: Mapping[str, str], watch: Callable[[], None]) -> Finished:
        self.commands.append(list(command))
        if self.code == 0:
            make_wheel(Path(command[command.index("-d") + 1]), self.content)
        watch()
        self.during()
        return Finished(self.code, self.output)


def store(folder: Path, pip: FakePip, asset: Asset = TOY) -> AssetStore:
    return AssetStore(folder, {asset.name: asset}, pip)


def left_over(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_first_fetch_downloads_and_the_second_does_not(tmp_path: Path) -> None:
    pip = FakePip()
    path = store(tmp_path, pip).fetch("toy")
    assert path.read_bytes() == CONTENT
    assert store(tmp_path, pip).fetch("toy") == path
    assert len(pip.commands) == 1
    assert left_over(tmp_path) == {path.name, "verified.json"}


def test_the_command_takes_only_a_wheel_and_never_asks(tmp_path: Path) -> None:
    pip = FakePip()
    store(tmp_path, pip).fetch("toy")
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "toy-package==1.0"
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert {"--no-deps", "--ignore-requires-python", "--no-input"} <= set(command)


def test_progress_starts_at_zero_and_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    store(tmp_path, FakePip()).fetch("toy", progress=lambda *step: seen.append(step))
    assert seen[0] == ("toy", 0, 500)
    assert seen[-1] == ("toy", 500, 500)
    assert len(seen) > 2
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_a_damaged_file_is_noticed_and_fetched_again(tmp_path: Path, damage: bytes) -> None:
    pip = FakePip()
    path = store(tmp_path, pip).fetch("toy")
    path.write_bytes(damage)
    os.utime(path, ns=(1, 1))  # the clock of some file systems is too coarse to see the change
    assert store(tmp_path, pip).fetch("toy").read_bytes() == CONTENT
    assert len(pip.commands) == 2


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path, FakePip()).fetch("toy")
    monkeypatch.setattr("latent_inv.assets.sha256_of", lambda _: pytest.fail("read again"))
    assert store(tmp_path, FakePip()).fetch("toy") == path


@pytest.mark.parametrize("notes", ["", "[]", "{", json.dumps({"other": 1})])
def test_broken_notes_cost_only_one_reading(tmp_path: Path, notes: str) -> None:
    pip = FakePip()
    path = store(tmp_path, pip).fetch("toy")
    (tmp_path / "verified.json").write_text(notes)
    assert store(tmp_path, pip).fetch("toy") == path
    assert len(pip.commands) == 1


def test_another_hash_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    other = CONTENT[:-1] + b"x"
    with pytest.raises(AssetError) as caught:
        store(tmp_path, FakePip(other)).fetch("toy")
    assert hashlib.sha256(other).hexdigest() in str(caught.value)
    assert TOY.sha256 in str(caught.value)
    assert left_over(tmp_path) == set()


def test_another_size_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"7001 bytes, expected 7000"):
        store(tmp_path, FakePip(CONTENT + b"x")).fetch("toy")
    assert left_over(tmp_path) == set()


def test_a_wheel_without_the_file_or_no_zip_at_all(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, member="toy_package/other.bin")
    with pytest.raises(AssetError, match=r"has no file toy_package/w\.bin"):
        copy_member(wheel, "toy_package/w.bin", None, tmp_path / "out")
    wheel = make_wheel(tmp_path, os.urandom(5000))
    whole = wheel.read_bytes()
    copy_member(wheel, "toy_package/w.bin", None, tmp_path / "out")
    holed = whole[:1000] + bytes(50) + whole[1050:]
    for damaged in (whole[:40], b"", whole[:-30], holed):
        wheel.write_bytes(damaged)
        with pytest.raises(AssetError, match="not a whole wheel"):
            copy_member(wheel, "toy_package/w.bin", None, tmp_path / "out")


UNREACHABLE = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('...: Failed to establish a new "
    "connection')': https://me:secret@registry.example/simple/toy-package/\n"
    "ERROR: Could not find a version that satisfies the requirement toy-package==1.0 (from versions: none)\n"
)


def test_an_unreachable_registry_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(AssetError) as caught:
        store(tmp_path, FakePip(code=1, output=UNREACHABLE)).fetch("toy")
    text = str(caught.value)
    assert "registry cannot be reached" in text
    assert "python -m pip download" in text
    assert "\n" not in text
    assert "secret" not in text
    assert "Retry" not in text
    assert left_over(tmp_path) == set()


def test_missing_pip_names_ensurepip(tmp_path: Path) -> None:
    pip = FakePip(code=1, output=f"{sys.executable}: No module named pip\n")
    with pytest.raises(AssetError, match=r"python -m ensurepip.*toy-package==1\.0"):
        store(tmp_path, pip).fetch("toy")


def test_any_other_failure_gives_the_last_error_without_secrets(tmp_path: Path) -> None:
    output = "ERROR: no matching distribution at https://me:secret@registry.example/x?token=secret2\n"
    with pytest.raises(AssetError, match="no matching distribution") as caught:
        store(tmp_path, FakePip(code=1, output=output)).fetch("toy")
    assert "secret" not in str(caught.value)


def test_scrub_keeps_what_is_not_secret() -> None:
    assert scrub("see https://u:p@host/a/b?k=v#f now") == "see https://host/a/b now"
    assert scrub("mail a@b.c, no url") == "mail a@b.c, no url"


def test_a_wheel_put_there_by_hand_is_taken(tmp_path: Path) -> None:
    make_wheel(tmp_path)
    pip = FakePip(code=1)
    assert store(tmp_path, pip).fetch("toy", offline=True).read_bytes() == CONTENT
    assert pip.commands == []


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LATENT_INV_OFFLINE", value)
    pip = FakePip()
    with pytest.raises(AssetError, match="not here, and the network is switched off"):
        store(tmp_path, pip).fetch("toy")
    assert pip.commands == []
    monkeypatch.setenv("LATENT_INV_OFFLINE", "0")
    path = store(tmp_path, pip).fetch("toy")
    path.write_bytes(b"")
    with pytest.raises(AssetError, match="damaged, and the network is switched off"):
        store(tmp_path, pip).fetch("toy", offline=True)


def test_two_fetches_at_once_both_get_a_whole_file(tmp_path: Path) -> None:
    meet = threading.Barrier(2, timeout=10)
    paths: list[bytes] = []

    def one() -> None:
        paths.append(store(tmp_path, FakePip(during=lambda: meet.wait() and None)).fetch("toy").read_bytes())

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert paths == [CONTENT, CONTENT]
    assert not [name for name in left_over(tmp_path) if name.startswith(".fetch")]


def test_folders_of_killed_fetches_are_swept_and_fresh_ones_are_not(tmp_path: Path) -> None:
    for name, age in ((".fetch-old", 2 * 86400), (".fetch-new", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    store(tmp_path, FakePip()).fetch("toy")
    assert ".fetch-new" in left_over(tmp_path)
    assert ".fetch-old" not in left_over(tmp_path)


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, FakePip(during=interrupt)).fetch("toy")
    assert left_over(tmp_path) == set()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AssetError, match="cannot write the cache folder"):
        store(tmp_path / "file" / "cache", FakePip()).fetch("toy")


def test_a_command_that_stalls_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(downloads, "pip_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    began = time.monotonic()
    with pytest.raises(AssetError, match="sent nothing"):
        AssetStore(tmp_path, {"toy": TOY}, run_command).fetch("toy")
    assert time.monotonic() - began < 20
    assert left_over(tmp_path) == set()


def test_the_runner_gives_code_and_both_streams() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    finished = run_command([sys.executable, "-c", code], dict(os.environ), lambda: None)
    assert finished.code == 3
    assert set(finished.output.split()) == {"out", "err"}


def test_files_of_installed_packages_and_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_installed_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "w.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    pip = FakePip(code=1)
    sources = (
        PackageData("some_installed_package", "w.bin"),
        Local(package / "w.bin"),
        Wheel("some-installed-package", "1.0", "some_installed_package/w.bin", 500),
    )
    for source in sources:
        path = store(tmp_path / "cache", pip, replace(TOY, source=source)).fetch("toy")
        assert path.read_bytes() == CONTENT
    (package / "w.bin").write_bytes(b"another version")
    for source in sources[:2]:
        with pytest.raises(AssetError, match="missing or another file"):
            store(tmp_path / "cache", pip, replace(TOY, source=source)).fetch("toy")
    assert pip.commands == []


def test_hub_files_are_hashed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeHub:
        content = CONTENT

        @classmethod
        def hf_hub_download(cls, repository: str, file: str, *, revision: str, local_dir: Path) -> str:
            assert (repository, file, revision) == ("some/repository", "w.bin", "abc")
            local_dir.mkdir()
            (local_dir / file).write_bytes(cls.content)
            return str(local_dir / file)

    asset = replace(TOY, source=Hub("some/repository", "w.bin", "abc"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub)  # type: ignore[arg-type]
    assert store(tmp_path / "a", FakePip(), asset).fetch("toy").read_bytes() == CONTENT
    FakeHub.content = b"x"
    with pytest.raises(AssetError, match="expected"):
        store(tmp_path / "b", FakePip(), asset).fetch("toy")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # type: ignore[arg-type]
    with pytest.raises(AssetError, match="pip install huggingface_hub"):
        store(tmp_path / "b", FakePip(), asset).fetch("toy")


def test_a_torchvision_file_is_found_in_torchs_cache_or_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    source = ASSETS["alexnet"].source
    asset = replace(TOY, source=source)
    with pytest.raises(AssetError, match=r"run: python -c .*alexnet-owt-7be5be79\.pth") as caught:
        store(tmp_path / "cache", FakePip(), asset).fetch("toy")
    assert str(tmp_path) not in str(caught.value)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "alexnet-owt-7be5be79.pth").write_bytes(CONTENT)
    assert store(tmp_path / "cache", FakePip(), asset).fetch("toy").parent == folder
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "elsewhere"))
    (tmp_path / "cache" / "alexnet-owt-7be5be79.pth").write_bytes(CONTENT)
    assert store(tmp_path / "cache", FakePip(), asset).fetch("toy").parent == tmp_path / "cache"


def test_unknown_names() -> None:
    for call in (fetch, weights_hash):
        with pytest.raises(SpecError, match="did you mean"):
            call("facse")


@pytest.mark.parametrize("name", ASSETS)
def test_every_entry_is_complete(name: str) -> None:
    asset = ASSETS[name]
    assert asset.name == name
    assert len(asset.sha256) == 64
    assert int(asset.sha256, 16)
    assert weights_hash(name) == asset.sha256
    assert all(asset.licence)
    assert len(asset.licence) == 3
    assert asset.origin
    assert asset.used_for
    assert len({entry.cache_name for entry in ASSETS.values()}) == len(ASSETS)


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENT_INV_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LATENT_INV_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "latent_inv"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "l"))
    assert cache_folder() == tmp_path / "l" / "latent_inv" / "Cache"


def test_the_table_needs_no_torch() -> None:
    code = "import sys, latent_inv.assets; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_checkpoints_are_told_apart_by_content(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0)}
    save_file(tensors, tmp_path / "x.pth")  # the suffix lies
    torch.save({"inner": tensors}, tmp_path / "x.safetensors")
    assert torch.equal(load_checkpoint(tmp_path / "x.pth")["a"], tensors["a"])
    assert torch.equal(load_checkpoint(tmp_path / "x.safetensors")["inner"]["a"], tensors["a"])


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.save({"a": Trap(marker)}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"a": Trap(marker)}))
    (tmp_path / "list.pth").touch()
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").touch()
    for name in ("new.pth", "old.pth", "list.pth", "text.pth", "empty.pth", "missing.pth"):
        with pytest.raises(AssetError, match=name) as caught:
            load_checkpoint(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)
    assert not marker.exists()


@pytest.mark.slow
def test_a_real_wheel_comes_from_the_registry(tmp_path: Path) -> None:
    path = AssetStore(tmp_path).fetch("faces")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == ASSETS["faces"].sha256
    assert "netG_state_dict" in load_checkpoint(path)
    assert left_over(tmp_path) == {path.name, "verified.json"}


@pytest.mark.slow
def test_a_real_pip_without_a_registry_gives_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    began = time.monotonic()
    with pytest.raises(AssetError, match="registry cannot be reached") as caught:
        AssetStore(tmp_path).fetch("faces")
    assert "secret" not in str(caught.value)
    assert time.monotonic() - began < 60
    assert left_over(tmp_path) == set()
