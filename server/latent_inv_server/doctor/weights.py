"""Weights: here, missing or damaged, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping

from latent_inv.asset_table import ASSETS, PackageData
from latent_inv.assets import AssetStore
from latent_inv.spec import JobSpec

from .finding import Finding, fail, ok, warn

#: without these nothing works that is asked for without more words
_GENERATOR = "faces"
_OFF = ("", "0", "false", "no", "off")


def weights(store: AssetStore, environ: Mapping[str, str]) -> list[Finding]:
    """Every file of weights; nothing is fetched."""
    offline = environ.get("LATENT_INV_OFFLINE", "").lower() not in _OFF
    default = {_GENERATOR, _default_metric()}
    return [_weights(name, store, offline, name in default) for name in ASSETS]


def _weights(name: str, store: AssetStore, offline: bool, default: bool) -> Finding:
    about, asset = f"weights {name}", ASSETS[name]
    state, path = store.look(name)
    if state == "here" and path is not None:
        return ok(about, f"here, {path.stat().st_size / 1e6:.1f} MB, from {asset.origin}")
    own = isinstance(asset.source, PackageData)
    if state == "damaged" and path is not None:
        advice = "install latent-inv again" if own else f"remove {path}; it is fetched again when it is needed"
        return fail(about, f"the file is damaged, from {asset.origin}", advice)
    if own:
        return fail(about, f"missing from {asset.origin}", "install latent-inv again")
    fetch = f'python -c "import latent_inv.assets as a; a.fetch({name!r})"'
    if default and offline:
        return fail(about, f"not here, and LATENT_INV_OFFLINE forbids to fetch it from {asset.origin}", f"run: {fetch}")
    if default:
        return warn(about, f"not here; fetched from {asset.origin} by the first job", f"to have it before: {fetch}")
    return ok(about, f"not here; from {asset.origin} when a job asks for it")


def _default_metric() -> str:
    field = JobSpec.__dataclass_fields__["perceptual"]
    return str(field.default)
