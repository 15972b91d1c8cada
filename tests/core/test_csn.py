"""The Compact Side Network against plain loops, and what of it exists."""

import math

import pytest
import torch

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.csn import CompactSideNetwork, DepthwiseConv, LowRankMap, swish


def convolved(grid, weight):
    """Depthwise cross-correlation of one (H, W, d) grid, a pixel at a time, zeros outside.

    "Same": k - 1 zeros in all on each axis, and an even kernel has the odd one to the right and below.
    """
    height, width, _ = grid.shape
    k = weight.shape[-1]
    out = torch.zeros_like(grid)
    for row in range(height):
        for column in range(width):
            for u in range(k):
                for v in range(k):
                    r, c = row + u - (k - 1) // 2, column + v - (k - 1) // 2
                    if 0 <= r < height and 0 <= c < width:
                        out[row, column] += weight[:, 0, u, v] * grid[r, c]
    return out


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (6, 2)])
def test_depthwise_convolution_is_a_loop_over_pixels(kernel, size):
    torch.manual_seed(kernel)
    conv = DepthwiseConv(3, kernel).double()
    grid = torch.randn(2, *size, 3, dtype=torch.float64)
    expected = torch.stack([convolved(g, conv.weight.detach()) for g in grid])
    torch.testing.assert_close(conv(grid), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "prefix", [0, 1, 2, 5], ids=["no class token", "class", "class + distillation", "class + 4 registers"]
)
@pytest.mark.parametrize("kernel", [2, 3])
def test_prefix_tokens_pass_by_the_convolution(prefix, kernel):
    torch.manual_seed(0)
    config = dict(rank=2, tap_from=0, inject_from=1, beta=100.0, dwconv_kernel=kernel)
    csn = CompactSideNetwork([4] * 3, [0] * 3, (2, 3), **config).double()
    h = torch.randn(2, prefix + 6, 4, dtype=torch.float64)
    out = csn.gate(1, h).detach()

    for b in range(2):
        gated = h[b] / (1 + torch.exp(-100.0 * h[b]))
        torch.testing.assert_close(out[b, :prefix], gated[:prefix], rtol=0, atol=1e-14)
        patches = convolved(gated[prefix:].reshape(2, 3, 4), csn.dwconvs["0"].weight.detach()).reshape(6, 4)
        torch.testing.assert_close(out[b, prefix:], patches, rtol=0, atol=1e-13)


def test_swish_is_a_smooth_relu():
    h = torch.linspace(-3, 3, 600_001, dtype=torch.float64)
    gap = (swish(h) - h.relu()).abs().max().item()
    assert 0.00278 < gap < 0.0028  # the gap is max over u of u / (1 + e^u), 0.27846, over beta
    assert (swish(h, beta=10.0) - h.relu()).abs().max().item() == pytest.approx(10 * gap, rel=1e-4)
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    swish(zero).backward()
    assert zero.grad.item() == 0.5


def test_initialisation():
    torch.manual_seed(0)
    low_rank = LowRankMap(400, 64)
    assert low_rank.down.shape == (64, 400) and low_rank.up.shape == (400, 64)
    assert torch.equal(low_rank.up, torch.zeros(400, 64))
    bound = 1 / math.sqrt(400)  # Kaiming-uniform with a = sqrt(5): 1 / sqrt(fan in)
    assert 0.99 * bound < low_rank.down.max() <= bound and -bound <= low_rank.down.min() < -0.99 * bound
    assert low_rank.down.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    conv = DepthwiseConv(400, 5)
    assert conv.weight.shape == (400, 1, 5, 5)
    assert 0.99 / 5 < conv.weight.abs().max() <= 1 / 5  # fan in of a depthwise filter: k * k
    torch.manual_seed(3)
    ours = DepthwiseConv(8, 3).weight
    torch.manual_seed(3)
    assert torch.equal(ours, torch.nn.Conv2d(8, 8, 3, groups=8, bias=False).weight)


def test_only_maps_that_reach_an_injection_exist():
    widths, stages = [4, 4, 8, 8, 8, 16], [0, 0, 1, 1, 1, 2]
    csn = CompactSideNetwork(widths, stages, rank=1, tap_from=0, inject_from=3, beta=100.0, dwconv_kernel=3)
    assert list(csn.maps) == ["2", "3", "4", "5"]  # stage 0 injects nothing, so no map of it could matter
    assert {s: tuple(c.weight.shape) for s, c in csn.dwconvs.items()} == {"1": (8, 1, 3, 3), "2": (16, 1, 3, 3)}
    late = CompactSideNetwork(widths, stages, rank=1, tap_from=3, inject_from=3, beta=100.0)
    assert list(late.maps) == ["3", "4", "5"] and not late.dwconvs


def side_parameters(backbone, config):
    return sum(p.numel() for p in DTL(backbone, 10, config).csn.parameters())


@pytest.mark.parametrize("kernel, expected", [(0, 36_864), (3, 43_776), (4, 49_152), (5, 56_064)])
def test_count_on_the_papers_vit(kernel, expected):
    with torch.device("meta"):
        backbone = load_backbone("vit_base_patch16_224", pretrained=False)
        config = DTLConfig(dwconv_kernel=kernel)
        assert side_parameters(backbone, config) == expected
    assert kernel not in (0, 3) or config == DTLConfig.paper("vit", plus=kernel > 0)


@pytest.mark.parametrize("plus, expected", [(False, 90_112), (True, 138_112 - 9_600)])
def test_count_on_the_papers_swin(plus, expected):
    with torch.device("meta"):
        backbone = load_backbone("swin_base_patch4_window7_224", pretrained=False)
        assert side_parameters(backbone, DTLConfig.paper("swin", plus)) == expected
    # the authors build four convolutions; those of stages 0 and 1 (128 and 256 wide) never take part
    assert (128 + 256) * 5 * 5 == 9_600
