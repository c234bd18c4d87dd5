"""Settings of a server: where each may come from, which is the strongest, and what they look like on paper."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.errors import InputError, SpecError
from latent_inv_server.config import GROUPS, OPTIONS, PREFIX, Option, ServerConfig
from latent_inv_server.config_sources import load_config
from latent_inv_server.config_text import default_text, effective_text
from latent_inv_server.toml import parse_toml, toml_value

ROOT = Path(os.path.abspath(os.sep))

#: key → three values other than the default, as they stand in a file
VALUES: dict[str, tuple[Any, Any, Any]] = {
    "host": ("127.0.0.2", "::1", "localhost"),
    "port": (1, 2, 3),
    "port_file": (str(ROOT / "a"), str(ROOT / "b"), str(ROOT / "c")),
    "allow_remote": (True, False, True),
    "tokens": (str(ROOT / "a"), str(ROOT / "b"), str(ROOT / "c")),
    "tls_certificate": (str(ROOT / "a"), str(ROOT / "b"), str(ROOT / "c")),
    "tls_key": (str(ROOT / "a"), str(ROOT / "b"), str(ROOT / "c")),
    "tls_client_ca": (str(ROOT / "a"), str(ROOT / "b"), str(ROOT / "c")),
    "max_queued_per_client": (1, 2, 3),
    "max_running_per_client": (1, 2, 3),
    "max_upload_mb": (1, 2, 3),
    "max_calls_per_client": (1, 2, 3),
    "devices": (["cpu"], ["cuda:0", "cuda:1"], ["mps"]),
    "threads": (1, 2, 3),
    "lane_width": (1, 2, 3),
    "precision": ("bfloat16", "float16", "float32"),
    "memory_mb": (1000, 2000, 3000),
    "generator_memory_mb": (100, 200, 300),
    "generators": (["a=b:c"], ["a=b:/c", "d=e:f"], ["g=h:i?j=k"]),
    "checkpoint_steps": (1, 2, 3),
    "heartbeat_seconds": (1.5, 2, 3.5),
    "max_message_mb": (1, 2, 3),
    "max_streams": (1, 2, 3),
    "max_jobs": (1, 2, 3),
    "max_queued": (1, 2, 3),
    "max_requests": (1, 2, 3),
    "data": (str(ROOT / "a"), str(ROOT / "b"), str(ROOT / "c")),
    "database": ("postgresql://a/b", "postgresql://c/d", "postgresql://e/f"),
    "retention_hours": (0.5, 2, 3),
    "disk_budget_mb": (1, 2, 3),
    "grace_seconds": (1, 2.5, 3),
    "metrics_port": (1, 2, 3),
    "metrics_host": ("::1", "10.0.0.1", "localhost"),
    "log_format": ("json", "text", "json"),
    "log_level": ("debug", "error", "warning"),
}
#: what must be there too
WITH = {
    "tls_certificate": {"tls_key": str(ROOT / "k")},
    "tls_key": {"tls_certificate": str(ROOT / "k")},
    "tls_client_ca": {"tls_certificate": str(ROOT / "k"), "tls_key": str(ROOT / "k")},
}


def as_text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def as_field(option: Option, value: Any) -> Any:
    kinds: dict[str, Callable[[Any], Any]] = {"path": Path, "list": tuple, "float": float}
    return kinds.get(option.kind, lambda given: given)(value) if option.meta["scale"] == 1 else value * 2**20


def write(path: Path, values: dict[str, Any]) -> Path:
    """A file with these settings."""
    lines = []
    for group in GROUPS:
        lines.append(f"[{group}]")
        lines += [f"{key} = {toml_value(value)}" for key, value in values.items() if OPTIONS[key].group == group]
    path.write_text("\n".join(lines))
    return path


def test_every_field_is_a_setting_and_is_tested() -> None:
    assert {option.name for option in OPTIONS.values()} == {item.name for item in fields(ServerConfig)} - {
        "image_limits"
    }
    assert set(VALUES) == set(OPTIONS)
    assert {option.group for option in OPTIONS.values()} == set(GROUPS)
    assert all(option.meta["doc"].endswith(".") for option in OPTIONS.values())


@pytest.mark.parametrize("key", OPTIONS)
def test_flags_are_stronger_than_environment_than_file_than_defaults(key: str, tmp_path: Path) -> None:
    option = OPTIONS[key]
    in_file, in_environment, in_flag = VALUES[key]
    others = {OPTIONS[other].variable: value for other, value in WITH.get(key, {}).items()}

    def found(file: Path | None, environ: dict[str, str], flags: dict[str, str | bool]) -> tuple[Any, str]:
        loaded = load_config(file, {**others, **environ}, flags)
        return getattr(loaded.config, option.name), loaded.origins[key]

    file = write(tmp_path / "server.toml", {key: in_file})
    environ = {option.variable: as_text(in_environment)}
    flags: dict[str, str | bool] = {key: in_flag if isinstance(in_flag, bool) else as_text(in_flag)}
    if key != "tls_key" and key != "tls_certificate":
        assert found(None, {}, {}) == (getattr(ServerConfig(), option.name), "default")
    assert found(file, {}, {}) == (as_field(option, in_file), "file server.toml")
    assert found(file, environ, {}) == (as_field(option, in_environment), f"environment {option.variable}")
    assert found(file, environ, flags) == (as_field(option, in_flag), f"flag {option.flag}")
    assert found(None, {}, flags) == (as_field(option, in_flag), f"flag {option.flag}")
    assert type(found(file, environ, {})[0]) is type(as_field(option, in_environment))


@pytest.mark.parametrize("key", [key for key, option in OPTIONS.items() if option.optional])
def test_none_turns_off_what_may_be_off(key: str, tmp_path: Path) -> None:
    option = OPTIONS[key]
    file = write(tmp_path / "server.toml", WITH.get(key, {}) | {key: VALUES[key][0]})
    off: dict[str, str | bool] = dict.fromkeys((*WITH.get(key, {}), key), "none")
    assert getattr(load_config(file).config, option.name) is not None
    assert getattr(load_config(file, {}, off).config, option.name) is None
    environ = {OPTIONS[other].variable: "none" for other in off}
    assert getattr(load_config(file, environ).config, option.name) is None
    assert getattr(load_config(write(tmp_path / "off.toml", {key: "none"})).config, option.name) is None


@pytest.mark.parametrize("key", [key for key, option in OPTIONS.items() if option.kind in ("int", "float", "bool")])
def test_what_is_no_value_is_refused_with_its_origin(key: str, tmp_path: Path) -> None:
    option = OPTIONS[key]
    for file, environ, flags, origin in (
        (write(tmp_path / "server.toml", {key: "many"}), {}, {}, "file server.toml"),
        (None, {option.variable: "many"}, {}, f"environment {option.variable}"),
        (None, {}, {key: "many"}, f"flag {option.flag}"),
    ):
        with pytest.raises(SpecError) as caught:
            load_config(file, environ, flags)
        assert caught.value.field in (option.key, option.name)
        assert f"({origin})" in str(caught.value)


RANGES = [
    ("port", 65536, "≥ 0 and ≤ 65535, found 65536"),
    ("port", 1.5, "whole number"),
    ("port", True, "found bool"),
    ("max_message_mb", 0, "≥ 1 and ≤ 1024 MiB, found 0"),
    ("max_message_mb", 2048, "≥ 1 and ≤ 1024 MiB, found 2048"),
    ("max_message_mb", 1.5, "found 1.5"),
    ("max_message_mb", float("nan"), "found nan"),
    ("max_message_mb", float("inf"), "found inf"),
    ("retention_hours", 0, "> 0 h"),
    ("heartbeat_seconds", float("nan"), "finite"),
    ("max_jobs", 0, "≥ 1"),
    ("log_format", "xml", "accepted: json, text"),
    ("log_level", "info ", "did you mean"),
    ("devices", [], "one device or several"),
    ("devices", ["cpu", "cpu"], "twice"),
    ("devices", 3, "one device or several"),
    ("host", 3, "must be text"),
    ("tokens", 3, "must be a path"),
    ("tokens", "", "found nothing"),
    ("allow_remote", 1, "true or false"),
]


@pytest.mark.parametrize(("key", "value", "said"), RANGES)
def test_values_out_of_their_range(key: str, value: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_config(write(tmp_path / "server.toml", {key: value}))
    assert said in str(caught.value)
    assert "(file server.toml)" in str(caught.value)


FILES = {
    "[listen]\nprot = 1": 'config.listen: unknown setting of [listen] "prot"',
    "[listen]\nprot = 2": 'did you mean "port"',
    "[lisen]\nport = 1": 'did you mean "listen"',
    "port = 1": "config.port: belongs under [listen]",
    "[limits]\nport = 1": "config.limits.port: belongs under [listen]",
    "[[listen]]\nport = 1": "config.listen: must be a table",
    "[listen]\nport = \n": "at line 2",
    "[listen]\nport = 1\nport = 2\n": "at line 3",
    "[listen]\nmax-jobs = 1": "unknown setting",
}


@pytest.mark.parametrize("text", FILES)
def test_files_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "server.toml")
    assert FILES[text] in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'config: there is no file "server.toml"'):
        load_config(tmp_path / "server.toml")


def test_variables_that_are_none() -> None:
    with pytest.raises(SpecError, match=f'did you mean "{PREFIX}MAX_JOBS"'):
        load_config(None, {f"{PREFIX}MAX_JOB": "3"})
    with pytest.raises(SpecError, match="--write-config"):
        load_config(None, {f"{PREFIX}WHATEVER_THIS_IS": "3"})
    assert load_config(None, {"LATENT_INV_TOKEN": "x", f"{PREFIX}PORT": "", "PATH": "/"}).config == ServerConfig()


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"{port}.toml", {"port": port}) for port in (1, 2))
    environ = {f"{PREFIX}CONFIG": str(first)}
    assert load_config(None, environ).config.port == 1
    assert load_config(second, environ).config.port == 2


def test_paths_in_a_file_start_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "etc" / "server.toml", {"tokens": "tokens.toml", "data": "~/data"})
    config = load_config(Path("etc/server.toml"), {f"{PREFIX}PORT_FILE": "port"}).config
    assert config.tokens == tmp_path / "etc" / "tokens.toml"
    assert config.data == Path("~/data").expanduser()
    assert config.port_file == Path("port"), "but those of the environment and of flags do not"


# ---- together ----------------------------------------------------------------------------------

PAIR = {"tls_certificate": Path("c"), "tls_key": Path("k")}


@pytest.mark.parametrize(
    ("settings", "lack"),
    [
        ({}, "neither TLS nor a login"),
        ({"tokens": Path("t")}, "no TLS"),
        (PAIR, "no login"),
        ({**PAIR, "tokens": Path("t")}, ""),
        ({**PAIR, "tls_client_ca": Path("ca")}, ""),
    ],
)
def test_other_machines_need_tls_and_a_login(settings: dict[str, Any], lack: str) -> None:
    ServerConfig(host="0.0.0.0", allow_remote=True, **settings)
    ServerConfig(host="127.0.0.1", **settings)
    if not lack:
        ServerConfig(host="0.0.0.0", **settings)
        return
    with pytest.raises(SpecError, match=rf"there is {lack}.*--allow-remote") as caught:
        ServerConfig(host="0.0.0.0", **settings)
    assert caught.value.field == "host"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"tls_certificate": Path("c")}, "tls_key"),
        ({"tls_key": Path("k")}, "tls_certificate"),
        ({"tls_client_ca": Path("ca")}, "tls_certificate"),
    ],
)
def test_tls_needs_both_files(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError, match="must be given") as caught:
        ServerConfig(**settings)
    assert caught.value.field == field


# ---- on paper ----------------------------------------------------------------------------------


def test_what_is_printed_gives_the_same_settings(tmp_path: Path) -> None:
    for number in range(3):
        # All at once; what is off by default is off in the first round.
        values = {key: each[number] for key, each in VALUES.items()} if number else {}
        loaded = load_config(write(tmp_path / "some.toml", values))
        (tmp_path / "printed.toml").write_text(effective_text(loaded))
        again = load_config(tmp_path / "printed.toml")
        assert again.config == loaded.config
        assert set(again.origins.values()) == {"file printed.toml"}


def test_it_says_where_each_value_is_from(tmp_path: Path) -> None:
    file = write(tmp_path / "server.toml", {"max_jobs": 5})
    text = effective_text(load_config(file, {f"{PREFIX}MAX_QUEUED": "6"}, {"port": "7"}))
    for line in (
        "max_jobs = 5  # file server.toml",
        f"max_queued = 6  # environment {PREFIX}MAX_QUEUED",
        "port = 7  # flag --port",
        "max_streams = 1000  # default",
        'tokens = "none"  # default',
    ):
        assert f"\n{line}\n" in text


def test_the_file_to_start_from_is_all_comments_and_tells_of_everything(tmp_path: Path) -> None:
    text = default_text()
    assert parse_toml(text.encode(), "x") == {group: {} for group in GROUPS}
    for option in OPTIONS.values():
        assert f"\n# {option.key} = " in text
    # Without the signs it is the same as nothing.
    bare = "\n".join(line.removeprefix("# ") if " = " in line else line for line in text.splitlines())
    (tmp_path / "all.toml").write_text(bare)
    assert load_config(tmp_path / "all.toml").config == ServerConfig()
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:s3cret@host/db",
        "postgresql://host/db?user=x&password=s3cret",
        "postgresql://user:s3cret@host/db?sslpassword=s3cret&x=1",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    loaded = load_config(None, {f"{PREFIX}DATABASE": url})
    assert loaded.config.database == url
    text = effective_text(loaded)
    assert "s3cret" not in text
    assert "s3cret" not in repr(loaded)
    assert "***" in text
    assert "database" not in parse_toml(text.encode(), "x")["store"]


# ---- the command -------------------------------------------------------------------------------

runner = CliRunner()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServerConfig]:
    """What a server was started with."""
    configs: list[ServerConfig] = []

    def run(config: ServerConfig, _: Any) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr("latent_inv_server.main.run", run)
    return configs


@pytest.mark.parametrize("key", OPTIONS)
def test_every_setting_is_a_flag(key: str, started: list[ServerConfig]) -> None:
    option, value = OPTIONS[key], VALUES[key][2]
    flags = [option.flag] if value is True else [option.flag, as_text(value)]
    for other, text in WITH.get(key, {}).items():
        flags += [OPTIONS[other].flag, text]
    done = runner.invoke(app, ["serve", *flags])
    assert done.exit_code == 0, done.output
    assert getattr(started[0], option.name) == as_field(option, value)


def test_help_tells_of_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(runner.invoke(app, ["serve", "--help"]).stdout.split())
    for option in OPTIONS.values():
        assert f"{option.flag} " in text or f"{option.flag}," in text
        assert option.meta["doc"].split(".")[0].split(";")[0][:30] in text
    for title in GROUPS.values():
        assert title in text


def test_the_command_takes_all_three(
    tmp_path: Path, started: list[ServerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "server.toml", {"max_jobs": 5, "max_queued": 5, "port": 5, "allow_remote": True})
    monkeypatch.setenv(f"{PREFIX}MAX_QUEUED", "6")
    monkeypatch.setenv(f"{PREFIX}PORT", "6")
    arguments = ["serve", "--config", str(file), "--port", "7", "--no-allow-remote"]
    assert runner.invoke(app, arguments).exit_code == 0
    config = started[0]
    assert (config.max_jobs, config.max_queued, config.port, config.allow_remote) == (5, 6, 7, False)
    printed = runner.invoke(app, [*arguments, "--print-config"])
    assert printed.exit_code == 0
    assert "port = 7  # flag --port" in printed.stdout
    assert len(started) == 1, "nothing was started for that"
    wrong = runner.invoke(app, [*arguments, "--print-config", "--max-jobs", "many"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "max_jobs: must be a whole number" in wrong.stderr


def test_the_file_to_start_from_is_written_once(tmp_path: Path, started: list[ServerConfig]) -> None:
    file = tmp_path / "server.toml"
    assert runner.invoke(app, ["serve", "--write-config", str(file)]).exit_code == 0
    assert file.read_text() == default_text()
    again = runner.invoke(app, ["serve", "--write-config", str(file)])
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert started == []
