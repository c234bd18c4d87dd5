"""Autoencoders of diffusers, small ones that are made here, against diffusers itself."""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv import spec as specs
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import AssetError, SpecError
from latent_inv.generators import Generator, GeneratorTable, open_table
from latent_inv.generators.diffusers_autoencoder import KINDS, open_model
from latent_inv.generators.half import HALVES
from latent_inv.images import Picture
from latent_inv.solve import run
from tests import contracts

diffusers = pytest.importorskip("diffusers")

#: class -> its settings, as small as they can be
SMALL: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 2,
        "latent_channels": 4,
        "scaling_factor": 0.36,
        "shift_factor": 0.1,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
        "act_fn": "silu",
    },
    "AsymmetricAutoencoderKL": {
        "down_block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_out_channels": (8, 16),
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 2,
    },
    "VQModel": {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 2,
        "num_vq_embeddings": 16,
    },
    "AutoencoderDC": {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "encoder_layers_per_block": (1, 1),
        "decoder_layers_per_block": (1, 1),
        "encoder_block_types": "ResBlock",
        "decoder_block_types": "ResBlock",
        "encoder_qkv_multiscales": ((), ()),
        "decoder_qkv_multiscales": ((), ()),
        "attention_head_dim": 4,
        "latent_channels": 4,
        "scaling_factor": 0.5,
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, settings in SMALL.items():
            getattr(diffusers, name)(**settings).save_pretrained(root / name)
    return {name: root / name for name in SMALL}


@pytest.fixture(scope="module")
def opened(folders: dict[str, Path]) -> Callable[..., Generator]:
    """Each loaded once."""
    made: dict[tuple[str, torch.dtype], Generator] = {}

    def load(name: str, dtype: torch.dtype = torch.float32) -> Generator:
        if (name, dtype) not in made:
            made[name, dtype] = open_model(str(folders[name]), "it").load(torch.device("cpu"), dtype)
        return made[name, dtype]

    return load


def reference(folder: Path, name: str) -> Any:
    return getattr(diffusers, name).from_pretrained(str(folder)).eval()


def test_every_kind_is_tested() -> None:
    assert set(SMALL) == set(KINDS)


@pytest.mark.parametrize("name", SMALL)
class TestEveryKind:
    def test_it_decodes_as_diffusers_does(self, name: str, folders: dict[str, Path], opened: Any) -> None:
        generator, original = opened(name), reference(folders[name], name)
        latents = generator.sample((1, 2), "", (16, 24))
        raw = latents["spatial"] / original.config.get("scaling_factor", 1.0)
        raw = raw + (original.config.get("shift_factor", None) or 0.0)
        more = {"force_not_quantize": True} if name == "VQModel" else {}
        with torch.no_grad():
            expected = original.decode(raw, **more).sample.clamp(-1, 1)
            found = generator(latents)
        assert found.shape == (2, 3, 16, 24)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    def test_it_encodes_as_diffusers_does(self, name: str, folders: dict[str, Path], opened: Any) -> None:
        generator, original = opened(name), reference(folders[name], name)
        images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            answer = original.encode(images)
            raw = answer.latent_dist.mode() if hasattr(answer, "latent_dist") else next(iter(answer.values()))
            found = generator.encode(images)["spatial"]
        shift = original.config.get("shift_factor", None) or 0.0
        torch.testing.assert_close(found, (raw - shift) * original.config.get("scaling_factor", 1.0), atol=1e-5, rtol=0)
        assert found.shape[1:] == generator.spaces["spatial"].shapes((16, 24))["spatial"]

    def test_rows_are_apart_and_nothing_is_left(self, name: str, opened: Any) -> None:
        generator = opened(name)
        first, second = (generator.sample(range(k, k + 3), "", (16, 16)) for k in (0, 10))
        with torch.no_grad():
            contracts.rows_are_apart(generator, first, second)
            contracts.rows_do_not_depend_on_the_batch(generator, first, 1e-5)
        contracts.weights_are_frozen(generator.network, lambda: generator(first))

    def test_both_number_formats_make_one_picture(self, name: str, opened: Any) -> None:
        single, double = opened(name), opened(name, torch.float64)
        latents = double.sample((3,), "", (16, 16))
        assert latents["spatial"].dtype == torch.float64
        with torch.no_grad():
            images = single(single.sample((3,), "", (16, 16)))
            torch.testing.assert_close(images.double(), double(latents), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("precision", HALVES)
    def test_half_precision_is_near(self, name: str, precision: str, opened: Any) -> None:
        exact = opened(name)
        half = exact.rounded(HALVES[precision])
        latents = exact.sample((3, 4), "", (16, 24))
        images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            decoded, codes = half(latents), half.encode(images)["spatial"]
            expected = exact.encode(images)["spatial"]
            torch.testing.assert_close(decoded, exact(latents), atol=0.05, rtol=0.05)
            torch.testing.assert_close(codes, expected, atol=0.1, rtol=0.05)
        assert decoded.dtype == codes.dtype == torch.float32
        assert not torch.equal(codes, expected)

    def test_derivatives_are_right(self, name: str, opened: Any) -> None:
        double = opened(name, torch.float64)
        code = double.sample((3,), "", (16, 16))["spatial"]

        def weighed(latents: torch.Tensor) -> torch.Tensor:
            images = double({"spatial": latents})
            return (images * torch.linspace(-1, 1, images.numel(), dtype=images.dtype).reshape(images.shape)).sum()

        if name == "AutoencoderDC":
            # Its norms compute in float32 whatever comes in, which is too coarse for finite differences.
            _, tangent = torch.func.jvp(weighed, (code,), (torch.ones_like(code),))
            (gradient,) = torch.autograd.grad(weighed(code.requires_grad_()), code)
            torch.testing.assert_close(gradient.sum(), tangent, rtol=1e-4, atol=1e-4)
            return
        contracts.gradient_is_right(weighed, (code,), twice=True)
        direction = torch.randn(code.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        contracts.tangent_is_right(lambda x: double({"spatial": x}), code, direction)

    def test_its_description_says_what_it_is(self, name: str, folders: dict[str, Path]) -> None:
        info = open_model(str(folders[name]), "mine").info()
        assert info.name == "mine"
        assert name in info.title
        assert info.stride == 2
        assert info.has_encoder
        assert len(info.weights_sha256) == 64
        assert str(folders[name].parent) not in json.dumps([info.source, info.licence, info.title])


def test_a_picture_of_odd_size_is_found_and_cropped_back(folders: dict[str, Path]) -> None:
    """By the reference itself, from the encoder on."""
    engine = Engine(open_table(), place("cpu"))
    name = f"diffusers:{folders['AutoencoderKL']}"
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 37, 53)).astype(np.float32)
    spec = specs.JobSpec(picture=Picture(pixels), generator=name, losses=(specs.Pixel(),), budget=specs.Budget(steps=3))
    result = run(engine, spec)
    assert result.image.shape == (3, 37, 53)
    assert result.latents["spatial"].shape == (1, 4, 19, 27)
    assert result.metrics.mse <= result.history[0].metrics.mse
    assert any("encoder" in why for why in result.picked["why"])


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """An autoencoder whose decoder goes through numbers of 10⁶; that of SDXL is known for such."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = diffusers.AutoencoderKL(**SMALL["AutoencoderKL"])
    with torch.no_grad():
        model.decoder.conv_in.weight.mul_(1e6)
    model.save_pretrained(tmp_path / "loud")
    return tmp_path / "loud"


def test_what_overflows_float16_is_decoded_in_float32(loud: Path) -> None:
    engine, name = Engine(open_table(), place("cpu")), f"diffusers:{loud}"
    exact = run(engine, specs.SampleSpec(seeds=(1, 2), generator=name, height=16, width=16))
    found = run(engine, specs.SampleSpec(seeds=(1, 2), generator=name, height=16, width=16, precision="float16"))
    np.testing.assert_array_equal(found.images, exact.images)
    assert exact.images.std() > 0.05
    assert found.warnings == ("float16 gave values that are not finite, so decoded in float32: rows 0, 1",)
    wide = run(engine, specs.SampleSpec(seeds=(1, 2), generator=name, height=16, width=16, precision="bfloat16"))
    assert (wide.precision, wide.warnings) == ("bfloat16", ())
    np.testing.assert_allclose(wide.images, exact.images, atol=0.1)


def test_a_job_that_overflows_float16_ends_as_one_in_float32(loud: Path) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 24, 24)).astype(np.float32)
    asked: dict[str, Any] = {"generator": f"diffusers:{loud}", "losses": (specs.Pixel(),)}
    asked |= {"picture": Picture(pixels), "budget": specs.Budget(steps=3), "solver": specs.Adam()}
    exact, found = (
        run(Engine(open_table(), place("cpu")), specs.JobSpec(**asked, precision=precision))
        for precision in ("float32", "float16")
    )
    assert found.precision == "float32"
    assert "float16 gave values that are not finite at step 0" in found.warnings[0]
    assert found.metrics.psnr_db == pytest.approx(exact.metrics.psnr_db, abs=0.5)


def test_weights_are_loaded_without_a_second_copy(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """With accelerate, the network is made without numbers first, and those of the file become its own."""
    made = []
    kind = diffusers.AutoencoderKL
    original = kind.__init__

    @functools.wraps(original)
    def note(self: Any, *args: Any, **settings: Any) -> None:
        original(self, *args, **settings)
        made.append({parameter.device.type for parameter in self.parameters()})

    monkeypatch.setattr(kind, "__init__", note)
    generator = open_model(str(folders["AutoencoderKL"]), "it").load(torch.device("cpu"), torch.float32)
    assert made == [{"meta"}]
    assert {parameter.device.type for parameter in generator.network.parameters()} == {"cpu"}


def test_an_alias_hides_where_it_lies(folders: dict[str, Path]) -> None:
    table = GeneratorTable({}, {"diffusers": open_model}, {"vae": f"diffusers:{folders['AutoencoderTiny']}"})
    assert table.find("vae").name == "vae"
    with pytest.raises(SpecError):
        table.find(f"diffusers:{folders['AutoencoderTiny']}")


def test_a_whole_pipeline_gives_its_autoencoder(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "vae").symlink_to(folders["AutoencoderKL"])
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(SpecError, match="inside of the model"):
        open_model(str(tmp_path), "it")
    (tmp_path / "vae").unlink()
    import shutil

    shutil.copytree(folders["AutoencoderKL"], tmp_path / "vae")
    assert open_model(str(tmp_path), "it").stride == 2
    (tmp_path / "model_index.json").unlink()
    with pytest.raises(AssetError, match=r"has no config.json; subfolders that have one: vae \(\?subfolder=…\)"):
        open_model(str(tmp_path), "it")
    assert open_model(f"{tmp_path}?subfolder=vae", "it").source.endswith(", vae")


def test_mean_and_deviation_by_channel(folders: dict[str, Path], tmp_path: Path) -> None:
    changed = copy_of(folders["AutoencoderKL"], tmp_path, latents_mean=[1, 2, 3, 4], latents_std=[0.5, 1, 2, 4])
    kind: Any = open_model(str(changed), "it")
    assert kind.latent_shift == (1, 2, 3, 4)
    assert kind.latent_factor == pytest.approx((0.72, 0.36, 0.18, 0.09))
    generator = kind.load(torch.device("cpu"), torch.float32)
    images = torch.zeros(1, 3, 8, 8)
    with torch.no_grad():
        raw = generator.network.encode(images).latent_dist.mode()
        found = generator.encode(images)["spatial"]
    torch.testing.assert_close(found[0, 3], (raw[0, 3] - 4) * 0.09)
    changed = copy_of(folders["AutoencoderKL"], tmp_path, latents_mean=[1], latents_std=[1])
    with pytest.raises(AssetError, match="must have 4 numbers"):
        open_model(str(changed), "it")


def copy_of(folder: Path, where: Path, **settings: Any) -> Path:
    import shutil

    copied = where / f"copy{len(list(where.iterdir()))}"
    shutil.copytree(folder, copied)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, **settings}))
    return copied


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"_class_name": "AutoencoderKLWan"}, "is AutoencoderKLWan, accepted: AutoencoderKL, AutoencoderTiny"),
        ({"_class_name": None}, "is of no stated class"),
        ({"in_channels": 1}, "other than three channels"),
        ({"block_out_channels": 3}, "settings of .* are damaged"),
        ({"scaling_factor": "much"}, "settings of .* are damaged"),
    ],
)
def test_settings_that_cannot_be(folders: dict[str, Path], tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    settings = {name: value or "" for name, value in settings.items()}
    with pytest.raises(AssetError, match=said) as caught:
        open_model(str(copy_of(folders["AutoencoderKL"], tmp_path, **settings)), "it")
    assert caught.value.field == "generator"
    assert str(tmp_path) not in str(caught.value)


def test_what_is_not_there(tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENT_INV_OFFLINE", "1")
    copied = copy_of(folders["AutoencoderTiny"], tmp_path)
    (copied / "diffusion_pytorch_model.safetensors").unlink()
    cases: list[tuple[str, type[Exception], str]] = [
        (f"{tmp_path}/no", AssetError, "there is no folder no, and a hub repository is OWNER/NAME"),
        ("./no", AssetError, "there is no folder no"),
        ("no", AssetError, "there is no folder no"),
        (str(copied), AssetError, "has no weights; one of diffusion_pytorch_model.safetensors"),
        ("somebody/something", AssetError, "not on this disk, and the network is switched off"),
        (f"{copied}?subfolder=../..", SpecError, "inside of the model"),
        (f"{copied}?subfoldr=vae", SpecError, 'did you mean "subfolder"'),
        ("?subfolder=vae", SpecError, "must name a folder"),
    ]
    for text, kind, said in cases:
        with pytest.raises(kind, match=said):
            open_model(text, "it")
    (copied / "config.json").write_text("[]")
    with pytest.raises(AssetError, match="holds no settings"):
        open_model(str(copied), "it")
    (copied / "config.json").write_text("{")
    with pytest.raises(AssetError, match="is not JSON"):
        open_model(str(copied), "it")


def test_a_hub_that_does_not_answer_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("https://user:hf_secret@hub/x cannot be reached")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(AssetError, match=r"cannot be had from the hub.*HF_TOKEN") as caught:
        open_model("somebody/something", "it")
    assert "hf_secret" not in str(caught.value)


def test_half_a_download_and_other_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    half = copy_of(folders["AutoencoderTiny"], tmp_path)
    weights = half / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AssetError, match=r"cannot load folder .*; is it whole\?"):
        open_model(str(half), "it").load(cpu, torch.float32)
    other = copy_of(folders["AutoencoderKL"], tmp_path)
    from safetensors.torch import load_file, save_file

    state = load_file(other / "diffusion_pytorch_model.safetensors")
    state["more.weight"] = state.pop("decoder.conv_out.bias")
    save_file(state, other / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AssetError, match=r"missing are decoder.conv_out.bias; there should not be more.weight"):
        open_model(str(other), "it").load(cpu, torch.float32)


def test_old_weights_are_read_without_being_run(folders: dict[str, Path], tmp_path: Path, opened: Any) -> None:
    from safetensors.torch import load_file

    old = copy_of(folders["AutoencoderTiny"], tmp_path)
    safe = old / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(safe), old / "diffusion_pytorch_model.bin")
    safe.unlink()
    generator = open_model(str(old), "it").load(torch.device("cpu"), torch.float32)
    latents = generator.sample((0,), "", (8, 8))
    assert torch.equal(generator(latents), opened("AutoencoderTiny")(latents))

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (open, (str(tmp_path / "ran"), "w"))  # type: ignore[return-value]

    (old / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({"a": Bomb()}))
    with pytest.raises(AssetError, match="not a checkpoint of plain tensors"):
        open_model(str(old), "it").load(torch.device("cpu"), torch.float32)
    assert not (tmp_path / "ran").exists()


def test_shards_are_one_model(folders: dict[str, Path], tmp_path: Path, opened: Any) -> None:
    shards = copy_of(folders["AutoencoderTiny"], tmp_path)
    (shards / "diffusion_pytorch_model.safetensors").unlink()
    reference(folders["AutoencoderTiny"], "AutoencoderTiny").save_pretrained(shards, max_shard_size="8KB")
    kind: Any = open_model(str(shards), "it")
    assert len(kind.files.weights) > 1
    generator = kind.load(torch.device("cpu"), torch.float32)
    latents = generator.sample((0,), "", (8, 8))
    assert torch.equal(generator(latents), opened("AutoencoderTiny")(latents))
    kind.files.weights[0].unlink()
    with pytest.raises(AssetError, match="a part of its weights"):
        open_model(str(shards), "it")


def test_tiles_and_slices(folders: dict[str, Path]) -> None:
    kind = open_model(f"{folders['AutoencoderKL']}?tiled=1&sliced=true", "it")
    generator: Any = kind.load(torch.device("cpu"), torch.float32)
    assert generator.network.use_tiling
    assert generator.network.use_slicing
    latents = generator.sample((0, 1), "", (80, 80))
    with torch.no_grad():
        assert generator(latents).shape == (2, 3, 80, 80)
