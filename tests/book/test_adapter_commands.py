"""Predict and evaluate as a person types them: every method's adapter, any place of images, what is wrong with either."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dtl_book import cli, evaluation
from dtl_book.evaluation import evaluate_adapter
from dtl_book.figures.evaluation import plot_calibration, plot_confusion
from dtl_book.predict import image_files, predict, transform_of
from dtl_book.printing import printable
from dtl_book.standins import build_suite
from dtl_core import DTL, adapter_file, load_backbone
from dtl_core.adapters import load_adapter
from dtl_core.baselines import METHODS, build
from dtl_core.data import VTAB1k, open_rgb
from dtl_core.training import Evaluation

ESCAPE = "a\x1b[2Jb\u202ec"


def picture(path, level, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two classes in folders, one of them with folders of its own, a hidden file and a text."""
    root = tmp_path / "photos"
    for i in range(4):
        picture(root / "bright" / f"{i}.png", 200 + 10 * i)
        picture(root / "dark" / "night" / f"{i}.jpg", 20 + 10 * i)
    (root / "notes.txt").write_text("no image")
    picture(root / ".hidden.png", 0)
    return root


def adapter(path, method="dtl", names=("bright", "dark"), backbone="toy/vit"):
    """An adapter that tells bright from dark: its head is the direction between the two."""
    torch.manual_seed(0)
    model = build(method, load_backbone(backbone), len(names), inplace=True)
    model.class_names = names
    model.save_adapter(path)
    return path


def run(capsys, *words, status=0):
    """The words said by a command, after it ended with this status."""
    try:
        cli.main([str(word) for word in words])
        ended = 0
    except SystemExit as stop:
        ended = stop.code
    said = capsys.readouterr()
    assert ended == status, said.err
    return said.out if status == 0 or said.out else " ".join(said.err.split())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_as_its_model_does(method, photos, tmp_path):
    path = adapter(tmp_path / "a.safetensors", method)
    table = predict(path, [photos], top=2, device="cpu")
    assert len(table) == 8 and (table.error == "").all() and "task" not in table
    model = load_adapter(path).eval()
    pixels = torch.stack([transform_of(model)(open_rgb(p)) for p in table.image])
    with torch.no_grad():
        p = model(pixels).softmax(1)
    assert table.probability_1.tolist() == pytest.approx(p.max(1).values.tolist(), rel=1e-4)
    assert table.class_1.tolist() == [model.class_names[i] for i in p.argmax(1)]


def test_files_folders_and_patterns(photos, monkeypatch):
    monkeypatch.chdir(photos)
    names = [p.as_posix() for p in image_files(["."])]
    assert names == [f"{f}/{i}.{kind}" for f, kind in (("bright", "png"), ("dark/night", "jpg")) for i in range(4)]
    assert [p.as_posix() for p in image_files(["bright/[12].png", "bright/2.png", "dark/**/3.*"])] == [
        "bright/1.png", "bright/2.png", "dark/night/3.jpg",
    ]  # fmt: skip
    assert [p.name for p in image_files(["nowhere.png", "notes.txt"])] == ["nowhere.png", "notes.txt"]
    picture(photos / "a[1].png", 9)
    assert [p.name for p in image_files(["a[1].png"])] == ["a[1].png"], "a name before a pattern"
    (photos / "linked").mkdir()
    (photos / "linked" / "in").symlink_to(photos / "bright")
    (photos / "linked" / "round").symlink_to(photos / "linked")
    assert [p.as_posix() for p in image_files(["linked"])] == [f"linked/in/{i}.png" for i in range(4)]
    (photos / "empty").mkdir()
    for nothing, message in ((["empty"], "no image is found at empty"), (["*.tiff"], r"at \*.tiff"), ([], "was given")):
        with pytest.raises(ValueError, match=message):
            image_files(nothing)


def test_one_bad_file_costs_its_own_row(photos, tmp_path, capsys):
    (photos / "bright" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n half a file")
    hot = np.full((8, 8), 0.5, np.float32)
    hot[3, 3] = np.nan
    Image.fromarray(hot).save(photos / "bright" / "nan.tiff")
    path, out = adapter(tmp_path / "a.safetensors", "lora"), tmp_path / "new" / "rows.csv"
    said = run(capsys, "predict", "--adapter", path, photos, photos / "gone.png", "--out", out, status=1)
    assert said.startswith("11 images, 3 without an answer; written: ")
    rows = pd.read_csv(out, keep_default_na=False).set_index("image")
    bad = rows[rows.error != ""]
    assert {os.path.basename(p): e for p, e in bad.error.items()}.keys() == {"x.png", "nan.tiff", "gone.png"}
    assert "pixels are not finite" in rows.error[str(photos / "bright" / "nan.tiff")]
    assert set(rows.class_1[rows.error == ""]) <= {"bright", "dark"} and (bad.class_1 == "").all()
    run(
        capsys,
        "predict",
        "--adapter",
        path,
        photos / "gone.png",
        photos / "bright",
        "--out",
        tmp_path / "r.json",
        status=1,
    )
    rows = json.loads((tmp_path / "r.json").read_text())
    assert rows[0]["class_1"] is None and rows[1]["error"] == "" and len(rows) == 7


def test_answers_that_are_not_finite_are_told(photos, tmp_path):
    model = DTL("toy/vit", 2)
    with torch.no_grad():
        model.head.weight.fill_(1e38)
        model.head.bias.fill_(3e38)
    model.save_adapter(tmp_path / "a.safetensors")
    table = predict(tmp_path / "a.safetensors", [photos], device="cpu")
    assert table.error.str.contains("NaN or infinite").any() and table[table.error != ""].filter(
        like="class"
    ).isna().all(None)


def test_adapters_of_several_methods_and_backbones_answer_together(photos, tmp_path, capsys, monkeypatch):
    loaded = []
    real = adapter_file.load_backbone
    monkeypatch.setattr(
        adapter_file,
        "load_backbone",
        lambda name, **kw: loaded.append((name, kw.get("pretrained", True))) or real(name, **kw),
    )
    paths = [adapter(tmp_path / f"{m.replace('+', 'plus')}.safetensors", m) for m in ("dtl", "lora", "dtl+")]
    paths.append(adapter(tmp_path / "swin.safetensors", "dtl", ("x", "y", "z"), "toy/swin"))
    table = predict(paths, [photos / "bright", photos / "dark"], device="cpu")
    assert [n for n, real_weights in loaded if real_weights] == ["toy/vit", "toy/vit", "toy/swin"], (
        "the two DTLs share one"
    )
    assert table.task.tolist() == [p.stem for p in paths] * 8 and table.image.nunique() == 8
    for path in paths:
        alone = predict(path, [photos / "bright", photos / "dark"], device="cpu")
        together = table[table.task == path.stem]
        assert together.class_1.tolist() == alone.class_1.tolist()
        assert together.probability_1.tolist() == pytest.approx(alone.probability_1.tolist(), rel=1e-4)
    with pytest.raises(ValueError, match="a name of its own"):
        predict([paths[0], tmp_path / "other" / paths[0].name], [photos])


def test_no_escape_of_a_file_reaches_the_terminal(photos, tmp_path, capsys):
    path = adapter(tmp_path / "a.safetensors", names=(ESCAPE, "dark"))
    strange = picture(photos / "bright" / f"{ESCAPE}\n.png", 5)
    said = run(capsys, "predict", "--adapter", path, strange, "--top", "2")
    assert "a\\x1b[2Jb\\u202ec\\n.png" in said and said.count("\n") == 2
    assert said.count("a\\x1b[2Jb\\u202ec") == 2
    error = run(capsys, "predict", "--adapter", f"{ESCAPE}.safetensors", strange, status=1)
    said += error + run(capsys, "evaluate", "--adapter", path, "--data", f"folder:{photos}", status=1)
    assert "\x1b" not in said and "\u202e" not in said and "\\x1b[2J" in error
    run(capsys, "predict", "--adapter", path, strange, "--out", tmp_path / "rows.csv")
    assert ESCAPE in set(pd.read_csv(tmp_path / "rows.csv").filter(like="class").iloc[0]), "a file has the name itself"
    assert printable("naïve 日本 🐈\n") == "naïve 日本 🐈\\n" and printable("\udcff") == "\\udcff"


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_places_are_tried_before_the_work(command, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dtl_core.adapter_file.load_backbone", lambda *_, **__: pytest.fail("the work began"))
    path = adapter(tmp_path / "a.safetensors")
    words = {"predict": [photos], "evaluate": ["--data", f"folder:{photos}"], "export": []}[command]
    (tmp_path / "file").write_text("")
    places = [tmp_path / "file" / "below"] + ([photos] if command == "predict" else [tmp_path / "file"])
    for place in places:
        error = run(capsys, command, "--adapter", path, *words, "--out", place, status=1)
        assert f"{photos} is a folder: give" in error or f"{tmp_path / 'file'} cannot be written" in error


@pytest.mark.parametrize("method", ["dtl+", "lora"])
def test_evaluate_a_folder(method, photos, tmp_path, capsys):
    path, out = adapter(tmp_path / "a.safetensors", method), tmp_path / "out"
    said = run(capsys, "evaluate", "--adapter", path, "--data", f"folder:{photos}", "--split", "trainval", "--out", out)
    about = json.loads((out / "evaluation.json").read_text())
    rows, counts = pd.read_csv(out / "predictions.csv"), pd.read_csv(out / "confusion.csv")
    model, right = load_adapter(path).eval(), 0
    for row in rows.itertuples():
        answer = predict(path, [row.image], device="cpu").iloc[0]
        assert row.predicted == answer.class_1 and row.probability == pytest.approx(answer.probability_1, rel=1e-4)
        assert row.right == (row.predicted == row[2]) == (f"/{answer.class_1}/" in row.image)
        right += row.right
    assert len(rows) == about["images"] == 6 and about["accuracy"] == pytest.approx(right / 6)
    assert about["method"] == model.method and about["data"] == f"folder:{photos}" and about["split"] == "trainval"
    assert counts.set_index("class").to_numpy().sum() == 6
    assert np.diag(counts.set_index("class").to_numpy()).sum() == right
    assert pd.read_csv(out / "per_class.csv")["class"].tolist() == ["bright", "dark"]
    assert len(pd.read_csv(out / "calibration.csv")) == 15
    assert f"6 images: accuracy {right / 6:.3f}" in said and "calibration error" in said and "bright" in said
    for name in ("confusion.png", "calibration.png"):
        assert Image.open(out / name).size[0] > 400


def test_evaluate_knows_the_classes_by_name(photos, tmp_path, capsys):
    """Adapters whose classes stand in the other order, or are others."""
    straight = evaluate_adapter(adapter(tmp_path / "a.safetensors"), f"folder:{photos}", device="cpu", progress=False)
    model = load_adapter(tmp_path / "a.safetensors")
    model.class_names = ("dark", "bright")
    with torch.no_grad():
        for part in model.head.parameters():
            part.copy_(part.flip(0))
    model.save_adapter(tmp_path / "b.safetensors")
    turned = evaluate_adapter(tmp_path / "b.safetensors", f"folder:{photos}", device="cpu", progress=False)
    for one, other in zip(
        straight.predictions().to_dict("records"), turned.predictions().to_dict("records"), strict=True
    ):
        assert one["class"] == other["class"] and one["predicted"] == other["predicted"]
    (photos / "dark").rename(photos / "dusk")
    for names, message in (
        (("bright", "dark"), "only the images: 'dusk'; only the model: 'dark'"),
        (("bright", "dark", "dusk"), "only the model: 'dark'"),
    ):
        path = adapter(tmp_path / "c.safetensors", names=names)
        assert message in run(capsys, "evaluate", "--adapter", path, "--data", f"folder:{photos}", status=1)


def test_evaluate_a_list_that_is_a_test_set_alone(photos, tmp_path, capsys):
    lines = [
        f"photos/{f}/{i}.{kind},{f.split('/')[0]},test"
        for f, kind in (("bright", "png"), ("dark/night", "jpg"))
        for i in range(4)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *lines]))
    path = adapter(tmp_path / "a.safetensors", "ssf")
    said = run(
        capsys, "evaluate", "--adapter", path, "--data", f"csv:{tmp_path / 'list.csv'}", "--out", tmp_path / "out"
    )
    answers = predict(path, [photos], device="cpu")
    right = [f"/{row.class_1}/" in row.image for row in answers.itertuples()]
    assert f"8 images: accuracy {np.mean(right):.3f}" in said
    rows = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert sorted(rows.image) == sorted(answers.image) and rows.right.sum() == sum(right)


def test_evaluate_on_a_task_of_a_benchmark(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DTL_DATA", str(tmp_path / "data"))
    build_suite("smoke", tasks=("shape_location",))
    names = VTAB1k(tmp_path / "data" / "smoke" / "vtab-1k", "shape_location", "test").class_names
    path = adapter(tmp_path / "a.safetensors", "linear", names)
    said = run(capsys, "evaluate", "--adapter", path, "--task", "shape_location", "--profile", "smoke")
    assert "data: vtab-1k: shape_location (smoke)" in said and "accuracy" in said
    for words in ([], ["--task", "x", "--data", "folder:y"]):
        assert "either --data" in run(capsys, "evaluate", "--adapter", path, *words, status=1)


def test_pictures_of_an_evaluation():
    counts = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    figure = plot_confusion(counts, ["$a$", "b", ESCAPE], "6 images")
    ax = figure.axes[0]
    assert np.asarray(ax.collections[0].get_array()).reshape(3, 3) == pytest.approx(
        np.array([[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]])
    )
    assert [t.get_text() for t in ax.texts] == [str(n or "") for n in counts.flat]
    figure.canvas.draw()  # a dollar sign is no formula
    assert [t.get_text() for t in ax.get_xticklabels()] == [r"\$a\$", "b", "a\\x1b[2Jb\\u202ec"]
    large = plot_confusion(np.eye(60, dtype=int), [str(i) for i in range(60)]).axes[0]
    assert not large.texts and not any(t.get_text() for t in large.get_xticklabels())
    score = Evaluation(0.5, 0.5, 0.0, np.array([0, 1]), np.array([0, 0]), None, np.array([[2.0, 0], [2.0, 0]]))
    above, below = plot_calibration(score.calibration(), score.calibration_error()).axes
    assert sum(bar.get_height() for bar in below.patches) == 2
    assert [bar.get_height() for bar in above.patches if bar.get_height()] == [0.5]


def test_many_classes_show_those_of_lowest_recall(photos):
    labels = np.arange(30)
    said = np.where(labels < 25, labels, 0)
    score = Evaluation(25 / 30, 25 / 30, 0.1, labels, said, None, 9.0 * np.eye(30)[said])
    text = evaluation.Report({"adapter": "a"}, tuple(f"c{i}" for i in range(30)), None, score).text()
    assert "the 20 classes of lowest recall" in text and "c29" in text and "c24" not in text


def test_what_a_rival_learned_is_there_to_be_used(tmp_path, monkeypatch, capsys):
    """`dtl train --method lora`, then predict and evaluate with the file that it wrote."""
    for name, value in {"PROFILE": "smoke", "DATA": tmp_path / "data", "CACHE": tmp_path / "cache"}.items():
        monkeypatch.setenv(f"DTL_{name}", str(value))
    monkeypatch.setattr("dtl_core.paths.CHECKOUT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    for i in range(10):
        picture(tmp_path / "shades" / "bright" / f"{i}.png", 180 + 5 * i)
        picture(tmp_path / "shades" / "dark" / f"{i}.png", 20 + 5 * i)
    data = f"folder:{tmp_path / 'shades'}"
    run(capsys, "train", "--data", data, "--method", "lora", "--epochs", "8", "--lr", "0.01")
    (path,) = (tmp_path / "build" / "adapters").glob("*.safetensors")
    assert load_adapter(path).method == "lora"
    assert "4 images: accuracy 1.000" in run(capsys, "evaluate", "--adapter", path, "--data", data)
    assert set(predict(path, [tmp_path / "shades" / "dark"], device="cpu").class_1) == {"dark"}
