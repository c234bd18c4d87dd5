"""All looks, in the order in which a server needs the things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from latent_inv.assets import AssetStore, cache_folder
from latent_inv.errors import LatentInvError
from latent_inv_server.config import ServerConfig
from latent_inv_server.config_sources import load_config

from .door import certificates, tokens
from .finding import Finding, fail, looked, ok
from .keeping import database, folder
from .machine import devices, packages, threads
from .ports import ports
from .weights import weights


def examine(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, str | bool] | None = None
) -> tuple[list[Finding], ServerConfig | None]:
    """Look at everything that `latent-inv serve` with the same settings would use. Changes nothing.

    Args:
        file, environ, flags: as `load_config`.
    Returns:
        (what was found, the settings; None if they cannot be used)
    """
    found: list[Finding] = []
    config: ServerConfig | None = None
    try:
        loaded = load_config(file, environ, flags)
        config = loaded.config
        given = sum(origin != "default" for origin in loaded.origins.values())
        found.append(ok("settings", f"{given} of {len(loaded.origins)} are not the defaults"))
    except LatentInvError as error:
        advice = "correct it; latent-inv serve --print-config shows what is in force"
        found.append(fail("settings", str(error), advice))
    # Whatever they say, the machine can be looked at.
    at = config or ServerConfig()
    looks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("packages", partial(packages)),
        ("devices", partial(devices, at.devices, at.threads)),
        ("threads", partial(threads, at.devices, at.threads)),
        ("weights", partial(weights, AssetStore(cache_folder()), environ)),
    ]
    if config is not None:
        looks += [
            ("ports", partial(ports, config)),
            ("data folder", partial(folder, config)),
            ("database", partial(database, config)),
            ("tokens", partial(tokens, config)),
            ("certificate", partial(certificates, config)),
        ]
    for about, look in looks:
        found += looked(about, look, "see docs/operations.md")
    return found, config
