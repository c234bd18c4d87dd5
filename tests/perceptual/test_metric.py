"""Laws of the one metric class, on a small random network in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latent_inv.errors import AssetError, ShapeError
from latent_inv.perceptual import PerceptualMetric
from latent_inv.perceptual.backbones import Backbone
from latent_inv.perceptual.metric import unit_length
from tests.perceptual.helpers import default_metric, pair, toy_metric

#: Sums of some thousand float64 numbers.
ROUNDING = 1e-10


def test_equal_pictures_have_no_distance_and_others_have() -> None:
    metric = toy_metric()
    a, b = pair()
    assert metric(a, a).tolist() == [0.0, 0.0]
    assert (metric(a, b) > 1e-3).all()
    assert torch.equal(metric(a, b), metric(b, a))


def test_the_definition() -> None:
    metric = toy_metric()
    a, b = pair()
    expected = torch.zeros(2, dtype=torch.float64)
    maps = [metric._backbone((x - metric._shift) / metric._scale) for x in (a, b)]
    for layer, (x, y) in enumerate(zip(*maps, strict=True)):
        x, y = (m / m.norm(dim=1, keepdim=True).clamp_min(1e-10) for m in (x, y))
        head = metric._roots[layer].square()
        expected += (head * (x - y).square()).sum(1).mean(dim=(1, 2))
    assert torch.allclose(metric(a, b), expected, rtol=1e-7, atol=0)  # the guard is seen in short vectors


@pytest.mark.parametrize("weighted", [False, True])
def test_the_distance_is_the_sum_of_squared_residuals(weighted: bool) -> None:
    metric = toy_metric()
    a, b = (metric.features(x) for x in pair())
    weight = metric.layer_weights(torch.rand(2, 1, 16, 16, dtype=torch.float64), a) if weighted else None
    blocks = metric.residual(a, b, weight)
    assert [block.dim() for block in blocks] == [2] * len(a)
    total = torch.stack([block.square().sum(1) for block in blocks]).sum(0)
    assert torch.allclose(total, metric.distance(a, b, weight), rtol=ROUNDING, atol=0)


def test_kept_features_give_the_same_value() -> None:
    metric = toy_metric()
    a, b = pair()
    with torch.no_grad():
        kept = metric.features(b)
    assert torch.equal(metric.distance(metric.features(a), kept), metric(a, b))


def test_a_row_does_not_see_its_neighbours() -> None:
    metric = toy_metric()
    a, b = pair(rows=3)
    changed = a.clone()
    changed[[0, 2]] = changed[[0, 2]].flip(-1)
    before, after = metric(a, b), metric(changed, b)
    assert before[1] == after[1]
    assert before[0] != after[0]
    assert torch.allclose(metric(a[1:2], b[1:2]), before[1], rtol=ROUNDING, atol=0)


def test_pictures_in_another_range_give_another_value() -> None:
    metric = toy_metric()
    a, b = pair()
    right, wrong = metric(a, b), metric((a + 1) / 2, (b + 1) / 2)
    assert ((right - wrong).abs() > 0.1 * right).all()


def test_the_gradient_by_finite_differences() -> None:
    metric = toy_metric()
    a, b = pair(8, 8)
    assert torch.autograd.gradcheck(lambda x: metric(x, b), (a.requires_grad_(),), eps=1e-6, atol=1e-6)


def dead(metric: PerceptualMetric) -> PerceptualMetric:
    """The same with a last layer that is 0 everywhere."""
    for parameter in metric._backbone.slice2.parameters():
        parameter.data.fill_(-10.0 if parameter.dim() == 1 else 0.0)
    return metric


def test_zero_features_have_a_finite_gradient() -> None:
    metric = dead(toy_metric())
    a, b = pair()
    assert metric.features(a)[1].abs().max() == 0
    (gradient,) = torch.autograd.grad(metric(a.requires_grad_(), b).sum(), a)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0  # from the first layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_guard_must_stand_inside_the_root(dtype: torch.dtype) -> None:
    def outside(x: Tensor) -> Tensor:
        return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    for function, finite in ((unit_length, True), (outside, False)):
        x = torch.zeros(1, 8, 4, 4, dtype=dtype, requires_grad=True)
        value = (function(x) - 0.125).square().sum()
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        assert value.item() == 2.0
        assert bool(gradient.isfinite().all()) is finite
        if finite:
            (second,) = torch.autograd.grad(gradient.sum(), x)
            assert second.isfinite().all()
    x = torch.randn(1, 8, 4, 4, dtype=dtype)
    assert torch.allclose(unit_length(x), outside(x), rtol=1e-6)


def test_a_constant_weight_is_no_weight() -> None:
    metric = toy_metric()
    a, b = (metric.features(x) for x in pair())
    plain = metric.distance(a, b)
    for level in (1.0, 0.25):
        weight = metric.layer_weights(torch.full((2, 1, 16, 16), level, dtype=torch.float64), a)
        assert torch.allclose(metric.distance(a, b, weight), plain, rtol=ROUNDING, atol=0)


def test_a_weight_makes_a_weighted_mean() -> None:
    metric = toy_metric()
    a, b = (metric.features(x) for x in pair())
    pixels = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    weights = metric.layer_weights(pixels, a)
    assert [w.shape for w in weights] == [(2, 1, *x.shape[2:]) for x in a]
    expected = torch.zeros(2, dtype=torch.float64)
    for x, y in zip(a, b, strict=True):
        places = x.shape[-2] * x.shape[-1]
        w = nn.functional.interpolate(pixels, x.shape[-2:], mode="area")
        d = (x - y).square().sum(1, keepdim=True) * places
        expected += (w * d).sum(dim=(1, 2, 3)) / w.sum(dim=(1, 2, 3))
    assert torch.allclose(metric.distance(a, b, weights), expected, rtol=ROUNDING, atol=0)


def test_places_of_weight_zero_have_no_influence_and_others_have() -> None:
    metric = toy_metric()
    a, b = (metric.features(x) for x in pair())
    pixels = torch.ones(2, 1, 16, 16, dtype=torch.float64)
    pixels[..., :8] = 0
    weights = metric.layer_weights(pixels, a)
    before = metric.distance(a, b, weights)
    assert torch.equal(
        metric.distance(a, [torch.where(w > 0, y, y + 9) for y, w in zip(b, weights, strict=True)], weights), before
    )
    assert (
        metric.distance(a, [torch.where(w > 0, y + 9, y) for y, w in zip(b, weights, strict=True)], weights) > before
    ).all()


def test_a_weight_of_zeros_is_finite() -> None:
    metric = toy_metric()
    a, b = (metric.features(x) for x in pair())
    weights = metric.layer_weights(torch.zeros(2, 1, 16, 16, dtype=torch.float64), a)
    assert metric.distance(a, b, weights).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", [(2, 3, 5, 16), (2, 3, 16, 5)])
def test_too_small_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="at least 6 × 6 pixels, found"):
        toy_metric().features(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 1, 16, 16), (2, 16, 16, 3)])
def test_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"takes \[R, 3, H, W\], found"):
        toy_metric().features(torch.zeros(shape, dtype=torch.float64))


def test_heads_must_fit_and_not_be_negative() -> None:
    def backbone() -> Backbone:
        return Backbone([nn.Conv2d(3, 4, 3)], (1,), minimum_side=3)

    for bad in (torch.tensor([1.0, -1e-9, 0, 0]), torch.tensor([1.0, float("nan"), 0, 0])):
        with pytest.raises(AssetError, match="negative weight in head 0"):
            PerceptualMetric("bad", backbone(), [bad])
    with pytest.raises(AssetError, match="has 2 heads"):
        PerceptualMetric("bad", backbone(), [torch.ones(4), torch.ones(4)])


def test_use_changes_nothing() -> None:
    metric = toy_metric()
    state = {name: value.clone() for name, value in metric._backbone.state_dict().items()}
    a, b = pair()
    metric(a.requires_grad_(), b).sum().backward()
    assert all(torch.equal(state[name], value) for name, value in metric._backbone.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in metric._backbone.parameters())
    assert not metric._backbone.training
    assert torch.equal(metric(a, b), metric(a, b))


# torch warns of its own use of this at the first jvp.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("real", [False, True])
def test_forward_mode_agrees_with_backward_and_runs_in_batches(real: bool) -> None:
    metric = default_metric(torch.float64) if real else toy_metric()
    side = 24 if real else 12
    a, b = pair(side, side, rows=1)
    target = [x.detach() for x in metric.features(b)]

    def residual(x: Tensor) -> Tensor:
        return torch.cat(metric.residual(metric.features(x), target), dim=1)[0]

    tangents = torch.randn(3, *a.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    columns = torch.func.vmap(lambda t: torch.func.jvp(residual, (a,), (t,))[1])(tangents)
    one = torch.func.jvp(residual, (a,), (tangents[1],))[1]
    assert torch.allclose(columns[1], one, rtol=1e-9, atol=1e-12)
    # ½ ∇ Σ r² · t = r · (J t)
    (gradient,) = torch.autograd.grad(metric.distance(metric.features(a.requires_grad_()), target).sum(), a)
    along = (gradient * tangents[1]).sum() / 2
    assert torch.allclose(along, residual(a.detach()) @ one, rtol=1e-8)
