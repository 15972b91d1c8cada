"""``dtl train`` with a backbone, a configuration and a machine of one's own; and that no training is lost for want of a place."""

import json
from pathlib import Path

import numpy as np
import pytest
from asked import prepare
from PIL import Image

from dtl_book import cli, paths
from dtl_book.experiments import Run
from dtl_core.files import check_writable

TINY = ["--backbone", "test_vit", "--no-pretrained", "--epochs", "1", "--batch-size", "8"]


@pytest.fixture
def shades(tmp_path, monkeypatch):
    """Two classes, dark and bright; everything is written below tmp_path."""
    for name, value in {"PROFILE": "smoke", "DATA": str(tmp_path / "data"), "CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(f"DTL_{name}", value)
    monkeypatch.setattr("dtl_core.paths.CHECKOUT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    draw = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 40)):
        folder = tmp_path / "shades" / name
        folder.mkdir(parents=True)
        for i in range(10):
            Image.fromarray(draw.integers(level - 30, level + 30, (40, 50, 3), dtype=np.uint8)).save(
                folder / f"{i}.png"
            )
    return f"folder:{tmp_path / 'shades'}"


def train(shades, *words):
    cli.main(["train", "--data", shades, *words])
    return json.loads(next(iter(paths.build_dir().rglob("*.json"))).read_text())


def test_a_backbone_and_a_configuration_of_ones_own(shades, capsys):
    own = (
        "--method dtl --rank 3 --tap-from 1 --inject-from 2 --beta inf --kernel 3 --recompute none --workers 2".split()
    )
    more = "--image-size 32 48 --weight-decay 0.1 --warmup-epochs 0 --precision fp32 --device cpu".split()
    card = train(shades, *TINY, *own, *more)
    assert card["backbone"] == "random/test_vit" and card["image_size"] == [32, 48] and card["device"] == "cpu"
    config = {"rank": 3, "tap_from": 1, "inject_from": 2, "beta": "inf", "dwconv_kernel": 3}
    assert card["recipe"]["config"] == config
    assert (card["recipe"]["weight_decay"], card["recipe"]["warmup_epochs"], card["precision"]) == (0.1, 0, "fp32")
    assert "dtl on shades (smoke: test_vit at 32 x 48 px)" in capsys.readouterr().out


def test_what_is_not_given_is_the_backbones_own(shades):
    assert train(shades, *TINY)["image_size"] == [160, 160], "not the profile's"


def test_m_of_a_depth_that_the_paper_has_not_is_said_unless_given(smoke_data, monkeypatch, recwarn):
    monkeypatch.setenv("DTL_DATA", str(smoke_data))
    asked = dict(profile="smoke", backbone="test_vit", pretrained=False)
    prepare("dtl", "shape_location", inject_from=2, **asked)
    assert not recwarn
    with pytest.warns(UserWarning, match="M = 3 is ours"):
        assert prepare("dtl", "shape_location", **asked).recipe.config.inject_from == 3


def test_how_a_run_runs_is_no_part_of_what_it_is():
    """So a run that was stopped goes on with other workers, and on another device."""
    plain = Run("mnist", "dtl", profile="smoke")
    assert (
        Run("mnist", "dtl", profile="smoke", workers=4, device="cpu", recompute="none").checkpoint == plain.checkpoint
    )
    assert Run("mnist", "dtl", profile="smoke", rank=4).checkpoint != plain.checkpoint


@pytest.mark.parametrize(
    "words, message",
    [
        (["--method", "lora", "--inject-from", "3", "--beta", "1"], "--inject-from and --beta: lora has none"),
        (["--method", "dtl", "--readout", "cls"], "dtl reads the mean of the patch tokens alone"),
        (["--lr", "0"], "lr is 0.0: it must be a positive number"),
        (["--backbone", "test_vit", "--weights", "toy/swin"], "give one of them"),
        (["--backbone", "mine.safetensors"], "--arch NAME says what"),
        (["--arch", "test_vit"], "--arch NAME says what"),
        (["--image-size", "1", "2", "3"], "give the side, or height and width"),
        (["--workers", "-1"], "workers is -1"),
        ([*TINY, "--tap-from", "5", "--inject-from", "2"], "lies after inject_from=2"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_run(shades, words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--data", shades, *words])
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert stop.value.code in (1, 2) and message in told


def test_a_setting_names_the_weights_that_were_asked_for():
    assert "toy ViT" in Run("mnist", profile="smoke").setting
    assert Run("mnist", profile="smoke", backbone="toy/swin").setting == "smoke: toy/swin"


def test_a_place_is_tried_before_the_first_step(shades, tmp_path, capsys):
    for out in (tmp_path, tmp_path / "pyproject.toml" / "adapter.safetensors"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", "--data", shades, *TINY, "--out", str(out)])
        said = capsys.readouterr()
        assert stop.value.code == 1 and f"dtl: {tmp_path}" in said.err and "pre-flight" not in said.out
    assert check_writable(tmp_path / "not" / "yet" / "there") and not (tmp_path / "not").exists()


def test_where_the_adapter_cannot_be_written_the_training_is_kept(shades, tmp_path, monkeypatch, capsys):
    """A disk that is full is found only then: the checkpoint stays, and the same command ends at once."""

    def full(*_, **__):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dtl_core.dtl.DTL.save_adapter", full)
        with pytest.raises(SystemExit):
            cli.main(["train", "--data", shades, *TINY])
    assert "no space left" in capsys.readouterr().err and list((tmp_path / "cache" / "runs").glob("*.safetensors"))
    stepped = []
    monkeypatch.setattr("dtl_core.training.loop.train_epoch", lambda *a: stepped.append(a))
    train(shades, *TINY)
    assert not stepped and not list((tmp_path / "cache" / "runs").glob("*.safetensors"))


def test_a_project_that_is_read_only_has_its_builds_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setattr("dtl_core.paths.CHECKOUT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    assert paths.build_dir() == tmp_path / "build"
    monkeypatch.setattr("os.access", lambda place, mode: not str(place).startswith(str(tmp_path)))
    assert paths.build_dir() == Path.home() / ".local" / "share" / "dtl"


def test_bf16_without_its_instructions_is_said(smoke_data, monkeypatch):
    from dtl_book.experiments import preflight as module

    monkeypatch.setenv("DTL_DATA", str(smoke_data))
    for instructions in (True, False):
        monkeypatch.setattr(module, "cpu_has_bf16", lambda there=instructions: there)
        ready = prepare("dtl", "shape_location", profile="smoke", backbone_dtype="bfloat16", device="cpu")
        assert ("about 20 times" in module.preflight(ready, cached=False, timed=False).text()) is not instructions


def test_no_two_models_share_a_file(tmp_path):
    plain = Run("mnist", "dtl", profile="smoke")
    own = [
        dict(rank=4),
        dict(inject_from=8),
        dict(backbone="hf-hub:me/vit"),
        dict(pretrained=False),
        dict(image_size=(64,)),
    ]
    runs = [plain, *(Run("mnist", "dtl", profile="smoke", **asked) for asked in own)]
    for places in ([run.adapter(tmp_path) for run in runs], [run.card(tmp_path) for run in runs]):
        assert len(set(places)) == len(runs)
    assert runs[3].adapter(tmp_path).name == "mnist-dtl-hf_hub_me_vit-seed0.safetensors"
    assert Run("mnist", "dtl", profile="smoke", lr=0.1, epochs=9).adapter(tmp_path) == plain.adapter(tmp_path), (
        "trained again"
    )


def test_training_goes_on_from_an_adapter(shades, tmp_path, capsys):
    first = tmp_path / "first.safetensors"
    tiny = [*TINY, "--method", "dtl", "--lr", "0.01", "--epochs", "8"]
    first_loss = train(shades, *tiny, "--out", str(first))["epochs"][0]["loss"]
    card = train(shades, *tiny, "--from", str(first), "--out", str(tmp_path / "second.safetensors"))
    assert card["run"]["from_adapter"] == str(first) and card["epochs"][0]["loss"] < first_loss
    with pytest.raises(SystemExit):
        cli.main(["train", "--data", shades, *TINY, "--method", "lora", "--from", str(first)])
    assert "training cannot go on from" in capsys.readouterr().err


def test_four_commands_from_a_folder_to_onnx(shades, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    adapter, folder = str(tmp_path / "a.safetensors"), shades.removeprefix("folder:")
    train(shades, *TINY, "--method", "adaptformer", "--out", adapter)
    cli.main(["evaluate", "--adapter", adapter, "--data", shades, "--out", str(tmp_path / "report")])
    cli.main(["predict", "--adapter", adapter, folder, "--out", str(tmp_path / "answers.csv")])
    cli.main(["export", "--adapter", adapter, "--to", "onnx", "--out", str(tmp_path / "onnx")])
    assert (tmp_path / "report" / "confusion.png").exists() and len(
        (tmp_path / "answers.csv").read_text().splitlines()
    ) == 21
    assert list((tmp_path / "onnx").glob("*.onnx")) and list((tmp_path / "onnx").glob("*.json"))
