"""What a text beside a generator may say, what may be left out, and what is said where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latent_inv.errors import AssetError
from latent_inv.generators.own.description import describe, read_table
from latent_inv.generators.own.signature import Form, Signature

VECTOR = Signature((Form("z", (6,)),), Form("picture", (3, 16, 24)), bounds=(-1.0, 1.0))
BARE = Signature((Form("z", (6,)), Form("kind", (5,))), Form("picture", (3, 16, 24)))
FREE = Signature((Form("code", (4, None, None)),), Form("picture", (3, None, None)), bounds=(0.0, 1.0))


def of(values: dict[str, Any], signature: Signature = VECTOR) -> Any:
    return describe(values, signature, "a.toml", "a")


def test_a_program_says_all_of_itself() -> None:
    found = of({})
    assert found.title == "a"
    assert found.size == (16, 24)
    assert found.bounds == (-1.0, 1.0)
    assert not found.clips
    assert found.spaces["z"].describe() == {
        "z": {"shape": [6], "prior": "normal", "constraint": "free", "role": "searched"}
    }
    assert len(found.licence) == 3
    assert found.differentiable
    assert found.forward_mode


def test_a_text_says_the_rest() -> None:
    found = of(
        {
            "title": "Mine",
            "range": [0, 255],
            "differentiable": True,
            "forward_mode": False,
            "dtypes": ["float32"],
            "licence": ["a", "b", "c"],
            "source": "here",
            "latents": {
                "z": {"name": "w", "prior": "uniform", "low": -2, "high": 3},
                "kind": {"prior": "categorical", "role": "fixed"},
            },
        },
        BARE,
    )
    assert found.title == "Mine"
    assert found.bounds == (0.0, 255.0)
    assert found.clips
    assert not found.forward_mode
    assert found.dtypes == ("float32",)
    assert list(found.spaces) == ["w", "w+kind"]
    assert found.spaces["w"].describe()["w"]["constraint"] == "box [-2, 3]"
    assert found.spaces["w"].searched == ("w",)
    assert found.spaces["w+kind"].searched == ("w", "kind")
    assert found.spaces["w"].describe()["kind"]["constraint"] == "simplex"


def test_without_a_gradient_there_is_no_forward_mode() -> None:
    assert not of({"differentiable": False}).forward_mode


def test_sides_that_follow_the_picture() -> None:
    found = of({"latents": {"code": {"shape": [4, "height / 8", "width/4"]}}}, FREE)
    assert found.size is None
    assert found.stride == 8
    assert found.inputs["code"].shape_for((16, 32)) == (4, 2, 8)
    assert of({"stride": 16, "latents": {"code": {"shape": [4, "height / 8", "width / 8"]}}}, FREE).stride == 16


def test_the_colour_may_come_last() -> None:
    last = Signature((Form("z", (6,)),), Form("picture", (16, 24, 3)), bounds=(0.0, 1.0))
    assert of({"layout": "channels_last"}, last).size == (16, 24)
    with pytest.raises(AssetError, match=r'a picture is .rows, 3, height, width.*layout = "channels_last"'):
        of({}, last)


#: what is wrong -> what must be said of it: the key, and what would be right
WRONG: dict[str, tuple[dict[str, Any], Signature, str]] = {
    "range missing": ({}, BARE, r"a.toml: range is missing.*range = \[-1.0, 1.0\]"),
    "size missing": ({"latents": {"code": {"shape": [4, 2, 2]}}}, FREE, r"size is missing.*size = \[64, 64\]"),
    "shape missing": ({}, FREE, r"latents.code.shape is missing.*\[rows, 4, \?, \?\].*height / 8"),
    "unknown key": ({"tilte": "x"}, VECTOR, '"tilte" is not known.*did you mean "title"'),
    "unknown part": ({"latents": {"w": {}}}, VECTOR, '"latents.w" is not known, accepted: z'),
    "unknown key of a part": ({"latents": {"z": {"priors": "normal"}}}, VECTOR, '"latents.z.priors".*"prior"'),
    "range turned": ({"range": [1, -1]}, VECTOR, "range must be.*smaller number first"),
    "range of text": ({"range": "tanh"}, VECTOR, "range must be"),
    "range with infinity": ({"range": [0.0, float("inf")]}, VECTOR, "range must be"),
    "range of truths": ({"range": [False, True]}, VECTOR, "range must be"),
    "title empty": ({"title": " "}, VECTOR, "title must be text"),
    "layout": ({"layout": "NHWC"}, VECTOR, "layout must be one of channels_first, channels_last, found 'NHWC'"),
    "truth": ({"forward_mode": "yes"}, VECTOR, "forward_mode must be true or false"),
    "licence": ({"licence": "MIT"}, VECTOR, "licence must be three lines"),
    "dtypes": ({"dtypes": ["float16"]}, VECTOR, "dtypes must list"),
    "size differs": ({"size": [16, 16]}, VECTOR, r"size is \[16, 24\] in the program, found \[16, 16\]"),
    "size of text": ({"size": "64"}, FREE, "latents.code.shape is missing"),
    "size is any": (
        {"size": [64, 64], "latents": {"code": {"shape": [4, "height / 8", "width / 8"]}}},
        FREE,
        "size is any",
    ),
    "stride": ({"stride": 12, "latents": {"code": {"shape": [4, "height / 8", "width / 8"]}}}, FREE, "multiple of 8"),
    "width first": ({"latents": {"code": {"shape": [4, "width / 8", "height / 8"]}}}, FREE, "in this order"),
    "height alone": ({"latents": {"code": {"shape": [4, "height / 8", 2]}}}, FREE, "in this order"),
    "formula": ({"latents": {"code": {"shape": [4, "height * 8", "width"]}}}, FREE, "must list sides"),
    "negative side": ({"latents": {"z": {"shape": [-6]}}}, VECTOR, "must list sides"),
    "no side": ({"latents": {"z": {"shape": []}}}, VECTOR, "must list sides"),
    "shape differs": ({"latents": {"z": {"shape": [7]}}}, VECTOR, r"shape is \[6\] in the program, found \[7\]"),
    "prior": ({"latents": {"z": {"prior": "gauss"}}}, VECTOR, "prior must be one of normal, uniform, categorical"),
    "role": ({"latents": {"z": {"role": "free"}}}, VECTOR, "role must be one of searched, fixed"),
    "all fixed": ({"latents": {"z": {"role": "fixed"}}}, VECTOR, 'all parts are "fixed"'),
    "ends": ({"latents": {"z": {"prior": "uniform", "low": 1, "high": 0}}}, VECTOR, "low must be a number below high"),
    "box without ends": ({"latents": {"z": {"constraint": "box"}}}, VECTOR, "low or high is missing"),
    "one class": (
        {"range": [0, 1], "latents": {"kind": {"shape": [1], "prior": "categorical"}}},
        Signature((Form("kind", ()),), VECTOR.picture),
        "of classes is their number",
    ),
    "name": ({"latents": {"z": {"name": "a b"}}}, VECTOR, "name must be made of letters"),
    "two of a name": ({"range": [0, 1], "latents": {"z": {"name": "kind"}}}, BARE, 'two parts are called "kind"'),
    "a table": ({"latents": {"z": [6]}}, VECTOR, "must hold a table for each input"),
    "whole numbers": ({}, Signature((Form("label", (), "int64", False),), VECTOR.picture), "one-hot vector"),
    "no input": ({}, Signature((), VECTOR.picture), "no input that could be latents"),
    "grey": ({}, Signature(VECTOR.inputs, Form("p", (1, 16, 16)), bounds=(0, 1)), r"gives \[rows, 1, 16, 16\]"),
    "no picture": ({}, Signature(VECTOR.inputs, Form("p", (768,)), bounds=(0, 1)), r"gives \[rows, 768\]"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_with_what_would_be_right(what: str) -> None:
    values, signature, said = WRONG[what]
    with pytest.raises(AssetError, match=said) as caught:
        of(values, signature)
    assert str(caught.value).startswith("a.toml: ")
    assert len(str(caught.value)) < 400


def test_files(tmp_path: Path) -> None:
    program = tmp_path / "a.b.pt2"
    assert read_table(program) == {}
    beside = tmp_path / "a.b.toml"
    beside.write_text('title = "Ä"', encoding="utf-8")
    assert read_table(program) == {"title": "Ä"}
    for content, said in ((b"title = ", "cannot be read as TOML"), (b"\xff", "not UTF-8 at byte 0")):
        beside.write_bytes(content)
        with pytest.raises(AssetError, match=said) as caught:
            read_table(program)
        assert str(tmp_path) not in str(caught.value)
    beside.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(AssetError, match="at most 1048576"):
        read_table(program)
    beside.unlink()
    beside.mkdir()
    with pytest.raises(AssetError, match="folder"):
        read_table(program)
