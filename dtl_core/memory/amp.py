"""Emulation of CUDA's autocast on any device: which operations run in 16 bits or fp32, and which casts are kept.

``torch.autocast("cuda")`` turns itself off where there is no CUDA. The CPU's autocast has other rules: ``softmax`` and
``layer_norm`` may run in 16 bits there. A plan for a GPU needs the GPU's rules.

The table is taken from the lists in PyTorch's ``ATen/autocast_mode.h``, which is part of every installed torch, with
the names under which Python calls the same operations (``@``, ``F.interpolate``, …). A test checks the table against
that file. ``cat`` and ``stack`` promote to the widest type even without autocast. An operation in no list runs in the
type of its inputs.
"""

from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

LOWER = frozenset(
    """matmul __matmul__ __rmatmul__ mm bmm mv addmm addmv addr addbmm baddbmm chain_matmul multi_dot linear prelu
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc convolution scaled_dot_product_attention
    einsum linalg_multi_dot linalg_vecdot gru_cell lstm_cell rnn_relu_cell rnn_tanh_cell""".split()
)
FP32 = frozenset(
    """__pow__ __rpow__ __rdiv__ __rtruediv__ pow exp expm1 log log10 log2 log1p reciprocal rsqrt
    acos asin cosh sinh tan erfinv cumsum cumprod sum prod norm renorm dist cdist pdist
    softmax softmin log_softmax softplus logsumexp layer_norm native_layer_norm rms_norm group_norm
    frobenius_norm nuclear_norm linalg_vector_norm linalg_matrix_norm huber_loss nll_loss2d interpolate
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
    upsample_trilinear3d normalize cosine_similarity
    cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss kl_div binary_cross_entropy_with_logits
    cosine_embedding_loss hinge_embedding_loss margin_ranking_loss multilabel_margin_loss multi_margin_loss
    poisson_nll_loss soft_margin_loss triplet_margin_loss""".split()
)
WIDEST = frozenset(
    "addcdiv addcmul atan2 bilinear cross dot vdot grid_sample grid_sampler index_put scatter_add tensordot cat stack".split()
)
COMPOSITE = frozenset({F.multi_head_attention_forward})  # of several operations, each with its own rule
FLOATS = (torch.float16, torch.bfloat16, torch.float32)  # float64 is left alone, as autocast leaves it


def rule(function: Callable) -> str:
    """Return how CUDA's autocast runs a torch function: "lower" (16 bits), "fp32", "widest" or "as given"."""
    name = getattr(function, "__name__", "")
    if name.endswith("_") and not name.endswith("__"):
        return "as given"  # autocast does not touch operations in place
    for label, names in (("lower", LOWER), ("fp32", FP32), ("widest", WIDEST)):
        if name in names:
            return label
    return "as given"


class CudaAutocast(TorchFunctionMode):
    """Function mode that runs torch functions as ``torch.autocast("cuda", dtype)`` would, without CUDA.

    Like CUDA's autocast, it keeps the 16-bit copy of an fp32 leaf that needs a gradient until ``clear``. It casts any
    other tensor, such as a frozen weight, again at every call. Without ``cache`` no copy is kept, as for blocks that a
    checkpoint recomputes in backward: CUDA's autocast is opened anew for each of them, so its cache ends with the
    block.
    """

    def __init__(self, dtype: torch.dtype = torch.float16, cache: bool = True):
        super().__init__()
        self.dtype, self.cache = dtype, cache
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}

    def clear(self) -> None:
        """Drop the cached copies, as leaving the autocast context does; backward still holds those it needs."""
        self._copies.clear()

    def _lowered(self, x):
        if not isinstance(x, Tensor) or x.dtype not in FLOATS or x.dtype == self.dtype:
            return x
        if not (self.cache and x.dtype == torch.float32 and x.is_leaf and x.requires_grad and not x._is_view()):
            return x.to(self.dtype)
        if id(x) not in self._copies:
            self._copies[id(x)] = (x, x.to(self.dtype))
        return self._copies[id(x)][1]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in COMPOSITE:
            return inside(self, func, args, kwargs)
        how = rule(func)
        if how == "lower":
            args, kwargs = tree_map(self._lowered, args), tree_map(self._lowered, kwargs)
        elif how == "fp32":
            args, kwargs = tree_map(_raised, args), tree_map(_raised, kwargs)
        elif how == "widest":
            types_in = {t.dtype for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.dtype in FLOATS}
            if torch.float32 in types_in and len(types_in) > 1:
                args, kwargs = tree_map(_raised, args), tree_map(_raised, kwargs)
        return func(*args, **kwargs)


def _raised(x):
    return x.float() if isinstance(x, Tensor) and x.dtype in FLOATS and x.dtype != torch.float32 else x


def inside(mode: TorchFunctionMode, function: Callable, args: tuple, kwargs: dict | None):
    """Run one of ``COMPOSITE`` so that the mode sees the operations inside it, of which it else sees the whole alone."""
    with mode, patch.object(F, "has_torch_function", lambda _: False):
        return function(*args, **(kwargs or {}))


def rule_table() -> list[dict]:
    """Return the rules of ``CudaAutocast`` as sorted rows {"operation", "runs in"}, for a test or a page."""
    lists = {"16 bits": LOWER, "fp32": FP32, "the widest type of its inputs": WIDEST}
    return [{"operation": name, "runs in": where} for where, names in lists.items() for name in sorted(names)]
