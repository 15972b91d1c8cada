"""The command line as a person types it, in the smoke profile."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtl_book import cli
from dtl_book.predict import predict
from dtl_book.standins import build_suite
from dtl_core import DTL
from dtl_core.data import open_rgb
from dtl_core.data.augment import CropTransform
from dtl_core.data.transforms import EvalTransform


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes, dark and bright, one broken image among them, and everything written below tmp_path."""
    for name, value in {"PROFILE": "smoke", "DATA": str(tmp_path / "data"), "CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(f"DTL_{name}", value)
    monkeypatch.setattr("dtl_core.paths.CHECKOUT", tmp_path)  # cards and adapters go to build/ of the project
    (tmp_path / "pyproject.toml").write_text("")
    rng, root = np.random.default_rng(0), tmp_path / "shades"
    for name, level in (("bright", 200), ("dark", 40)):
        (root / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(level - 30, level + 30, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    (root / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half a file")
    return root


def test_train_on_a_folder_then_predict(folder, tmp_path, capsys):
    with pytest.warns(UserWarning, match="broken.png"):
        cli.main(["train", "--data", f"folder:{folder}", "--method", "dtl+", "--epochs", "8", "--lr", "0.01"])
    out = capsys.readouterr().out
    card = json.loads(next((tmp_path / "build" / "runs").rglob("*.json")).read_text())
    assert card["benchmark"] == "folder" and card["task"] == "shades" and card["classes"] == 2
    assert f"accuracy {card['accuracy']:.3f}" in out
    plan = out.partition("run card")[0]
    assert "shades: 2 classes: bright (12), dark (12); train 16, val 4, test 4 (val and test cut" in plan
    (adapter,) = (tmp_path / "build" / "adapters").glob("*.safetensors")
    assert re.fullmatch("shades-[0-9a-f]{8}-dtl[+]-seed0.safetensors", adapter.name) and f"adapter:  {adapter}" in out

    with pytest.raises(SystemExit) as stop:
        pictures = [str(folder / name) for name in ("dark/1.png", "dark/broken.png", "bright/2.png")]
        cli.main(["predict", "--adapter", str(adapter), *pictures])
    assert stop.value.code == 1  # one image could not be read; the others are answered all the same
    lines = capsys.readouterr().out.strip().split("\n")
    assert len(lines) == 4 and "broken.png" in lines[2]
    assert "dark" in lines[1].split("1.png")[1] and "bright" in lines[3].split("2.png")[1]


def test_train_on_a_table_and_on_given_splits(folder, tmp_path, capsys):
    rows = [f"{name}\\{i}.png;{name};{'test' if i > 8 else 'train'}" for name in ("bright", "dark") for i in range(12)]
    (folder / "shades.csv").write_text("\n".join(["path;label;split", *rows]), encoding="utf-8-sig")
    for name in ("bright", "dark"):
        for i in range(12):
            place = tmp_path / "given" / ("Test" if i > 8 else "train") / name
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i}.png").write_bytes((folder / name / f"{i}.png").read_bytes())
    found = []
    for word in (f"csv:{folder / 'shades.csv'}", f"folder:{tmp_path / 'given'}"):
        cli.main(["train", "--data", word, "--method", "linear", "--epochs", "1", "--per-class", "3"])
        out = capsys.readouterr().out
        assert (
            "2 classes: bright (12), dark (12); train 14, val 4, test 6 (val cut from the training images by seed 0); "
            in out
        )
        assert (
            "3 a class to train on, by seed 0" in out and ": 6 images trainval (" in out and ", 6 images test (" in out
        )
        found.append(json.loads(Path(re.search("run card: (.*)", out)[1]).read_text()))
    assert [card["benchmark"] for card in found] == ["csv", "folder"] and found[0]["run"]["per_class"] == 3
    assert found[0]["accuracy"] == found[1]["accuracy"] and found[0]["task"] == "shades"


def test_output_that_knows_few_letters(folder, tmp_path):
    """A name outside of the code page is written with escapes, and the command goes on."""
    root = folder.rename(tmp_path / "zmierzch ∞ 暗")
    (root / "dark" / "broken.png").unlink()
    words = ["train", "--data", f"folder:{root}", "--method", "linear", "--epochs", "1"]
    code = (
        "import subprocess, sys, pathlib, dtl_core.paths as p; p.CHECKOUT = pathlib.Path.cwd(); from dtl_book import cli; "
        "cli.main(); subprocess.run([sys.executable, '-c', 'print(chr(8734), flush=True)'], check=True)"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, env=environment, cwd=tmp_path)
    said = done.stdout.decode("cp1252")
    assert done.returncode == 0, done.stderr.decode("cp1252")
    assert r"zmierzch \u221e \u6697: 2 classes: bright (12)" in said and "run card:" in said
    assert r"\u221e" in said.splitlines()[-1], "and so does a process that it starts"


def test_train_on_a_benchmark_with_switches(folder, tmp_path, capsys):
    build_suite("smoke", tasks=("typefaces", "digits"))

    def card_of(*words):
        cli.main(["train", "--method", "linear", "--lr", "0.01", "--epochs", "2", *words])
        out = capsys.readouterr().out
        return json.loads(Path(re.search("run card: (.*)", out)[1]).read_text()), out

    card, out = card_of("--benchmark", "domain", "--task", "mnist", "--normalisation", "half", "--readout", "cls")
    assert (card["benchmark"], card["readout"]) == ("domain", "cls")
    assert card["switches"] == {"normalisation": "half", "readout": "cls"}
    for target in ("uci", "printed", "sketch", "rendition"):
        assert f"  on {target}: accuracy {card['targets'][target]['accuracy']:.3f}" in out
    card, out = card_of("--benchmark", "few-shot", "--task", "typefaces", "--shots", "2", "--jpeg", "30")
    assert (card["shots"], card["switches"], card["readout"]) == (2, {"jpeg": 30}, "mean")
    assert card["train_split"] == "train_meta.list.num_shot_2.seed_0" and "2shot" in out


def test_predict_shows_an_adapter_what_it_was_tested_on(folder, tmp_path):
    """The centre of a photograph, as the official few-shot and domain sets are tested; the whole otherwise."""
    torch.manual_seed(0)
    model, picture, answers = DTL("toy/vit", 3).eval(), tmp_path / "wide.png", {}
    ramp = np.linspace(0, 255, 90).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[None, :, None], (40, 90, 3)).copy()).save(picture)
    for view, transform in (("crop", CropTransform), ("resize", EvalTransform)):
        model.view = view
        model.save_adapter(tmp_path / f"{view}.safetensors")
        pixels = transform(model.info.image_size, model.info.mean, model.info.std)(open_rgb(picture))
        answers[view] = predict(tmp_path / f"{view}.safetensors", [picture], device="cpu")["probability_1"].item()
        assert answers[view] == pytest.approx(model(pixels[None]).softmax(1).max().item(), rel=1e-5)
        assert DTL.from_adapter(tmp_path / f"{view}.safetensors").view == view
    assert answers["crop"] != pytest.approx(answers["resize"], rel=1e-4)
    both = predict([tmp_path / f"{view}.safetensors" for view in answers], [picture], device="cpu")
    assert dict(zip(both.task, both.probability_1, strict=True)) == pytest.approx(answers, rel=1e-5)


def test_predict_with_several_adapters(folder, tmp_path, capsys):
    """They share a backbone: a row for each image and task, and the answers of one adapter alone."""
    torch.manual_seed(0)
    for name, classes in (("shade", ("bright", "dark")), ("mood", ("calm", "loud", "sad"))):
        model = DTL("toy/vit", len(classes))
        model.class_names = classes
        model.save_adapter(tmp_path / f"{name}.safetensors")
    mood, shade = (["--adapter", str(tmp_path / f"{name}.safetensors")] for name in ("mood", "shade"))
    pictures = [str(folder / "dark" / "1.png"), str(folder / "bright" / "2.png")]
    cli.main(["predict", *shade, *mood, *pictures])
    lines = capsys.readouterr().out.strip().split("\n")
    assert [line.split()[:2] for line in lines[1:]] == [[p, task] for p in pictures for task in ("shade", "mood")]
    cli.main(["predict", *mood, *pictures])
    alone = capsys.readouterr().out.strip().split("\n")
    assert "task" not in alone[0].split()
    assert [line.split()[2:] for line in lines if " mood " in line] == [line.split()[1:] for line in alone[1:]]


@pytest.mark.parametrize(
    "words, message",
    [
        (["train"], "--task NAME"),
        (["train", "--data", "somewhere"], "folder:PATH"),
        (["train", "--task", "mnist"], "dtl data build"),
        (["predict", "--adapter", "nowhere.safetensors", "a.png"], "nowhere.safetensors"),
        (["train", "--task", "mnist", "--epochs", "0"], "epochs=0"),
        (["sweep", "--tasks", "mnist", "--shots", "4"], "shots belong to the few-shot benchmark"),
        (["train", "--data", "folder:.", "--shots", "4"], "shots belong to the few-shot benchmark"),
        (
            ["train", "--benchmark", "domain", "--task", "mnist", "--shots", "4"],
            "shots belong to the few-shot benchmark",
        ),
        (["memory", "--compare", "all", "--gpu", "8"], "leave out --compare"),
        (["measure", "memory", "--device", "cpu", "--minutes", "0"], "minutes is 0"),
        (["explorer", "--port", "99999999"], "choose one from 1 to 65535"),
    ],
)
def test_mistakes_are_told_without_a_traceback(folder, words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    error = " ".join(capsys.readouterr().err.split())
    assert stop.value.code in (1, 2) and message in error and "Traceback" not in error


def test_results_of_a_folder_that_is_not_there_are_told_at_once(folder, tmp_path, monkeypatch, capsys):
    """And not after the plans of the other tables."""
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path / "nowhere"))
    monkeypatch.setattr("dtl_book.tables.results_page.recorded_tables", lambda *_: pytest.fail("it planned"))
    with pytest.raises(SystemExit):
        cli.main(["results"])
    assert "there are no results in" in capsys.readouterr().err


def test_overview_and_unknown_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0 and "dtl data fetch" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "fetsh"])
    assert stop.value.code == 2 and "fetsh" in capsys.readouterr().out
