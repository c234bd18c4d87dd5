"""Pictures to train on: wallpapers of Debian packages, at several sizes, some of them held back."""

from __future__ import annotations

import hashlib
import io
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from latent_inv.images import load

#: package -> what its copyright file says of the pictures
PACKAGES: dict[str, str] = {
    "gnome-backgrounds": "GPL-2+; pictures CC-BY-SA-3.0",
    "plasma-workspace-wallpapers": "GPL-2+",
    "mate-backgrounds": "GPL-2+, CC-BY-SA-4.0, by picture",
    "lomiri-wallpapers-16.04": "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0, by picture",
    "lomiri-wallpapers-20.04": "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0, by picture",
    "ukui-wallpapers": "CC-BY-SA-3.0",
}
#: lengths of the shorter side, pixels; by the first, held-back pictures are judged
SIDES = (256, 128, 192, 384)
_KINDS = (".jpg", ".jpeg", ".png", ".webp")
_HELD_BACK = 12  # one in so many
#: a picture narrower than this in its file tells nothing at these sizes
_LEAST_SIDE = 500


@dataclass(frozen=True)
class Wallpapers:
    """Pictures as [H, W, 3] bytes."""

    training: list[np.ndarray]
    held_back: list[np.ndarray]


def wallpapers(folder: Path) -> Wallpapers:
    """The pictures, from `folder` or downloaded into it with apt-get (Debian and its children only).

    Which are held back is decided by their hash, so it is the same everywhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not (folder / package).exists():
            _unpack(package, folder)
    training, held_back, seen = [], [], set()
    for path in sorted(path for package in PACKAGES for path in (folder / package).rglob("*")):
        if path.suffix.lower() not in _KINDS or not path.is_file():
            continue
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 in seen:
            continue
        seen.add(sha256)
        sizes = _sizes(content, folder / "cache" / sha256)
        if int(sha256, 16) % _HELD_BACK == 0:
            held_back += sizes[:1]
        else:
            training += sizes
    return Wallpapers(training, held_back)


def _unpack(package: str, folder: Path) -> None:
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
    archive = next(folder.glob(f"{package}_*.deb"))
    (folder / package).mkdir()
    subprocess.run(["dpkg-deb", "-x", archive.name, package], cwd=folder, check=True)


def _sizes(content: bytes, cache: Path) -> list[np.ndarray]:
    """The picture at all sizes that it has enough pixels for; kept, as decoding takes long."""
    file = cache.with_suffix(".npz")
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        image = Image.open(io.BytesIO(content)).convert("RGB")
        short = min(image.size)
        found = []
        for side in SIDES if short >= _LEAST_SIDE else ():
            if side <= short:
                ratio = side / short
                size = (round(image.width * ratio), round(image.height * ratio))
                found.append(np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)))
        np.savez(file, *found)
    with np.load(file) as saved:
        return [saved[name] for name in saved.files]


def photographs() -> dict[str, np.ndarray]:
    """The four pictures by which the autoencoder is judged, never trained on: name -> [3, 256, 256] in [-1, 1]."""
    from skimage import data

    found = {}
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = Image.fromarray(getattr(data, name)())
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.LANCZOS)
        found[name] = load(square).pixels
    return found
