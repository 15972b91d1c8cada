"""What is packed for a machine without a network: which packages, which versions, and how large. No network here either."""

import re
import subprocess
import sys
import zipfile

import pytest

from dtl_book import cli
from dtl_book.measured import pack as module
from dtl_book.measured.pack import NODE, environment_of, read_wheel, resolve, unpack, within
from dtl_book.paths import CHECKOUT

# name -> version -> Requires-Dist; the newest version stands first
SHELF = {
    "tool": {"2.0": ["Middle>=1", "numpy>=1.20", 'old-only; python_version < "3.9"', 'extra-only; extra == "fancy"']},
    "middle": {"1.5": ["deep-er[fast]", "tool"], "1.0": []},
    "deep-er": {"3.0": ['accelerant; extra == "fast"', 'winter; sys_platform == "win32"'], "2.0": []},
    "accelerant": {"1.0": ['backport; python_version < "3.12"']},
    "backport": {"1.0": []},
    "strict": {"1.0": ["deep-er<3"]},
    "stricter": {"1.0": ["deep-er>=3", "accelerant"]},
}


def from_shelf(asked=None):
    from packaging.requirements import Requirement

    def requires_of(text):
        need = Requirement(text)
        if asked is not None:
            asked.append(text)
        fits = [version for version in SHELF[need.name] if need.specifier.contains(version)]
        version = fits[0] if fits else next(iter(SHELF[need.name]))
        return version, SHELF[need.name][version]

    return requires_of


def test_needs_are_followed_with_the_markers_of_the_machine():
    found = resolve(["tool"], NODE, from_shelf(), environment_of("3.12", "x86_64"))
    assert found == {"tool": "2.0", "middle": "1.5", "deep-er": "3.0", "accelerant": "1.0"}
    found = resolve(["tool"], NODE, from_shelf(), environment_of("3.11", "x86_64"))
    assert "backport" in found and "numpy" not in found and "winter" not in found and "extra-only" not in found


def test_what_the_machine_has_is_left_out():
    assert resolve(["tool"], {"numpy", "middle"}, from_shelf(), environment_of("3.12", "x86_64")) == {"tool": "2.0"}


def test_an_older_version_is_taken_where_someone_wants_it():
    asked = []
    found = resolve(["middle", "strict"], NODE | {"tool"}, from_shelf(asked), environment_of("3.12", "x86_64"))
    assert found["deep-er"] == "2.0" and asked.count("deep-er") + asked.count("deep-er<3") == 2


def test_wishes_that_cannot_be_met_together_are_named():
    with pytest.raises(ValueError, match="deep-er .* no version answers all"):
        resolve(["strict", "stricter"], NODE, from_shelf(), environment_of("3.12", "x86_64"))


def test_the_largest_part_that_can_be_missing_goes():
    sizes = {"tyro": 10, "debugpy": 30, "jedi": 20}
    assert within(60, sizes) == (["tyro", "debugpy", "jedi"], [])
    assert within(40, sizes) == (["tyro", "jedi"], ["debugpy"])
    assert within(10, sizes) == (["tyro"], ["debugpy", "jedi"])
    with pytest.raises(ValueError, match="none can be missing: the largest are tyro"):
        within(9, sizes)


def wheel(folder, name, version="1.0", requires=(), files=None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(metadata) + "\n\nA text.\n")
        for place, text in (files or {f"{name}/__init__.py": ""}).items():
            archive.writestr(place, text)
    return path


def test_a_wheel_is_unpacked_as_it_would_be_installed(tmp_path):
    files = {"a/__init__.py": "x = 1", "A_b-1.0.data/purelib/c.py": "y = 2", "A_b-1.0.data/scripts/run": "z"}
    path = wheel(tmp_path, "A_b", requires=['d; extra == "e"'], files=files)
    assert read_wheel(path) == ("a-b", "1.0", ['d; extra == "e"'])
    unpack(path, tmp_path / "site")
    there = {p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site").rglob("*") if p.is_file()}
    assert there == {"a/__init__.py", "c.py", "A_b-1.0.dist-info/METADATA"}


def test_a_wheel_writes_nothing_outside_its_folder(tmp_path):
    with pytest.raises(ValueError, match="outside its folder"):
        unpack(wheel(tmp_path, "bad", files={"../escaped.py": "x"}), tmp_path / "site")
    assert not (tmp_path / "escaped.py").exists()


@pytest.fixture
def shelf(monkeypatch):
    """Wheels in the place of pip's; every root needs one package that the machine has, and tyro one that it lacks."""

    def download(requirement, folder, python, tags):
        assert python == "3.12" and all("x86_64" in tag for tag in tags)
        name = re.match(r"[a-z0-9-]+", requirement)[0]
        return wheel(folder, name.replace("-", "_"), requires=["numpy", *(["typeguard>=1"] if name == "tyro" else [])])

    monkeypatch.setattr(module, "_download", download)


def test_the_command_packs_a_folder_and_says_how_to_use_it(shelf, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["measure", "pack", "--out", "packed"])
    said = capsys.readouterr().out.splitlines()
    names = {p.name for p in (tmp_path / "packed" / "site").iterdir() if p.suffix != ".dist-info"}
    assert names == {"tyro", "typeguard", "nbval", "ipykernel", "nbclient", "nbformat", "ipywidgets", "latex2mathml"}
    assert said[-2:] == ['export PYTHONPATH="$PWD/packed/site:$PWD"', "python3 -m dtl_core measure all --minutes 10"]
    with pytest.raises(SystemExit):
        cli.main(["measure", "pack", "--out", "packed"])
    assert "is there already" in capsys.readouterr().err


def test_a_folder_that_would_be_too_large_is_refused(shelf, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 1000)
    with pytest.raises(SystemExit):
        cli.main(["measure", "pack", "--out", str(tmp_path)])
    assert "none can be missing" in capsys.readouterr().err and not (tmp_path / "site").exists()


def test_what_measures_needs_neither_onnx_nor_what_only_the_book_does():
    """A GPU node has PyTorch and timm, and what is packed."""
    lacking = ("onnx", "voila", "playwright", "ray", "jupyterlab")
    code = f"import sys; sys.modules.update(dict.fromkeys({lacking})); import dtl_book.cli, dtl_book.measured.run"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)
