"""What is packed for a machine without a network. pip itself packs it, from wheels of our own: no network here either."""

import subprocess
import sys

import pytest
from packages import write_wheel

from dtl_book import cli
from dtl_book.measured import pack as module
from dtl_book.measured.pack import ROOTS, within
from dtl_book.paths import CHECKOUT


def test_the_largest_part_that_can_be_missing_goes():
    sizes = {"tyro": 10, "debugpy": 30, "jedi": 20}
    assert within(60, sizes) == (["tyro", "debugpy", "jedi"], [])
    assert within(40, sizes) == (["tyro", "jedi"], ["debugpy"])
    assert within(10, sizes) == (["tyro"], ["debugpy", "jedi"])
    with pytest.raises(ValueError, match="none can be missing: the largest are tyro"):
        within(9, sizes)


@pytest.fixture
def shelf(tmp_path, monkeypatch, plain_pip):
    """A folder of wheels in the place of an index: all need numpy, which the machine has, and tyro needs typeguard."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    for name in (*ROOTS, "numpy", "typeguard"):
        needs = {"tyro": ["numpy", "typeguard>=1"], "numpy": [], "typeguard": []}.get(name, ["numpy"])
        tag = "cp312-cp312-manylinux_2_17_x86_64" if name == "ipykernel" else "py3-none-any"
        files = {f"{name}/__init__.py": "", f"{name}-1.0.data/data/share/{name}": "x"}
        write_wheel(tmp_path / "wheels", name, "1.0", files, needs, tag)
    monkeypatch.chdir(tmp_path)


def test_the_command_packs_a_folder_and_says_how_to_use_it(shelf, tmp_path, capfd):
    cli.main(["measure", "pack", "--out", "packed"])
    said = capfd.readouterr().out.splitlines()
    names = {p.name for p in (tmp_path / "packed" / "site").iterdir() if p.suffix != ".dist-info"}
    assert names == {*ROOTS, "typeguard"}, "neither what the machine has nor shared data"
    assert said[-4].startswith("8 packages") and "typeguard 1.0" in said[-4]
    assert said[-2:] == ['export PYTHONPATH="$PWD/packed/site:$PWD"', "python3 -m dtl_core measure all --minutes 10"]
    with pytest.raises(SystemExit):
        cli.main(["measure", "pack", "--out", "packed"])
    assert "is there already" in capfd.readouterr().err


def test_what_cannot_be_packed_is_refused(shelf, tmp_path, capfd, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(module, "LIMIT", 1000)
        cli.main(["measure", "pack", "--out", str(tmp_path)])
    assert "none can be missing" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["measure", "pack", "--out", str(tmp_path), "--platform", "manylinux-aarch64"])
    assert "No matching distribution found for ipykernel" in capfd.readouterr().err
    assert not (tmp_path / "site").exists()


def test_what_measures_needs_neither_onnx_nor_what_only_the_book_does():
    """A GPU node has PyTorch and timm, and what is packed."""
    lacking = ("onnx", "voila", "playwright", "ray", "jupyterlab")
    code = f"import sys; sys.modules.update(dict.fromkeys({lacking})); import dtl_book.cli, dtl_book.measured.run"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)
