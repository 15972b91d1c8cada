"""The bounds of pyproject.toml: every dependency has an oldest version, and what repeats the bounds agrees with them."""

import re
import tomllib

import pytest
from oldest import PYPROJECT, oldest

from dtl_book.paths import CHECKOUT

TEXT = PYPROJECT.read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
PYTHONS = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]


def test_every_dependency_has_an_oldest_version():
    pins = oldest(PROJECT, *PROJECT["optional-dependencies"])  # raises where a bound is missing
    assert {"torch", "timm", "huggingface_hub", "jupyterlab", "ray", "pytest"} <= {pin.split("==")[0] for pin in pins}


def upper_bounds_without_a_reason(text):
    project = tomllib.loads(text)["project"]
    dependencies = sum(project["optional-dependencies"].values(), project["dependencies"])
    bounded = [d for d in dependencies if re.search("[<~!]|==", d)]
    return [d for d in bounded if not re.search(rf'"{re.escape(d)}".*#', text)]


def test_an_upper_bound_has_its_reason_beside_it():
    assert not upper_bounds_without_a_reason(TEXT), "say in a comment on its line what fails with the newer version"
    for line, found in [
        ('"pandas>=2.1,<3",', ["pandas>=2.1,<3"]),
        ('"pandas>=2.1,<3",  # 3.0 reads dates as text', []),
    ]:
        assert '"pandas>=2.1",' in TEXT
        assert upper_bounds_without_a_reason(TEXT.replace('"pandas>=2.1",', line)) == found


@pytest.mark.parametrize(
    "dependency, pin",
    [
        ("torch>=2.4", "torch==2.4"),
        ("pyright[nodejs]>=1.1.400", "pyright==1.1.400"),
        ("furo >= 2025.9.25, <2027", "furo==2025.9.25"),
        ("dtl-workbook[site,sweep]", "sphinx==8.1 ray==2.40"),
    ],
)
def test_constraints(dependency, pin):
    extras = {"site": ["sphinx>=8.1"], "sweep": ["ray>=2.40"]}
    project = {"name": "dtl-workbook", "dependencies": [dependency], "optional-dependencies": extras}
    assert oldest(project) == pin.split()


@pytest.mark.parametrize("dependency", ["torch", "torch<3", "torch==2.4", "torch @ file:///torch.whl"])
def test_no_oldest_version(dependency):
    with pytest.raises(ValueError, match=f"{re.escape(dependency)}.*has no lower bound: write name>=version"):
        oldest({"name": "dtl-workbook", "dependencies": [dependency], "optional-dependencies": {}})


def test_the_same_pythons_everywhere():
    """What the classifiers claim is what conda may take and what the workflow and `make colab-check` run."""
    first, last = PYTHONS[0], PYTHONS[-1]
    assert PROJECT["requires-python"] == f">={first}" and len(PYTHONS) > 1
    conda = (CHECKOUT / "environment.yml").read_text(encoding="utf-8")
    after = f"3.{int(last.split('.')[1]) + 1}"
    assert re.search(rf"^  - python >={re.escape(first)},<{re.escape(after)}( |$)", conda, re.M)
    workflow = (CHECKOUT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert f"python: {PYTHONS}".replace("'", '"') in workflow
    check = (CHECKOUT / "tests" / "colab" / "check.py").read_text(encoding="utf-8")
    assert f"VERSIONS = {tuple(PYTHONS)}".replace("'", '"') in check


def test_conda_takes_its_dependencies_from_pyproject():
    lines = (CHECKOUT / "environment.yml").read_text(encoding="utf-8").split("dependencies:\n")[1].split("\n")
    asked = [line.split("#")[0].strip(" -") for line in lines if line.strip()]
    assert [a.split()[0] for a in asked] == ["python", "pip", "pip:", "e"]
    (extra,) = re.findall(r"- -e \.\[(\w+)\]$", "\n".join(lines), re.M)
    assert extra in PROJECT["optional-dependencies"]
