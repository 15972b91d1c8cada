"""The pictures and counts of notebook 08."""

import pytest
import torch
from figures import text_of

from dtl_book.figures import swin
from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.blocks import blocks_of
from dtl_core.memory import MIB, plan_training


def heights(ax):
    """Height of each bar, by block."""
    return {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in ax.patches}


def test_stages_and_widths_are_those_of_a_swin_b():
    with torch.device("meta"):
        steps = blocks_of(load_backbone("swin_base_patch4_window7_224", pretrained=False))
    assert steps.stages == swin.STAGES and steps.widths == swin.WIDTHS
    assert blocks_of(load_backbone("toy/swin")).stages == swin.STAGES


@pytest.mark.parametrize("m, kernel", [(0, 0), (3, 5), (14, 0), (14, 5), (22, 5)])
def test_counts_agree_with_a_model(m, kernel):
    with torch.device("meta"):
        backbone = load_backbone("swin_base_patch4_window7_224", pretrained=False)
        model = DTL(backbone, 2, DTLConfig(rank=4, inject_from=m, dwconv_kernel=kernel))
    counts = swin.side_counts(m, kernel).set_index("what")["count"]
    assert counts["side parameters of a Swin-B"] == sum(p.numel() for p in model.csn.parameters())
    assert counts["low-rank maps that reach an injection"] == len(model.csn.maps)
    assert counts["injections"] + counts["blocks that compute exactly what they computed before"] == 25


def test_counts_of_the_paper():
    assert sum(p.numel() for p in swin.side_network(14).parameters()) == 90_112
    assert sum(p.numel() for p in swin.side_network(14, kernel=5).parameters()) == 138_112 - 9_600
    assert list(swin.side_network(14, tap_from=4).maps) == list(swin.side_network(14).maps)
    for m in (-1, 24):
        with pytest.raises(ValueError, match="choose a block from 0 to 23"):
            swin.side_network(m)
    with pytest.raises(ValueError, match="choose a block from 4 to 23"):
        swin.side_network(3, tap_from=4)


@pytest.mark.parametrize("m", [0, 14, 22])
def test_side_states_start_again_at_each_stage(m):
    fig = swin.draw_side_states(m)
    drawn, csn = heights(fig.axes[0]), swin.side_network(m)
    assert set(drawn) == {int(i) for i in csn.maps}
    assert all(drawn[i] == 4 * (i - swin.STAGES.index(swin.STAGES[i]) + 1) for i in drawn)
    dots = [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_markerfacecolor() == swin.GATE]
    assert dots == list(range(m, 24))
    assert "stage 2" in text_of(fig)


def test_bytes_by_block_and_stage():
    saved = plan_training("dtl", "swin_base_patch4_window7_224", batch_size=2).saved_by_block
    assert swin.by_stage(saved).sum() == sum(size for region, size in saved.items() if region.startswith("block"))
    assert swin.by_stage(saved)[[0, 1]].sum() == 0
    assert swin.by_stage({"block 3": 5, "block 23": 7, "head": 9}).tolist() == [0, 5, 0, 7]
    fig = swin.draw_bytes({"DTL": saved})
    assert heights(fig.axes[0]) == pytest.approx({i: saved.get(f"block {i}", 0) / MIB for i in range(24)})
    assert "DTL, MiB" in text_of(fig)


def test_stages_peaks_and_moves_are_drawn():
    words = text_of(swin.draw_stages((56, 28, 14, 7), (128, 256, 512, 1024), 7))
    assert "56 × 56\nwidth 128" in words and "7 × 7\nwidth 1,024" in words
    words = text_of(swin.draw_peaks({0: 300 * MIB, 14: 200 * MIB}, 14, {"LoRA": 400 * MIB}))
    assert "M = 14: 200 MiB" in words and "LoRA" in words
    fig = swin.draw_moved({4: 1.0, 22: 2.0}, 14)
    assert heights(fig.axes[0]) == {4: 1.0, 22: 2.0}
    assert "stage 3" in text_of(fig)
