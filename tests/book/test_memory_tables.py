"""The largest backbone that fits, and what other estimators say of a step."""

import json

import pandas as pd
import pytest
from PIL import Image

from dtl_book.cli import main
from dtl_book.figures.largest_backbone import draw_largest_backbones
from dtl_book.tables import memory_backbones, memory_estimators
from dtl_book.tables.memory_backbones import backbones_sentence, backbones_table, largest_backbones
from dtl_book.tables.memory_estimators import FORMULA, MEASURED, OURS, TRACKER, estimators
from dtl_core.memory import GIB, plan_training

LADDERS = {
    "ViT": {"Ti": "vit_tiny_patch16_224", "S": "vit_small_patch16_224", "B": "vit_base_patch16_224"},
    "other": {"R": "resnet18", "x": "no_such_model"},
}
SETTING = {"batch_size": 2, "image_size": 32, "num_classes": 4}


@pytest.fixture(scope="module")
def found():
    """A GPU on which a full ViT-S just fits beside the GiB of CUDA: its plan's own peak, and not a byte more."""
    peak = plan_training("full", LADDERS["ViT"]["S"], **SETTING).peak_bytes
    gpu = 1 + peak / GIB
    return gpu, *largest_backbones(gpu, ladders=LADDERS, methods=("full", "dtl"), progress=False, **SETTING)


def test_the_largest_backbone_fits_and_the_next_does_not(found):
    gpu, frame, absent = found
    assert set(absent) == {"resnet18", "no_such_model"} and "not supported" in absent["resnet18"]
    sizes, rows = list(LADDERS["ViT"]), frame.set_index("form")
    assert rows.loc["full", "size"] == "S" and rows.loc["full", "GiB"] == pytest.approx(gpu - 1)
    for row in frame.itertuples():
        more = {"recompute": row.form.split(", ")[1].split()[0].replace("plain", "none")} if row.method == "dtl" else {}
        more |= {"cached": True} if "cached" in row.form else {}
        more |= {"checkpointing": True} if "checkpointing" in row.form else {}
        larger = sizes[sizes.index(row.size) + 1 :]
        assert all(
            plan_training(row.method, LADDERS["ViT"][s], **SETTING, **more).peak_bytes > (gpu - 1) * GIB
            for s in larger[:1]
        )
        assert plan_training(row.method, row.backbone, **SETTING, **more).peak_bytes / GIB == row.GiB <= gpu - 1


def test_the_table_and_the_picture_show_the_rows(found):
    gpu, frame, _ = found
    lacking = pd.concat(
        [frame, frame.iloc[:1].assign(form="none fits", size=None, backbone=None, parameters=None, GiB=None)]
    )
    assert (
        backbones_table(lacking).loc["none fits", "ViT"] == "none"
        and "S, 22 M" in backbones_table(frame).loc["full", "ViT"]
    )
    ax = draw_largest_backbones(lacking).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == lacking["form"].tolist()
    assert len(ax.collections[0].get_offsets()) == len(frame)
    assert "full: ViT S;" in backbones_sentence(lacking, gpu, SETTING) and "none fits: ViT none." in backbones_sentence(
        lacking, gpu, SETTING
    )


def test_the_command_writes_a_picture_and_its_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory_backbones, "METHODS", ("dtl",))
    monkeypatch.setattr(memory_backbones, "LADDERS", {"toys": {"ViT": "toy/vit"}})
    words = ["memory", "--gpu", "2", "--largest-backbone", "--image-size", "32", "--out", str(tmp_path / "a" / "b.png")]
    main(words)
    out = capsys.readouterr().out
    assert "on a GPU of 2 GiB (batch size 32, image size 32" in out and "with 1 GiB left for CUDA" in out
    assert (
        pd.read_csv(tmp_path / "a" / "b.csv")["backbone"].tolist() == 4 * ["toy/vit"]
        and Image.open(tmp_path / "a" / "b.png").width > 500
    )
    main([*words, "--json"])
    assert json.loads(capsys.readouterr().out)["rows"][0]["size"] == "ViT"


def test_ours_is_the_estimate_that_a_real_step_meets():
    frame = estimators("toy/vit", batch_size=8, image_size=32, num_classes=4)
    assert frame.loc[OURS].to_numpy() == pytest.approx(frame.loc[MEASURED].to_numpy(), rel=0.02)
    assert (frame.loc[FORMULA, "full"] < 0.7 * frame.loc[MEASURED, "full"]) and frame.loc[FORMULA, "lora"] > frame.loc[
        MEASURED, "lora"
    ]
    assert 0.9 < frame.loc[TRACKER, "full"] / frame.loc[MEASURED, "full"] < 1.2 and pd.isna(frame.loc[TRACKER, "lora"])
    assert "estimate-memory" in memory_estimators.NOTE


@pytest.mark.parametrize(
    "words, message",
    [
        (["--largest-backbone"], "--largest-backbone wants --gpu"),
        (["--largest-backbone", "--gpu", "8", "--compare", "all"], "plans every method and form by itself"),
        (["--out", "a.png"], "--out is where --largest-backbone writes its picture"),
        (["--largest-backbone", "--gpu", "8", "--out", "a.pdf"], "give a file that ends in .png"),
        (["--largest-backbone", "--gpu", "1"], "nothing left beside 1 GiB"),
    ],
)
def test_mistakes_are_told_before_anything_is_planned(words, message, capsys):
    with pytest.raises(SystemExit):
        main(["memory", *words])
    assert message in " ".join(capsys.readouterr().err.split())
