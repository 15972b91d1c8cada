"""CUDA's autocast rules, operation by operation, without CUDA; and with it against the real thing."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dtl_core.memory import CudaAutocast, rule_table
from dtl_core.memory.amp import FP32, LOWER, WIDEST, rule

A, H = (4, 4), torch.float16
CASES = {  # operation -> (call on one tensor, expected type for an fp32 input, expected type for a 16-bit input)
    "linear": (lambda x: F.linear(x, x), H, H),
    "matmul": (lambda x: torch.matmul(x, x), H, H),
    "@": (lambda x: x @ x, H, H),
    "bmm": (lambda x: torch.bmm(x[None], x[None]), H, H),
    "addmm": (lambda x: torch.addmm(x, x, x), H, H),
    "conv2d": (lambda x: F.conv2d(x[None, None], x[None, None]), H, H),
    "attention": (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]), H, H),
    "softmax": (lambda x: x.softmax(-1), torch.float32, torch.float32),
    "F.softmax": (lambda x: F.softmax(x, -1), torch.float32, torch.float32),
    "log_softmax": (lambda x: F.log_softmax(x, -1), torch.float32, torch.float32),
    "layer_norm": (lambda x: F.layer_norm(x, (4,)), torch.float32, torch.float32),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.arange(4, device=x.device)), torch.float32, torch.float32),
    "pow": (lambda x: x**2, torch.float32, torch.float32),
    "exp": (lambda x: x.exp(), torch.float32, torch.float32),
    "sum": (lambda x: x.sum(), torch.float32, torch.float32),
    "norm": (lambda x: x.norm(), torch.float32, torch.float32),
    "mean": (lambda x: x.mean(), torch.float32, H),
    "gelu": (lambda x: F.gelu(x), torch.float32, H),
    "relu": (lambda x: F.relu(x), torch.float32, H),
    "sigmoid": (lambda x: x.sigmoid(), torch.float32, H),
    "add": (lambda x: x + x, torch.float32, H),
    "multiply": (lambda x: x * x, torch.float32, H),
    "multiply by fp32": (lambda x: x * torch.ones(4, device=x.device), torch.float32, torch.float32),
    "cat with fp32": (lambda x: torch.cat([x, torch.ones(4, 4, device=x.device)]), torch.float32, torch.float32),
    "cat": (lambda x: torch.cat([x, x]), torch.float32, H),
}


def types_of(context, device):
    out = {}
    for name, (call, *_) in CASES.items():
        with context(), torch.no_grad():
            out[name] = [call(torch.rand(A, device=device, dtype=d)).dtype for d in (torch.float32, H)]
    return out


def test_each_operation_runs_in_the_type_of_the_table():
    seen = types_of(CudaAutocast, "cpu")
    assert seen == {name: [whole, half] for name, (_, whole, half) in CASES.items()}


@pytest.mark.gpu
def test_the_rules_are_those_of_cuda():
    assert types_of(lambda: torch.autocast("cuda", H), "cuda") == types_of(CudaAutocast, "cuda")


def test_bf16_and_what_is_left_alone():
    with CudaAutocast(torch.bfloat16):
        x = torch.rand(A)
        assert (x @ x).dtype == torch.bfloat16
        double = x.double()
        assert (double @ double).dtype == torch.float64, "autocast leaves float64 alone"
        whole = torch.arange(16).view(4, 4)
        assert (whole @ whole).dtype == torch.int64
        assert x.add_(1).dtype == torch.float32


def test_a_trained_weight_is_cast_once_and_a_frozen_one_at_every_call():
    trained, frozen, x = torch.rand(A, requires_grad=True), torch.rand(A), torch.rand(A)

    def copies(weight, mode):
        seen = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t), mode:
            left = x.clone().requires_grad_()
            for _ in range(2):
                F.linear(left, weight)
        halves = [t for t in seen if t.dtype == H and t.untyped_storage()._cdata != left.untyped_storage()._cdata]
        return mode, {t.untyped_storage()._cdata for t in halves}

    mode, kept = copies(trained, CudaAutocast())
    assert len(mode._copies) == 2, "the weight and the trained input"
    again, _ = copies(frozen, CudaAutocast())
    assert len(again._copies) == 1, "the trained input alone"
    mode.clear()
    assert not mode._copies


def test_gradients_come_in_the_type_of_the_leaf():
    weight, x = torch.rand(A, requires_grad=True), torch.rand(A)
    with CudaAutocast():
        loss = F.cross_entropy(F.linear(x, weight), torch.arange(4))
    loss.backward()
    assert weight.grad.dtype == torch.float32
    expected = torch.autograd.grad(F.cross_entropy(F.linear(x, weight), torch.arange(4)), weight)[0]
    torch.testing.assert_close(weight.grad, expected, rtol=2e-2, atol=2e-3)


def test_the_table_holds_what_torch_lists():
    """The lists of the installed torch, but for what has no name in Python (a leading underscore)."""
    header = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
    if not header.is_file():
        pytest.skip(f"this torch came without its headers: no {header.name}")
    lists = re.findall(r"#define AT_FORALL_(\w+)\(_\)(.*?)(?=\n\n|\n//|\Z)", header.read_text(), re.S)
    listed = {name: set(re.findall(r"_\(([a-z]\w+)", body)) for name, body in lists}
    assert {"LOWER_PRECISION_FP", "FP32", "PROMOTE"} <= listed.keys()
    assert all(listed[name] for name in ("LOWER_PRECISION_FP", "FP32", "PROMOTE"))
    ours = {"LOWER_PRECISION_FP": LOWER, "FP32": FP32, "FP32_SET_OPT_DTYPE": FP32, "PROMOTE": WIDEST}
    for name, table in ours.items():
        assert listed.get(name, set()) <= table, (name, sorted(listed[name] - table))


def test_the_table_is_the_rules():
    table = rule_table()
    assert len(table) == len(LOWER) + len(FP32) + len(WIDEST) and not (LOWER & FP32) and not (FP32 & WIDEST)
    assert rule(F.linear) == "lower" and rule(torch.Tensor.softmax) == "fp32" and rule(torch.cat) == "widest"
    assert rule(F.gelu) == rule(torch.Tensor.exp_) == "as given"
