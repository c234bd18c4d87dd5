"""The operators that a saved program may use: mathematics on tensors, and nothing that reads files or runs code."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch

from latent_inv.errors import AssetError

_NAMES = """
abs acos acosh add addbmm addcdiv addcmul addmm addmv alias amax amin any all arange argmax argmin as_strided asin
asinh atan atan2 atanh baddbmm bitwise_and bitwise_not bitwise_or bitwise_xor bmm broadcast_tensors cat ceil celu
chunk clamp clamp_max clamp_min clone col2im concat constant_pad_nd contiguous copy cos cosh cross cumprod cumsum
detach diag diag_embed diagonal div divide dot einsum elu embedding eq erf erfc erfinv exp exp2 expand expand_as
expm1 eye fill flatten flip floor floor_divide fmod frac full full_like gather ge gelu glu greater greater_equal
grid_sampler grid_sampler_2d gt hardsigmoid hardswish hardtanh hypot im2col index index_add index_put index_select
instance_norm isfinite isinf isnan kron le leaky_relu lerp less less_equal lift_fresh_copy linalg_vector_norm linear
linspace log log10 log1p log2 log_sigmoid log_softmax logaddexp logical_and logical_not logical_or logical_xor
logsumexp lt masked_fill matmul max maximum mean meshgrid min minimum mish mm movedim mul multiply mv narrow ne neg
new_full new_ones new_zeros norm not_equal one_hot ones ones_like outer pad permute pixel_shuffle pixel_unshuffle
polar pow prelu prod reciprocal reflection_pad1d reflection_pad2d relu relu6 remainder repeat repeat_interleave
replication_pad1d replication_pad2d reshape reshape_as roll rot90 round rsqrt rsub scalar_tensor
scaled_dot_product_attention scatter scatter_add select select_scatter selu sigmoid sign silu sin sinc sinh slice
slice_scatter softmax softplus softshrink softsign sort split split_with_sizes sqrt square squeeze stack std sub
subtract sum swapaxes t take_along_dim tan tanh tensordot threshold tile to topk transpose tril triu true_divide
trunc type_as unbind unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze
upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa upsample_nearest_exact2d _upsample_nearest_exact2d var var_mean view
view_as where xlogy zeros zeros_like
adaptive_avg_pool2d adaptive_max_pool2d avg_pool1d avg_pool2d max_pool2d max_pool2d_with_indices
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution group_norm layer_norm rms_norm
batch_norm dropout feature_dropout native_group_norm native_layer_norm cosine_similarity
_adaptive_avg_pool2d _log_softmax _softmax _to_copy _unsafe_view _unsafe_index _conj
_native_batch_norm_legit_no_training _safe_softmax
"""
#: names in torch.ops.aten, with all their overloads and in-place forms
OPERATORS = frozenset(_NAMES.split())
#: statements about sizes and formats: they compute nothing, and do not hold in another number format
IGNORED = (
    "_assert_async",
    "_assert_scalar",
    "_assert_tensor_metadata",
    "sym_constrain_range",
    "sym_constrain_range_for_size",
)
#: arithmetic of sizes
SIZES: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{one}": getattr(operator, one) for one in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg")
    },
    **{f"_operator.{one}": getattr(operator, one) for one in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_")},
    **{f"math.{one}": getattr(math, one) for one in ("trunc", "floor", "ceil")},
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_int": int,
    "torch.sym_float": float,
    "torch.sym_not": operator.not_,
    "torch.ops.aten.sym_size.int": lambda tensor, dimension: tensor.shape[dimension],
    "torch.ops.aten.sym_numel.default": lambda tensor: tensor.numel(),
}
_TARGET = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]{1,60})\.([A-Za-z0-9_]{1,60})")


def is_ignored(target: str) -> bool:
    """Does it only state something?"""
    found = _TARGET.fullmatch(target)
    return found is not None and found.group(1) in IGNORED


def operator_of(target: str, file: str) -> Callable[..., Any]:
    """What a name in a saved program calls.

    Raises:
        AssetError: nothing that is run here, or random numbers; names it.
    """
    if target in SIZES:
        return SIZES[target]
    found = _TARGET.fullmatch(target)
    # "out" forms write into a tensor that is given.
    if found is not None and not found.group(2).endswith("out"):
        name, overload = found.groups()
        packet = getattr(torch.ops.aten, name, None)
        if isinstance(packet, torch._ops.OpOverloadPacket) and overload in packet.overloads():
            if name.removesuffix("_") in OPERATORS:
                return getattr(packet, overload)
            if torch.Tag.nondeterministic_seeded in getattr(packet, overload).tags:
                raise is_random(name, file)
    shown = target.removeprefix("torch.ops.").encode("ascii", "replace").decode()
    raise AssetError(
        f'{file} uses the operator "{shown:.80}", which is not among those that are run here; '
        "`program = program.run_decompositions()` before saving turns many into others that are"
    )


def is_random(name: str, file: str) -> AssetError:
    """The error for a program that draws random numbers."""
    return AssetError(
        f'{file} draws random numbers ("{name:.40}"), and a picture must depend on its latents alone; '
        "make the noise an input, and call .eval() on the module before it is exported"
    )
