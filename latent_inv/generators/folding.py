"""Networks with fewer layers that compute the same."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(network: nn.Module) -> nn.Module:
    """Let convolutions take over the batch normalisation after them: at rest, it is a factor and an offset a channel.

    In forward mode torch makes some ten passes over the data of each normalisation, and numbers with few digits are
    rounded once less without it.

    Args:
        network: in evaluation mode; changed in place. Only neighbours in an `nn.Sequential` are known to follow each
            other; what is not plain (groups, hooks, parametrised weights, no running statistics) stays as it is.
    Returns:
        `network`, whose layers keep their places; nothing is left to do at those of the normalisations.
    """
    for sequence in [module for module in network.modules() if type(module) is nn.Sequential]:
        for index, (layer, norm) in enumerate(pairwise(list(sequence))):
            # By exact type: torch gives layers with parametrised weights a class of their own.
            if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or _hooked(layer) or _hooked(norm):
                continue
            if (type(layer) is nn.Conv2d or type(layer) is nn.ConvTranspose2d) and layer.groups == 1:
                sequence[index] = fuse_conv_bn_eval(layer, norm, transpose=layer.transposed)
                sequence[index + 1] = nn.Identity()
    return network


def _hooked(layer: nn.Module) -> bool:
    return any(hooks for name, hooks in vars(layer).items() if name.endswith("_hooks"))
