"""One class for all metrics of the LPIPS family: a distance that is a plain sum of squares.

Source: Zhang et al. (2018), "The unreasonable effectiveness of deep features as a perceptual metric", equation 1:
d(x, y) = Σ_l 1/(h_l w_l) Σ_hw ‖ √head_l ⊙ (x̂_l − ŷ_l) ‖², where x̂_l has unit length over the channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from latent_inv.errors import AssetError, ShapeError

from .backbones import Backbone

#: Added to the squared length of a feature vector *inside* the root. The original adds 1e-10 to the length itself,
#: whose derivative is 0 · ∞ at a zero vector. Lengths in use are above 0.03 (a black picture), where both agree
#: to 1e-7; the slope at zero is 1e5.
LENGTH_GUARD = 1e-10

#: Mean and deviation of ImageNet pixels on the [-1, 1] scale, as the metrics were calibrated with.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class PerceptualMetric:
    """A frozen perceptual distance.

    Args:
        name: its name in results.
        backbone: the network; frozen here, and kept on its device in its number format.
        heads: one [C_l] of weights ≥ 0 for each feature of the backbone.
        weights_sha256: hash that says which weights these are.
    Attributes:
        minimum_side: smallest accepted side of a picture, in pixels.
    Raises:
        AssetError: a head weight is negative, so that the distance would be no sum of squares.
    """

    def __init__(self, name: str, backbone: Backbone, heads: Sequence[Tensor], weights_sha256: str = "") -> None:
        self.name, self.weights_sha256 = name, weights_sha256
        self.minimum_side = backbone.minimum_side
        self._backbone = backbone.eval().requires_grad_(False)
        like = next(backbone.parameters())
        self.device, self.dtype = like.device, like.dtype
        if len(heads) != len(backbone.ends):
            raise AssetError(f"{name} has {len(heads)} heads, expected one for each of {len(backbone.ends)} features")
        for layer, head in enumerate(heads):
            if not bool((head >= 0).all()):
                raise AssetError(f"{name} has a negative weight in head {layer}; they must be ≥ 0")
        self._roots = [head.detach().to(like).sqrt().reshape(1, -1, 1, 1) for head in heads]
        self._shift = torch.tensor(_SHIFT).to(like).reshape(1, 3, 1, 1)
        self._scale = torch.tensor(_SCALE).to(like).reshape(1, 3, 1, 1)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distance of pictures, [R, 3, H, W] each in [-1, 1] -> [R], ≥ 0."""
        return self.distance(self.features(images), self.features(targets))

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length features by layer, scaled so that squares of differences sum to the distance.

        Args:
            images: [R, 3, H, W] in [-1, 1], on the metric's device in its number format.
        Returns:
            one [R, C_l, h_l, w_l] a layer.
        Raises:
            ShapeError: another shape, or a side below `minimum_side`.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ShapeError(f"{self.name} takes [R, 3, H, W], found {list(images.shape)}")
        if min(images.shape[2:]) < self.minimum_side:
            height, width = images.shape[2:]
            least = self.minimum_side
            raise ShapeError(
                f"{self.name} takes pictures of at least {least} × {least} pixels, found {height} × {width}"
            )
        maps = self._backbone((images - self._shift) / self._scale)
        return [
            unit_length(x) * (root * (x.shape[-2] * x.shape[-1]) ** -0.5)
            for x, root in zip(maps, self._roots, strict=True)
        ]

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor], weight: Sequence[Tensor] | None = None) -> Tensor:
        """Σ_l Σ (a_l − b_l)².

        Args:
            a, b: from `features`.
            weight: from `layer_weights`; None: every place counts the same.
        Returns:
            [R], ≥ 0.
        """
        terms = []
        for layer, (x, y) in enumerate(zip(a, b, strict=True)):
            difference = x - y
            square = difference * difference
            terms.append((square if weight is None else square * weight[layer]).flatten(1).sum(1))
        return torch.stack(terms).sum(0)

    def residual(
        self, a: Sequence[Tensor], b: Sequence[Tensor], weight: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Blocks [R, n_l] whose squares sum to `distance` of the same arguments."""
        blocks = []
        for layer, (x, y) in enumerate(zip(a, b, strict=True)):
            difference = x - y
            blocks.append((difference if weight is None else difference * weight[layer].sqrt()).flatten(1))
        return blocks

    def layer_weights(self, weight: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
        """Bring a weight of pixels to the size of every layer, so that a layer's mean becomes Σ w d / Σ w.

        Args:
            weight: [R, 1, H, W], ≥ 0, not 0 everywhere in a row (a row of zeros gives zeros).
            features: from `features` of pictures of that size; only their shapes are used.
        Returns:
            one [R, 1, h_l, w_l] a layer, of mean 1 in each row: a constant weight counts as none.
        """
        resampled = [F.adaptive_avg_pool2d(weight, (x.shape[-2], x.shape[-1])) for x in features]
        tiny = torch.finfo(weight.dtype).tiny
        return [w / w.mean(dim=(1, 2, 3), keepdim=True).clamp_min(tiny) for w in resampled]


def unit_length(x: Tensor) -> Tensor:
    """Scale vectors along the channels to length 1; zero vectors stay zero and have a finite gradient.

    Args:
        x: [R, C, h, w].
    Returns:
        the same shape.
    """
    return x * ((x * x).sum(dim=1, keepdim=True) + LENGTH_GUARD).rsqrt()
