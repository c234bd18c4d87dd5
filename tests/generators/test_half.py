"""Networks in half precision: near to the exact ones, with nothing that overflows unseen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from latent_inv.errors import InternalError, UnsupportedError
from latent_inv.generators.base import LoadProgress
from latent_inv.generators.half import HALVES, GradientScale
from tests import contracts
from tests.contracts import KINDS, loaded, size_of
from tests.toy import Smooth, Times

ABLE = [name for name, kind in KINDS.items() if kind.halves and kind.differentiable and name != "blind"]
#: PSNR in dB against float32 that draws of every generator have at least; bfloat16 has 8 digits of two, float16 has 11
NEAR = {"bfloat16": 35.0, "float16": 50.0}


def draw(name: str, seeds: range = range(2)) -> dict[str, Tensor]:
    """Latents that no toy is loud at."""
    latents = loaded(name).sample(seeds, "", size_of(KINDS[name]))
    return {part: tensor.clamp(-2, 2) for part, tensor in latents.items()}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", ABLE)
class TestEveryGenerator:
    def test_its_pictures_are_near(self, name: str, half: str) -> None:
        exact = loaded(name)
        generator = exact.rounded(HALVES[half])
        assert (generator.precision, exact.precision) == (half, "float32")
        assert generator.is_half
        assert generator.full is exact
        with torch.no_grad():
            expected, found = exact(draw(name)), generator(draw(name))
        assert found.dtype == torch.float32
        error = float((found - expected).square().mean() / 4)
        assert error > 0, "nothing was rounded"
        assert -10 * math.log10(error) > NEAR[half]

    def test_rows_are_apart(self, name: str, half: str) -> None:
        generator = loaded(name).rounded(HALVES[half])
        with torch.no_grad():
            contracts.rows_are_apart(generator, draw(name), draw(name, range(10, 12)))

    def test_gradients_point_the_same_way_however_small_they_are(self, name: str, half: str) -> None:
        """A loss that is a mean over many pixels has gradients that float16 cannot hold."""
        exact = loaded(name)
        generator = exact.rounded(HALVES[half])

        def gradient(decode: object, factor: float) -> Tensor:
            part, tensor = next(iter(draw(name).items()))
            given = {**draw(name), part: tensor.requires_grad_()}
            loss = decode(given).square().sum() * factor  # type: ignore[operator]
            return torch.autograd.grad(loss, given[part])[0].flatten(1)

        expected, found, small = gradient(exact, 1), gradient(generator, 1), gradient(generator, 2.0**-60)
        # Kinks of ReLU lie on the other side for some numbers.
        assert torch.cosine_similarity(expected, found).min() > 0.95
        torch.testing.assert_close(small * 2.0**60, found, rtol=1e-6, atol=0)


def test_a_row_that_overflows_is_no_number_and_its_neighbours_are() -> None:
    exact = loaded("loud")
    z = draw("loud", range(4))["z"]
    z[2, 5] = 3.5
    expected = exact({"z": z})
    assert torch.isfinite(expected).all()
    found = exact.rounded(torch.float16)({"z": z})
    assert torch.isfinite(found).flatten(1).all(dim=1).tolist() == [True, True, False, True]
    torch.testing.assert_close(found[[0, 1, 3]], expected[[0, 1, 3]], atol=0.02, rtol=0)
    assert torch.isfinite(exact.rounded(torch.bfloat16)({"z": z})).all(), "it has the range of float32"


class Hidden(Smooth):
    """Its last layer makes 1 of the infinity in front of it."""

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Hidden:
        layers = [nn.Linear(12, 3 * 32 * 32, bias=False), Times(65504), Times(1 / 65504), nn.Tanh()]
        nn.init.constant_(layers[0].weight, 0.05)  # type: ignore[arg-type]
        return cls(nn.Sequential(*layers, nn.Unflatten(1, (3, 32, 32))))


def test_what_a_last_layer_hides_is_seen() -> None:
    exact = Hidden.load(torch.device("cpu"), torch.float32)
    half = exact.rounded(torch.float16)
    z = torch.stack([torch.full((12,), 0.5), torch.full((12,), 2.0)])
    torch.testing.assert_close(exact({"z": z})[1], torch.full((3, 32, 32), math.tanh(1.2)))
    assert half.network(z.half())[1].eq(1).all(), "nothing hides it, so this tests nothing"
    found = half({"z": z})
    assert torch.isnan(found[1]).all()
    torch.testing.assert_close(found[0], exact({"z": z})[0], atol=1e-3, rtol=0)


def test_an_encoder_that_overflows_gives_no_numbers() -> None:
    exact = loaded("loud")
    images = torch.stack([torch.full((3, 32, 32), 0.2), torch.ones(3, 32, 32)])
    assert torch.allclose(exact.encode(images)["z"][1], torch.tensor(12.0))
    found = exact.rounded(torch.float16).encode(images)["z"]
    assert torch.isfinite(found).all(dim=1).tolist() == [True, False]


def test_a_copy_changes_nothing_in_the_original() -> None:
    exact = loaded("smooth")
    before = {name: tensor.clone() for name, tensor in exact.network.state_dict().items()}
    contracts.weights_are_frozen(exact.network, lambda: exact.rounded(torch.float16)(draw("smooth")))
    assert all(torch.equal(tensor, before[name]) for name, tensor in exact.network.state_dict().items())
    assert not exact.is_half
    assert exact.full is exact
    assert exact.rounded(torch.float16).rounded(torch.bfloat16).full is exact


def test_a_scale_serves_one_tensor() -> None:
    scale = GradientScale()
    inside = scale.enter(torch.ones(1, 2, requires_grad=True))
    scale.leave(inside * 2)
    with pytest.raises(InternalError, match="cannot have one scale"):
        scale.leave(inside * 3)


def test_rows_without_a_gradient_stay_without() -> None:
    scale, given = GradientScale(), torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    made = scale.leave(scale.enter(given).half().square().float())
    (gradient,) = torch.autograd.grad(made, given, torch.tensor([[0.0], [1e-30], [torch.inf]]))
    assert gradient[0].item() == 0
    assert gradient[1].item() == pytest.approx(4e-30, rel=1e-3)
    assert not torch.isfinite(gradient[2]).any(), "what was no number before must not look like one"


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.halves])
def test_who_cannot_says_so(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{name} computes in float32, found bfloat16") as caught:
        KINDS[name].check_precision("bfloat16")
    assert caught.value.field == "precision"
    KINDS[name].check_precision("auto")


def test_who_can_is_told() -> None:
    assert loaded("faces").info().halves == ("bfloat16", "float16")
    assert loaded("toy").info().halves == ()
