"""The pictures and tables of notebooks 04 and 07: the diagram, filters, two methods compared."""

import pandas as pd
import pytest
import torch
from figures import text_of
from run_cards import put

from dtl_book.figures.diagram import draw_side_network, draw_spectrum, side_network_counts
from dtl_book.figures.dwconv import added_by_side, authors_kernels, draw_added, draw_filters, filter_table, patches_seen
from dtl_book.figures.gate import draw_gate
from dtl_book.figures.paired_seeds import draw_seeds, draw_versus, seeds_table, versus, versus_sentence
from dtl_book.standins import TASKS
from dtl_core import DTL, DTLConfig, load_backbone


@pytest.mark.parametrize("m", [0, 6, 11])
def test_diagram_and_counts_agree_with_autograd(m):
    model, crossed = DTL(load_backbone("toy/vit"), 3, DTLConfig(inject_from=m), recompute="none"), []
    for i, block in enumerate(model.backbone.blocks):
        block.register_forward_pre_hook(lambda _, x, i=i: crossed.append(i) if x[0].requires_grad else None)
    model(torch.randn(1, 3, 32, 32))
    counts = side_network_counts(m, dim=48).set_index("what")["count"]
    assert counts["blocks that the gradient crosses"] == len(crossed)
    assert counts["blocks that compute exactly what they computed before"] == 12 - len(crossed)
    assert counts["side parameters at width 48"] == sum(p.numel() for p in model.csn.parameters())
    words = text_of(draw_side_network(m))
    assert ("gradient\ncrosses\n" in words) is bool(crossed)
    assert f"{m + 1} block{'s' if m else ''}\nunchanged" in words and "rank of h ≤ 24" in words


def test_counts_of_the_paper_do_not_depend_on_m():
    column = "side parameters at width 768"
    assert {side_network_counts(m).set_index("what")["count"][column] for m in range(12)} == {36_864}
    for kernel, expected in ((3, 43_776), (4, 49_152), (5, 56_064)):
        assert side_network_counts(6, kernel=kernel).set_index("what")["count"][column] == expected
    for m in (-1, 12):
        with pytest.raises(ValueError, match="choose a block from 0 to 11"):
            draw_side_network(m)


def test_gate_and_spectrum_are_drawn():
    assert "0.0028" in text_of(draw_gate())
    assert "rank ≤ 4" in text_of(draw_spectrum({"h": torch.randn(2, 9, 8)}, rank=4))


def test_authors_kernels():
    kernels = authors_kernels()
    assert len(kernels) == 19 and kernels["kernel"].value_counts().to_dict() == {5: 9, 3: 6, 4: 4}
    assert kernels["group"].value_counts().to_dict() == {"natural": 7, "specialized": 4, "structured": 8}
    assert int((36_864 + 768 * kernels["kernel"] ** 2).mean()) == 50_728


def test_patches_seen_by_an_even_kernel():
    assert patches_seen(4, (5, 5), (1, 1)).nonzero().tolist() == [[r, c] for r in range(4) for c in range(4)]
    assert patches_seen(3, (5, 5), (0, 0)).sum() == 4  # at the corner the rest lies outside


def test_filters():
    before = torch.zeros(9, 1, 3, 3)
    after = before.clone()
    after[4, 0, 1, 1], after[7, 0, 0, 0] = 2.0, 1.0
    rows = filter_table(before, after).set_index("place")["change"]
    assert rows[["middle", "beside the middle", "corner"]].tolist() == pytest.approx([2 / 9, 0, 1 / 36])
    words = text_of(draw_filters(before, after, channels=2))
    assert "4" in words and "7" in words and "trained" in words


def test_what_the_side_network_adds():
    models = {}
    for label, kernel in (("DTL", 0), ("DTL+", 3)):
        model = models[label] = DTL(load_backbone("toy/vit"), 3, DTLConfig(dwconv_kernel=kernel)).eval()
        for low_rank in model.csn.maps.values():
            torch.nn.init.normal_(low_rank.up)
    images = torch.randn(2, 3, 32, 32)
    for model in models.values():
        with torch.no_grad():
            features, expected = model.prefix(images), model(images)
        added = added_by_side(model, images)
        assert list(added) == [6, 7, 8, 9, 10, 11] and all(a.shape == (2, 17, 48) for a in added.values())
        x = features.tokens
        with torch.no_grad():
            for i in range(6, 12):
                x = (x if i == 6 else model.backbone.blocks[i](x)) + added[i]
            torch.testing.assert_close(model.head(model.blocks.readout(x)), expected)
            torch.testing.assert_close(model(images), expected)  # the method is back in its place
    assert "DTL+" in text_of(draw_added(models, images[0], block=11))


def test_versus_pairs_by_seed(tmp_path):
    assert "No run of DTL and DTL+ is recorded" in versus_sentence(
        versus("dtl", "dtl+", root=tmp_path), "dtl", "dtl+", ""
    )
    for method, accuracies in {"dtl": (0.90, 0.92, 0.50), "dtl+": (0.93, 0.93), "lora": (0.1,)}.items():
        for seed, accuracy in enumerate(accuracies):
            put(tmp_path, method=method, seed=seed, accuracy=accuracy)
    table = versus("dtl", "dtl+", root=tmp_path).set_index("task")
    assert list(table.index) == list(TASKS) and table.loc["mnist", "seeds"] == 2  # seed 2 has no partner
    assert table.loc["mnist", ["DTL", "DTL+", "difference"]].tolist() == pytest.approx([91.0, 93.0, 2.0])
    assert table.loc["mnist", "difference ±"] == pytest.approx(2**0.5)
    assert table.drop("mnist")["seeds"].sum() == 0 and table.drop("mnist")["difference"].isna().all()
    said = versus_sentence(table.reset_index(), "dtl", "dtl+", "a setting")
    assert "+2.0 points" in said and f"1 of {len(TASKS)} tasks" in said and "a setting" in said
    assert "mnist" in text_of(draw_versus(table.reset_index(), "dtl", "dtl+"))


def test_seeds_table_and_curves():
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})
    histories = {"dtl": [history, history.assign(loss=[2.0, 3.0])]}
    row = seeds_table(histories, {"dtl": [0.5, 0.7]}).iloc[0]
    assert row["loss, last epoch"] == 2.0 and row["loss ±"] == pytest.approx(2**0.5)
    assert row["accuracy"] == pytest.approx(60.0) and row["accuracy ±"] == pytest.approx(200**0.5)
    assert "training loss" in text_of(draw_seeds(histories, {"dtl": [0.5, 0.7]}))
