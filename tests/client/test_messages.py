"""A picture is the same picture whether it is loaded here or sent and loaded there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latent_inv.client import Artifact
from latent_inv.client.messages import check_size, image_message, invert_request, outsized, sample_request
from latent_inv.convert import job_spec
from latent_inv.convert.tensors import image_from, weighted
from latent_inv.errors import ImageError, LatentInvError, LimitError, SpecError
from latent_inv.images import Limits, load, with_weight
from latent_inv.spec import Adam, Budget, Given, JobSpec, Pixel, Reporting, TotalVariation
from latent_inv.v1 import data_pb2
from tests.conftest import make_picture

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (9, 7, 4), dtype=np.uint8)
UNIT = RANDOM.uniform(0, 1, (9, 7, 3))


def there(image: Any, value_range: tuple[float, float] | None = None) -> Any:
    """As the server has it."""
    message = image_message(image, value_range, "image")
    return image_from(type(message).FromString(message.SerializeToString()), limits=Limits(), field="image")


def assert_same(image: Any, value_range: tuple[float, float] | None = None) -> None:
    expected, found = load(image, value_range=value_range), there(image, value_range)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    if expected.weight is None:
        assert found.weight is None
    else:
        np.testing.assert_array_equal(found.weight, expected.weight)


ARRAYS = {
    "uint8": (BYTES[..., :3], None),
    "alpha": (BYTES, None),
    "uint16": (RANDOM.integers(0, 65536, (9, 7, 3), dtype=np.uint16), None),
    "bool": (BYTES[..., 0] > 127, None),
    "float16": (UNIT.astype(np.float16), (0, 1)),
    "float32": (UNIT.astype(np.float32) * 255, (0, 255)),
    "float64": (UNIT * 2 - 1, (-1, 1)),
    "big-endian": (UNIT.astype(">f4"), (0, 1)),
    "not contiguous": (BYTES[::-1, ::2, :3], None),
    "channels first": (np.moveaxis(BYTES[..., :3], 2, 0), None),
    "tensor": (torch.from_numpy(UNIT).float(), (0, 1)),
    "bfloat16": (torch.from_numpy(UNIT).bfloat16().requires_grad_(), (0, 1)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str) -> None:
    assert_same(*ARRAYS[name])


def pil(mode: str) -> Image.Image:
    if mode == "F":
        return Image.fromarray(UNIT[..., 0].astype(np.float32))
    if mode.startswith("I;16"):
        return Image.fromarray(ARRAYS["uint16"][0][..., 0]).convert(mode)
    if mode == "LAB":
        return Image.new("LAB", (7, 9), (100, 130, 120))
    through = {"La": "LA", "PA": "P", "RGBa": "RGBA"}
    picture = Image.fromarray(BYTES)
    for step in (through.get(mode, mode), mode):
        picture = picture.convert(step) if picture.mode != step else picture
    return picture


MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_pil_images(mode: str) -> None:
    assert pil(mode).mode == mode
    assert_same(pil(mode), (0, 1) if mode == "F" else None)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("TIFF", "RGB")])
def test_pil_images_keep_their_orientation(kind: str, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    pil(mode).save(file, kind, exif=exif)
    whole = load(file.getvalue())
    assert (whole.height, whole.width) == ((9, 7) if orientation < 5 else (7, 9))
    np.testing.assert_array_equal(there(Image.open(file)).pixels, whole.pixels)
    np.testing.assert_array_equal(there(file.getvalue()).pixels, whole.pixels)


def test_pil_images_keep_their_profile() -> None:
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Red and blue exchanged: wrong in a way that cannot be overlooked.
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    file = io.BytesIO()
    pil("RGB").save(file, "PNG", icc_profile=bytes(profile))
    expected = load(file.getvalue())
    assert np.abs(expected.pixels - load(pil("RGB")).pixels).max() > 0.5
    np.testing.assert_array_equal(there(Image.open(file)).pixels, expected.pixels)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    pil("RGBA").save(path, lossless=True)
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        assert image_message(source, None, "image").encoded == path.read_bytes()


WEIGHTS = {
    "bool": BYTES[..., 0] > 127,
    "uint8": BYTES[..., 0],
    "float": UNIT[..., 0],
    "one channel": torch.from_numpy(UNIT[None, ..., 0]),
    "picture": Image.fromarray(BYTES[..., 0]),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str) -> None:
    message = image_message(WEIGHTS[name], None, "weight")
    expected = with_weight(load(BYTES), WEIGHTS[name])
    found = weighted(load(BYTES), message, limits=Limits(), field="weight")
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_array_equal(found.pixels, expected.pixels)


WRONG: dict[str, tuple[Any, Any, type[LatentInvError], str, str]] = {
    "nothing": (None, None, ImageError, "image", "found NoneType"),
    "a list": ([[1, 2]], None, ImageError, "image", "found list"),
    "no file": ("/none/there.png", None, ImageError, "image", 'no file "there.png"'),
    "a folder": (Path(__file__).parent, None, ImageError, "image", "folder"),
    "whole numbers": (np.zeros((4, 4), np.int64), None, SpecError, "image.dtype", "found int64"),
    "objects": (np.array([["a"]], dtype=object), None, SpecError, "image.dtype", "found object"),
    "another range": (UNIT, (0, 2), SpecError, "image.value_range", "(0, 2)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_sent(name: str) -> None:
    image, value_range, kind, field, text = WRONG[name]
    with pytest.raises(kind) as caught:
        image_message(image, value_range, "image")
    assert caught.value.field == field
    assert text in str(caught.value)
    assert "/none" not in str(caught.value), "no folders in messages"


def test_half_a_pil_image_is_said_to_be_one() -> None:
    file = io.BytesIO()
    Image.fromarray(np.tile(BYTES[..., :3], (20, 20, 1))).save(file, "JPEG")
    half = Image.open(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))
    with pytest.raises(ImageError, match="truncated") as caught:
        image_message(half, None, "image")
    assert caught.value.field == "image"


def request(image: Any = BYTES, **arguments: Any) -> Any:
    plain: dict[str, Any] = {"weight": None, "value_range": None, "start": None, "initialiser": None}
    plain |= {"budget": Budget(), "shortcuts": {}}
    settings = {name: value for name, value in arguments.items() if name not in plain}
    given = {name: value for name, value in arguments.items() if name in plain}
    return invert_request(image, "toy", **plain | given, settings=settings)[0]


def test_all_arguments_arrive() -> None:
    arguments: dict[str, Any] = {
        "space": "code",
        "perceptual": "lpips-vgg",
        "losses": (TotalVariation(weight=0.5), Pixel(kind="l1", weight=0)),
        "solver": Adam(learning_rate=0.5, schedule="constant", warmup_steps=0, beta1=0),
        "budget": Budget(steps=0, seconds=1.5, patience=3),
        "reporting": Reporting(progress_steps=7, preview_seconds=0.5),
        "seed": 2**63 - 1,
        "priority": "bulk",
        "lane_width": 8,
        "dtype": "float64",
        "crop": (1, 2, 5, 9),
    }
    spec = job_spec(request(**arguments, start={"z": UNIT}).spec)
    assert {name: getattr(spec, name) for name in arguments} == arguments
    assert spec.generator == "toy"
    assert isinstance(spec.initialiser, Given)
    np.testing.assert_array_equal(spec.initialiser.latents["z"], UNIT)
    assert spec.initialiser.latents["z"].dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"losses": ()}, "losses"),
        ({"solver": Pixel()}, "solver"),
        ({"crop": (1, 2, 3)}, "crop"),
        ({"crop": (1, 2, 3, 4.5)}, "crop"),
        ({"crop": (0, 0, 2**40, 2**40)}, "crop"),
        ({"start": {"z": UNIT}, "initialiser": Given()}, "start"),
        ({"start": {"z": np.array(["a"])}}, "initialiser.latents.z"),
        ({"image": None}, "image"),
        ({"weight": "none.png"}, "weight"),
    ],
)
def test_wrong_arguments_are_refused_here(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(LatentInvError) as caught:
        request(**arguments)
    assert caught.value.field == field


def test_names_that_are_no_arguments() -> None:
    for name in ("sead", "picture", "device"):  # `device` is the server's own
        with pytest.raises(SpecError, match=f'unknown argument .*"{name}"') as caught:
            request(**{name: 1})
        assert caught.value.field == name


def test_sizes() -> None:
    made = request(make_picture(64, 64).pixels, value_range=(-1, 1))
    size = made.ByteSize()
    check_size(made, size)
    with pytest.raises(LimitError, match=rf"has {size} bytes, at most {size - 1}"):
        check_size(made, size - 1)


def test_pictures_that_do_not_fit_are_named_largest_first() -> None:
    """Each is asked for only while the request is too large; one that stays too large is refused."""

    def small(limit: int) -> tuple[list[int], Any]:
        made = request(bytes(3000), weight=bytes(1000))
        pictures, found = [made.spec.weight, made.spec.image], []
        for picture in outsized(made, pictures, limit):
            found.append(len(picture.encoded))
            picture.artifact_sha256 = "0" * 64
        return found, made

    whole = request(bytes(3000), weight=bytes(1000)).ByteSize()
    assert small(whole)[0] == []
    assert small(whole - 1)[0] == [3000]
    found, made = small(1000)
    assert found == [3000, 1000]
    assert made.spec.image.artifact_sha256 == made.spec.weight.artifact_sha256 == "0" * 64
    with pytest.raises(LimitError, match="at most 100 "):
        small(100)


def test_an_upload_is_sent_by_its_hash() -> None:
    artifact = Artifact("ab" * 32, 10, 10, "image/tiff", complete=True)
    made = request(artifact, weight=artifact, value_range=(0, 255))
    assert made.spec.image.artifact_sha256 == made.spec.weight.artifact_sha256 == "ab" * 32
    assert made.spec.image.value_range == data_pb2.VALUE_RANGE_ZERO_TO_255


@pytest.mark.parametrize("seeds", [(), (-1,), (2**63,), (1.5,), range(65), "7", None])
def test_seeds(seeds: Any) -> None:
    with pytest.raises(SpecError) as caught:
        sample_request(seeds, "toy", space="", height=0, width=0, dtype="float32")
    assert caught.value.field == "seeds"


def test_defaults_are_the_library_s() -> None:
    spec = job_spec(request().spec)
    plain = JobSpec(picture=spec.picture, generator="toy")
    for name in ("losses", "observation", "solver", "initialiser", "budget", "reporting", "dtype", "perceptual"):
        assert getattr(spec, name) == getattr(plain, name)
