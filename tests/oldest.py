"""The lower bounds of pyproject.toml as exact versions, a constraints file for pip.

python tests/oldest.py > oldest.txt && pip install -c oldest.txt -e ".[test]"     # make test-oldest does both
"""

import re
import sys
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
BOUND = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?>=(?P<version>[\w.]+)(,<[\w.]+)?$")


def oldest(project: dict, *extras: str) -> list[str]:
    """Return ``name==version`` of each dependency of a ``[project]`` table and its extras; extras of our own are followed.

    Raises:
        ValueError: a dependency has no lower bound.
    """
    found = []
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    for line in lines:
        if own := re.fullmatch(rf"{re.escape(project['name'])}\[([\w,-]+)\]", line):
            more = own[1].split(",")
            found += oldest(project | {"dependencies": []}, *more)
        elif bound := BOUND.match(line.replace(" ", "")):
            found.append(f"{bound['name']}=={bound['version']}")
        else:
            raise ValueError(f"{line!r} in pyproject.toml has no lower bound: write name>=version")
    return found


def main() -> None:
    """Print the constraints, if this Python is the oldest too: for newer ones there are no wheels of what is so old."""
    text = PYPROJECT.read_text(encoding="utf-8")
    python = re.search(r'^requires-python = ">=([\d.]+)"$', text, re.M)[1]
    if "{}.{}".format(*sys.version_info) != python:
        sys.exit(f"The oldest versions are tested on Python {python}, and this is {sys.version.split()[0]}: "
                 f"make test-oldest PYTHON=python{python}")  # fmt: skip
    import tomllib  # since Python 3.11: an older one has read above what is wrong

    print("\n".join(oldest(tomllib.loads(text)["project"], "test")))


if __name__ == "__main__":
    main()
