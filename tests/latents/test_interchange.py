"""Files of public tools, in exactly their layouts: read, written, and read again."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as to_safetensors

from latent_inv.ask import choose_start, given_latents
from latent_inv.errors import InputError, LatentsError, SpecError
from latent_inv.latents import LAYOUTS, adapt, convert_files, load_latents, save_latents, save_result
from latent_inv.result import GeneratorInfo
from latent_inv.scaling import Scaling
from latent_inv.spec import DecodeSpec, Given
from tests.engine.helpers import drain, job, result_of, toy_engine
from tests.toy import LAYERS, STYLE, TOYS, Scaled, Styled

STYLED, SCALED = Styled.info(), Scaled.info()
RAW = Scaling(Scaled.latent_factor, Scaled.latent_shift, scaled=False)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def pt(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def comfyui(tensor: torch.Tensor, *, old: bool = False) -> bytes:
    arrays = (
        {"latent_tensor": tensor} if old else {"latent_tensor": tensor, "latent_format_version_0": torch.tensor([])}
    )
    return to_safetensors(arrays, {"prompt": "{}"})


def comfyui_loads(data: bytes) -> torch.Tensor:
    """What ComfyUI makes of a file, by the meaning of the second array."""
    arrays = load_safetensors(data)
    return arrays["latent_tensor"].float() * (1.0 if "latent_format_version_0" in arrays else 1 / 0.18215)


# ---- StyleGAN: NVIDIA, e4e, PTI ----------------------------------------------------------------

W_PLUS = numbers(1, LAYERS, STYLE)
#: tool → a file as it writes it, and the rows that are in it
STYLE_FILES: dict[str, tuple[bytes, np.ndarray]] = {
    "NVIDIA, projected_w.npz": (npz(w=W_PLUS), W_PLUS),
    "e4e, latents.pt of many": (pt(torch.from_numpy(numbers(5, LAYERS, STYLE))), numbers(5, LAYERS, STYLE)),
    "PTI, a tensor": (pt(torch.from_numpy(W_PLUS).requires_grad_()), W_PLUS),
    "PTI, in a dictionary": (pt({"w": torch.from_numpy(W_PLUS)}), W_PLUS),
    "one picture without rows": (pt(torch.from_numpy(W_PLUS[0])), W_PLUS),
    "half precision": (pt(torch.from_numpy(W_PLUS).half()), W_PLUS.astype(np.float16).astype(np.float32)),
    "big endian": (npz(w=W_PLUS.astype(">f4")), W_PLUS),
}


@pytest.mark.parametrize("tool", STYLE_FILES)
def test_a_file_of_w_plus_finds_its_space(tool: str) -> None:
    data, rows = STYLE_FILES[tool]
    latents, space, _ = adapt(load_latents(data), STYLED)
    assert (space, list(latents)) == ("w+", ["w+"])
    np.testing.assert_array_equal(latents["w+"], rows)
    with pytest.raises(LatentsError, match=r'of the space "w\+", the search is in "z"'):
        choose_start(data, None, "styled", lambda: STYLED)
    given, _ = choose_start(data, None, "styled", lambda: STYLED, "w+")
    assert isinstance(given, Given)
    assert given.latents.keys() == {"w+"}


def test_w_is_told_from_z_by_its_name_and_broadcast_where_w_plus_is_asked_for() -> None:
    row = numbers(1, STYLE)
    assert adapt(load_latents(npz(w=row)), STYLED)[1] == "w"
    assert adapt(load_latents(pt(torch.from_numpy(row))), STYLED)[1] == "z"
    latents, space, _ = adapt(load_latents(npz(w=row)), STYLED, "w+")
    assert (space, latents["w+"].shape) == ("w+", (1, LAYERS, STYLE))
    assert (latents["w+"] == row[:, None]).all()
    # NVIDIA's projector writes one w at every layer, which is a w without loss.
    latents, space, _ = adapt(load_latents(npz(w=np.tile(row[:, None], (1, LAYERS, 1)))), STYLED, "w")
    assert (space, latents["w"].tolist()) == ("w", row.tolist())


def test_several_pictures_of_w_are_no_w_plus_where_their_number_says_so() -> None:
    rows = load_latents(pt(torch.from_numpy(numbers(LAYERS + 1, STYLE))))
    assert adapt(rows, STYLED)[1] == "z"
    layers = load_latents(pt(torch.from_numpy(numbers(LAYERS, STYLE))))
    assert adapt(layers, STYLED)[1] == "w+"
    latents, space, _ = adapt(layers, STYLED, "z")  # who asks for z gets as many pictures
    assert (space, latents["z"].shape) == ("z", (LAYERS, STYLE))


def test_w_decodes_to_the_picture_of_its_w_plus() -> None:
    engine, row = toy_engine(), numbers(1, STYLE)
    engine.submit("w", DecodeSpec(latents={"w": row}, generator="styled"))
    engine.submit("w+", DecodeSpec(latents={"w+": row}, generator="styled"))
    ends = drain(engine, {"w", "w+"})[0]
    np.testing.assert_array_equal(ends["w"].result.images, ends["w+"].result.images)


@pytest.mark.parametrize("shape", [(1, LAYERS + 1, STYLE), (1, LAYERS, STYLE + 1), (1, 2, 2, 2, 2)])
def test_shapes_that_fit_nothing_are_refused_with_both(shape: tuple[int, ...], tmp_path: Path) -> None:
    file = load_latents(npz(w=numbers(*shape)))
    with pytest.raises(LatentsError) as caught:
        convert_files([file], tmp_path / "a.npz", info=STYLED, space="w")
    assert f"[{', '.join(map(str, shape))}]" in str(caught.value)
    assert f"[{STYLE}]" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_tools_name_for_the_one_array_is_taken_with_a_warning() -> None:
    latents, space, warnings = adapt(load_latents(pt({"latent_codes": torch.from_numpy(W_PLUS)})), STYLED)
    assert (space, list(latents)) == ("w+", ["w+"])
    assert any("latent_codes" in text for text in warnings)


# ---- ComfyUI and diffusers: raw and scaled ------------------------------------------------------


def test_comfyuis_files_are_raw_and_old_ones_are_divided() -> None:
    raw = torch.from_numpy(numbers(2, 2, 3, 5))
    new, old = load_latents(comfyui(raw)), load_latents(comfyui(raw * 0.18215, old=True))
    for file, data in ((new, comfyui(raw)), (old, comfyui(raw * 0.18215, old=True))):
        assert (file.layout, file.scaled, list(file.latents)) == ("comfyui", False, [""])
        np.testing.assert_array_equal(file.latents[""], comfyui_loads(data).numpy())
    assert new.warnings == ()
    assert "0.18215" in old.warnings[0]


def test_raw_latents_are_scaled_once_for_a_generator_of_scaled_ones() -> None:
    raw = numbers(1, 2, 3, 5)
    factor, shift = (np.array(x).reshape(1, -1, 1, 1) for x in (Scaled.latent_factor, Scaled.latent_shift))
    expected = (raw.astype(np.float64) - shift) * factor
    latents, space, warnings = adapt(load_latents(comfyui(torch.from_numpy(raw))), SCALED)
    assert space == "spatial"
    np.testing.assert_array_equal(latents["spatial"], expected.astype(np.float32))
    assert "converted" in warnings[0]
    # Ours says that it is scaled, and is taken as it is.
    own = save_latents(None, latents, generator="scaled", space="spatial", weights_sha256="", scaling=SCALED.scaling)
    again, _, warnings = adapt(load_latents(own), SCALED)
    np.testing.assert_array_equal(again["spatial"], latents["spatial"])
    assert warnings == ()


@pytest.mark.parametrize(
    "write", [pt, lambda tensor: npz(x=tensor.numpy()), lambda tensor: to_safetensors({"x": tensor})]
)
def test_nothing_is_guessed_of_a_file_that_does_not_say(write: Callable[[Any], bytes], tmp_path: Path) -> None:
    data = write(torch.from_numpy(numbers(1, 2, 3, 5)))
    for attempt in (
        lambda: adapt(load_latents(data), SCALED),
        lambda: given_latents(data, "scaled", lambda: SCALED),
        lambda: convert_files([load_latents(data)], tmp_path / "a.latent"),
        lambda: convert_files([load_latents(data)], tmp_path / "a.latent", scaling=RAW),
    ):
        with pytest.raises(LatentsError, match="--scaled or --raw"):
            attempt()
    assert list(tmp_path.iterdir()) == []
    raw, scaled = (adapt(load_latents(data, scaled=state), SCALED)[0]["spatial"] for state in (False, True))
    np.testing.assert_array_equal(scaled, numbers(1, 2, 3, 5))
    np.testing.assert_array_equal(raw, RAW.convert(numbers(1, 2, 3, 5), True))


def test_a_statement_against_the_file_is_refused() -> None:
    data = comfyui(torch.zeros(1, 2, 3, 5))
    assert load_latents(data, scaled=False).scaled is False
    with pytest.raises(LatentsError, match="says that its latents are raw"):
        load_latents(data, scaled=True)


def test_a_generator_of_raw_latents_gets_raw_ones() -> None:
    class Raw(Scaled):
        latents_scaled = False

    raw = numbers(1, 2, 3, 5)
    np.testing.assert_array_equal(adapt(load_latents(comfyui(torch.from_numpy(raw))), Raw.info())[0]["spatial"], raw)
    scaled = load_latents(pt(torch.from_numpy(RAW.convert(raw, True))), scaled=True)
    np.testing.assert_allclose(adapt(scaled, Raw.info())[0]["spatial"], raw, rtol=1e-6, atol=1e-6)


def test_another_factor_is_undone_with_the_files_own() -> None:
    raw, other = numbers(1, 2, 3, 5), Scaling((0.18215,), (0.0,))
    scaled = Scaling((0.18215,), (0.0,), scaled=False).convert(raw, True)
    data = save_latents(None, {"spatial": scaled}, generator="", space="", weights_sha256="", scaling=other)
    latents, _, warnings = adapt(load_latents(data), SCALED)
    np.testing.assert_allclose(latents["spatial"], RAW.convert(raw, True), rtol=1e-5, atol=1e-6)
    assert "0.18215" in warnings[0]


def test_scaled_latents_for_a_generator_that_states_no_factor_are_refused() -> None:
    data = pt(torch.zeros(1, 4, 2, 2))
    info = TOYS["toy"].info()
    assert adapt(load_latents(data), info)[0]
    with pytest.raises(LatentsError, match="no factor"):
        adapt(load_latents(data, scaled=True), info)


def test_a_result_states_its_scaling_and_comfyui_gets_it_raw(tmp_path: Path) -> None:
    result = result_of(job("scaled", steps=1))
    assert result.scaling == SCALED.scaling
    file = load_latents(save_result(None, result))
    assert (file.scaled, file.scaling) == (True, SCALED.scaling)
    np.testing.assert_array_equal(file.latents["spatial"], result.latents["spatial"])
    assert "scaled latents" in str(load_safetensors_metadata(save_result(None, result))["convention"])
    raw = comfyui_loads(save_result(None, result, format="comfyui")).numpy()
    decoder = Scaled.load(torch.device("cpu"), torch.float32).network
    with torch.no_grad():
        picture = decoder(torch.from_numpy(raw))[0].numpy()  # as a pipeline's own decoder takes them
    np.testing.assert_allclose(picture, result.image, atol=1e-5)


def load_safetensors_metadata(data: bytes) -> dict[str, str]:
    import json

    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


# ---- round trips --------------------------------------------------------------------------------


def latents_of(info: GeneratorInfo, space: str, rows: int) -> dict[str, np.ndarray]:
    sides = {True: 3, False: 0}
    return {
        name: numbers(rows, *(sides[entry < 0] or entry for entry in part["shape"]))
        for name, part in info.spaces[space].items()
    }


def fitting() -> list[Any]:
    """Every format, for every space of every generator that it can hold."""
    cases = []
    for info in (STYLED, SCALED, TOYS["toy"].info(), TOYS["smooth"].info()):
        for space, parts in info.spaces.items():
            ranks = [len(part["shape"]) for part in parts.values()]
            for format in LAYOUTS:
                if format in ("comfyui", "diffusers") and ranks != [3]:
                    continue
                if (format == "nvidia" and not space.startswith("w")) or (format == "npy" and len(parts) > 1):
                    continue
                cases.append(pytest.param(info, space, format, id=f"{info.name}-{space}-{format}"))
    return cases


@pytest.mark.parametrize(("info", "space", "format"), fitting())
def test_out_and_in_again_is_bit_equal(info: GeneratorInfo, space: str, format: str, tmp_path: Path) -> None:
    before = latents_of(info, space, 3)
    origin = {"generator": info.name, "space": space, "weights_sha256": info.weights_sha256}
    own = load_latents(save_latents(None, before, **origin, scaling=info.scaling))
    out = tmp_path / f"a{LAYOUTS[format].suffixes[0]}"
    convert_files([own], out, format=format, info=info)
    stated = info.scaling.scaled if info.scaling and load_latents(out).scaled is None else None
    back = convert_files([load_latents(out, scaled=stated)], tmp_path / "b.safetensors", info=info, space=space)
    assert back.rows == 3
    file = load_latents(tmp_path / "b.safetensors")
    assert (file.generator, file.space, file.scaling) == (info.name, space, info.scaling)
    assert file.latents.keys() == before.keys()
    for name, array in before.items():
        assert file.latents[name].dtype == np.float32
        if format == "comfyui" and info.scaling is not None:
            # Raw numbers of the same format cannot hold every scaled one: half a spacing of the raw number is lost.
            np.testing.assert_allclose(file.latents[name], array, rtol=2e-7, atol=2e-7)
        else:
            assert file.latents[name].tobytes() == array.tobytes()


def test_scaling_by_powers_of_two_is_bit_equal_too() -> None:
    array = numbers(4, 2, 3, 3)
    raw = Scaling((0.5, 2.0)).convert(array, False)
    assert Scaling((0.5, 2.0), scaled=False).convert(raw, True).tobytes() == array.tobytes()


def test_a_batch_is_split_and_joined_again(tmp_path: Path) -> None:
    rows = numbers(4, LAYERS, STYLE)
    done = convert_files([load_latents(pt(torch.from_numpy(rows)))], tmp_path / "w.npz", format="nvidia", split=True)
    assert [path.name for path in done.paths] == [f"w-{index:04d}.npz" for index in range(4)]
    for index, path in enumerate(done.paths):
        assert np.load(path)["w"].tobytes() == rows[index : index + 1].tobytes()
    joined = convert_files([load_latents(path) for path in done.paths], tmp_path / "latents.pt")
    assert joined.rows == 4
    assert torch.equal(torch.load(tmp_path / "latents.pt", weights_only=True), torch.from_numpy(rows))


def test_w_is_written_at_every_layer_for_nvidia(tmp_path: Path) -> None:
    row = numbers(2, STYLE)
    for options in ({"info": STYLED, "space": "w"}, {"layers": LAYERS}):
        convert_files([load_latents(npz(w=row))], tmp_path / "w.npz", format="nvidia", **options)
        np.testing.assert_array_equal(np.load(tmp_path / "w.npz")["w"], np.tile(row[:, None], (1, LAYERS, 1)))
    with pytest.raises(LatentsError, match="how many layers"):
        convert_files([load_latents(npz(w=row))], tmp_path / "w.npz", format="nvidia")
    with pytest.raises(LatentsError, match='found the part "z"'):
        convert_files([load_latents(npz(z=numbers(1, 3, 4)))], tmp_path / "w.npz", format="nvidia")


@pytest.mark.parametrize(("suffix", "read"), [(".safetensors", "safetensors"), (".pt", "torch"), (".npy", "npy")])
def test_a_pipeline_gets_scaled_latents(suffix: str, read: str, tmp_path: Path) -> None:
    raw, out = numbers(1, 2, 3, 5), tmp_path / f"a{suffix}"
    convert_files([load_latents(comfyui(torch.from_numpy(raw)))], out, format="diffusers", scaling=RAW)
    loaded = {
        "safetensors": lambda: load_safetensors(out.read_bytes())["latents"].numpy(),
        "torch": lambda: torch.load(out, weights_only=True).numpy(),
        "npy": lambda: np.load(out),
    }[read]()
    np.testing.assert_array_equal(loaded, RAW.convert(raw, True))
    assert load_latents(out).scaled is (True if suffix == ".safetensors" else None)
    with pytest.raises(LatentsError, match="no factor is known; say --generator, or --factor"):
        convert_files([load_latents(comfyui(torch.from_numpy(raw)))], out, format="diffusers")


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    two = load_latents(npz(z=numbers(1, 3), noise=numbers(1, 2)))
    for format, suffix in (("comfyui", ".latent"), ("npy", ".npy"), ("nvidia", ".npz")):
        with pytest.raises(LatentsError, match="holds one part, found 2"):
            convert_files([two], tmp_path / f"a{suffix}", format=format)
    with pytest.raises(LatentsError, match=r"\[n, channels, height, width\], found \[1, 3\]"):
        convert_files([load_latents(npz(z=numbers(1, 3)))], tmp_path / "a.latent")
    with pytest.raises(SpecError, match=r'ends with \.latent, found "a\.pt"'):
        convert_files([two], tmp_path / "a.pt", format="comfyui")
    with pytest.raises(SpecError, match="tells no format"):
        convert_files([two], tmp_path / "a.bin")
    with pytest.raises(SpecError, match="comfyui"):
        convert_files([two], tmp_path / "a.latent", format="comfy")
    with pytest.raises(LatentsError, match="different things"):
        convert_files([two, load_latents(npz(z=numbers(1, 3)))], tmp_path / "a.npz")
    with pytest.raises(LatentsError, match=r"\[1, 3\], \[1, 4\]"):
        convert_files([load_latents(npz(z=numbers(1, n))) for n in (3, 4)], tmp_path / "a.npz")
    with pytest.raises(LatentsError, match="one convention"):
        convert_files([load_latents(npz(w=W_PLUS))], tmp_path / "a.npz", info=STYLED, scaled=True)
    with pytest.raises(SpecError, match="w\\+"):
        convert_files([load_latents(npz(w=numbers(1, 99)))], tmp_path / "a.npz", info=STYLED, space="w++")
    other = save_latents(None, {"z": numbers(1, STYLE)}, generator="other", space="z", weights_sha256="")
    with pytest.raises(LatentsError, match=r'latents of "other"'):
        convert_files([load_latents(other)], tmp_path / "a.npz", info=STYLED)
    assert list(tmp_path.iterdir()) == []


def test_the_same_latents_give_the_same_bytes_in_every_format(tmp_path: Path) -> None:
    for format, layout in LAYOUTS.items():
        array = numbers(1, 2, 3) if format == "nvidia" else numbers(1, 2, 3, 3)
        origin: dict[str, Any] = {"generator": "", "space": "", "weights_sha256": "", "format": format}
        assert save_latents(None, {"w": array}, **origin) == save_latents(None, {"w": array.copy()}, **origin)
        save_latents(tmp_path / f"{format}{layout.suffixes[-1]}", {"w": array}, **origin)


# ---- damage -------------------------------------------------------------------------------------


def test_number_formats_are_stated() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        tensor = torch.tensor([[[[1.5, -2.0]]]]).to(getattr(torch, dtype))
        for data in (comfyui(tensor), pt(tensor), to_safetensors({"x": tensor})):
            file = load_latents(data)
            assert list(file.stored.values()) == [dtype]
            assert next(iter(file.latents.values())).ravel().tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    "text",
    [
        {"scaling_factor": "0", "scaled": "true"},
        {"scaling_factor": "nan", "scaled": "true"},
        {"scaling_factor": "1e999", "scaled": "true"},
        {"scaling_factor": "1,x", "scaled": "false"},
        {"scaling_factor": "", "scaled": "false"},
        {"scaling_factor": "1", "shift_factor": "inf", "scaled": "false"},
    ],
)
def test_a_scaling_that_is_none_is_refused(text: dict[str, str]) -> None:
    data = to_safetensors({"x": torch.zeros(1, 2, 3, 3)}, {"format": "latent_inv latents 1", **text})
    with pytest.raises(LatentsError):
        load_latents(data)


def test_other_tools_words_are_not_taken_for_ours() -> None:
    file = load_latents(to_safetensors({"x": torch.zeros(1, 2, 3, 3)}, {"scaling_factor": "x", "scaled": "true"}))
    assert (file.scaled, file.scaling) == (None, None)


def test_factors_that_do_not_fit_the_channels_and_overflow_are_refused() -> None:
    three = Scaling((1.0, 2.0, 3.0))
    with pytest.raises(LatentsError, match="3 factors, the latents have 2 channels"):
        three.convert(numbers(1, 2, 3, 3), False)
    with pytest.raises(LatentsError, match="beyond float16"):
        Scaling((1e-6,)).convert(np.ones((1, 1, 1, 1), np.float16), False)
    assert Scaling((0.5, 0.5)).same_numbers(Scaling((0.5,), (0.0, 0.0)))


@pytest.mark.parametrize("kind", ["latent", "npz", "pt"])
def test_what_is_not_finite_is_not_written_and_damage_is_told(kind: str, tmp_path: Path) -> None:
    array = numbers(1, 2, 3, 3)
    array[0, 1, 2, 0] = np.nan
    data = {"latent": comfyui(torch.from_numpy(array)), "npz": npz(x=array), "pt": pt(torch.from_numpy(array))}[kind]
    with pytest.raises(LatentsError, match="not finite"):
        convert_files([load_latents(data, scaled=False)], tmp_path / "a.latent")
    with pytest.raises(LatentsError, match=r"\[0, 1, 2, 0\]|finite|beyond"):
        convert_files([load_latents(data, scaled=False)], tmp_path / "a.latent", info=SCALED)
    assert list(tmp_path.iterdir()) == []
    for cut in range(0, len(data) - 1, max(1, len(data) // 40)):
        with pytest.raises(InputError):
            load_latents(data[:cut])


def test_a_latent_file_of_nothing_but_its_mark_is_refused() -> None:
    with pytest.raises(LatentsError, match="no arrays"):
        load_latents(to_safetensors({"latent_format_version_0": torch.tensor([])}))
