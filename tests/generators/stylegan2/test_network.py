"""The network against one that was written apart from it, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from latent_inv.generators.stylegan2 import network as network_module
from latent_inv.generators.stylegan2.architecture import Architecture
from latent_inv.generators.stylegan2.network import State, binomial, doubled, smooth
from tests.generators.stylegan2 import reference
from tests.generators.stylegan2.making import CLASSES, SMALL, network


@pytest.mark.parametrize("shape", [SMALL, CLASSES], ids=["small", "classes, not square, clamped"])
@pytest.mark.parametrize("own_noise", [False, True])
def test_it_is_the_reference(shape: Architecture, own_noise: bool) -> None:
    made = network(shape)
    weights = {name: tensor.double().numpy() for name, tensor in made.state_dict().items()}
    random = torch.Generator().manual_seed(3)
    z = torch.randn(3, shape.z, generator=random)
    label = torch.eye(shape.classes)[[0, 2, 1]] if shape.classes else None
    noise = (
        {layer: torch.randn(3, *shape.sides(layer), generator=random) for layer in shape.layers} if own_noise else {}
    )
    w = made.mapping(z, label)
    # Each row of w+ another vector, so that one in the wrong place shows.
    ws = w[:, None] + 0.5 * torch.randn(3, shape.rows, shape.w, generator=random)
    pictures = made(made.synthesis.styles(ws), noise)
    assert pictures.shape == (3, 3, *shape.size)
    for row in range(3):
        held = None if label is None else label[row].double().numpy()
        mapped = reference.mapped(weights, z[row].double().numpy(), held, shape.rate)
        assert np.abs(w[row].numpy() - mapped).max() < 1e-5
        maps = {layer: tensor[row].double().numpy() for layer, tensor in noise.items()}
        expected = reference.picture(weights, ws[row].double().numpy(), shape.clamp or np.inf, maps)
        assert np.abs(expected).max() > 0.1
        assert np.abs(pictures[row].numpy() - expected).max() < 1e-4


def test_clamping_is_done() -> None:
    from dataclasses import replace

    made, tight = network(SMALL), network(replace(SMALL, clamp=0.5))
    weights = {name: tensor.double().numpy() for name, tensor in tight.state_dict().items()}
    ws = torch.randn(1, SMALL.rows, SMALL.w, generator=torch.Generator().manual_seed(0))
    found = tight(tight.synthesis.styles(ws), {})
    assert (found - made(made.synthesis.styles(ws), {})).abs().max() > 0.01
    assert np.abs(found[0].numpy() - reference.picture(weights, ws[0].double().numpy(), 0.5)).max() < 1e-4


def test_doubling_keeps_even_pictures_even() -> None:
    taps = binomial(4)
    assert taps.sum().item() == pytest.approx(1)
    assert (64 * taps[0]).tolist() == [1, 3, 3, 1]
    plain = torch.full((1, 2, 5, 6), 0.7)
    assert torch.allclose(doubled(plain, taps)[..., 2:-2, 2:-2], torch.tensor(0.7))
    # A ramp stays one, half as steep.
    ramp = torch.arange(8.0)[None, None, None].expand(1, 1, 8, 8)
    assert torch.allclose(doubled(ramp, taps)[0, 0, 5, 3:-3].diff(), torch.tensor(0.5))
    assert torch.allclose(smooth(plain, taps)[..., 1:-1, 1:-1], torch.tensor(4 * 0.7))


def test_vectors_go_where_the_papers_say() -> None:
    full = Architecture(512, 0, 512, 0, 512, 8, (4, 4), (512,) * 5 + (256, 128, 64, 32))
    assert full.size == (1024, 1024)
    assert full.rows == 18
    assert [full.row_of(f"b8.{kind}") for kind in ("conv0", "conv1", "torgb")] == [1, 2, 3]
    assert full.row_of("b16.conv0") == full.row_of("b8.torgb")
    assert full.row_of("b1024.torgb") == 17
    assert len(full.layers) == 17


def test_demodulation_keeps_the_variance() -> None:
    """Karras et al. (2020), equation 3: whatever the style, outputs of white inputs have variance 1."""
    conv = network(SMALL).synthesis.b8.conv1
    conv.bias.zero_()
    conv.noise_strength.zero_()
    x = torch.randn(400, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    style = torch.rand(400, 5, generator=torch.Generator().manual_seed(2)) * 30 + 0.1
    made = conv(x, style, None)[:, :, 1:-1, 1:-1] / math.sqrt(2)
    straight = torch.where(made < 0, made * 5, made)
    assert straight.var().item() == pytest.approx(1, abs=0.03)


def test_blocks_can_be_cut() -> None:
    made = network(SMALL).synthesis
    styles = made.styles(torch.randn(2, SMALL.rows, SMALL.w, generator=torch.Generator().manual_seed(0)))
    whole = made.run(None, styles, {})
    half = made.run(None, styles, {}, 0, 2)
    assert isinstance(half, State)
    again = made.run(half, styles, {}, 2)
    assert torch.equal(again.picture, whole.picture)


def test_rows_one_by_one_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a CPU does large maps; gradients too."""
    made, random = network(SMALL), torch.Generator().manual_seed(5)
    ws = torch.randn(3, SMALL.rows, SMALL.w, generator=random)
    noise = {"b8.conv0": torch.randn(3, 8, 8, generator=random)}
    calls: list[int] = []
    block = made.synthesis.b16.forward

    def counted(state: State, *rest: object) -> State:
        calls.append(len(state.x))
        return block(state, *rest)

    monkeypatch.setattr(made.synthesis.b16, "forward", counted)

    def look() -> tuple[torch.Tensor, torch.Tensor]:
        at = ws.clone().requires_grad_()
        picture = made(made.synthesis.styles(at), noise)
        return picture.detach(), torch.autograd.grad(picture.square().sum(), at)[0]

    together = look()
    monkeypatch.setattr(network_module, "_ROW_BYTES", 4 * 4 * 8 * 8)
    apart = look()
    assert calls == [3, 1, 1, 1]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
