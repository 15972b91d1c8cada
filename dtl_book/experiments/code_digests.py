"""Which code made a card: a digest of each file that a run uses, and whether today's code still gives the same numbers."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

import dtl_core
from dtl_core.baselines import METHODS

from . import behaviour

PACKAGE = Path(dtl_core.__file__).resolve().parent
# the network, what the images go through, the steps and the score: the same for every method. What is assembled of them
# (recipe, config, pitfalls, data) is on the card by value
SHARED = (
    "backbones.py", "blocks.py", "data/transforms.py", "training/evaluate.py", "training/loop.py", "training/recipe.py",
)  # fmt: skip
# random views for training and the centre crop of photographs: not every run's images go through them
VIEWS = "data/augment.py"
DTL_FILES = ("config.py", "csn.py", "dtl.py", "lean.py")
SERVING_FILES = ("serving/cache.py", "serving/multitask.py", "serving/path.py")


def code_of(method: str, views: bool = True) -> dict[str, str]:
    """Return the digest of each file that a run of this method uses, by its path in the package.

    With ``views`` its images were augmented or cropped, see ``recipes.takes_views``.
    """
    module = METHODS[method].__module__.split(".")[-1]
    own = DTL_FILES if method in ("dtl", "dtl+") else _with_imports("classifier" if method == "full" else module)
    return {name: digest_of(name) for name in sorted({*SHARED, *own, *([VIEWS] if views else [])})}


def serving_code() -> dict[str, str]:
    """Return the digests for the benchmark of many tasks on one prefix."""
    return {name: digest_of(name) for name in sorted({"backbones.py", "blocks.py", *DTL_FILES, *SERVING_FILES})}


def changed_since(code: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the files that have changed between the digests of a card and today's."""
    return sorted(name for name in {*code, *now} if code.get(name) != now.get(name))


@cache
def digest_of(name: str, folder: Path = PACKAGE) -> str:
    """Return 12 hexadecimal digits of the sha256 of a file's ``bare`` source."""
    return hashlib.sha256(bare((folder / name).read_text(encoding="utf-8")).encode()).hexdigest()[:12]


def bare(source: str) -> str:
    """Strip Python source of what does not run: comments, docstrings, blank lines, spaces at the ends of lines."""
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            text = node.body[0]
            lines[text.lineno - 1 : text.end_lineno] = [""] * (text.end_lineno - text.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _with_imports(module: str) -> tuple[str, ...]:
    """Return a module of the baselines and those beside it that it imports."""
    found, waiting = [], [module]
    while waiting:
        name = waiting.pop()
        found.append(f"baselines/{name}.py")
        tree = ast.parse((PACKAGE / found[-1]).read_text(encoding="utf-8"))
        beside = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module]
        waiting += [n for n in beside if f"baselines/{n}.py" not in found]
    return tuple(found)


def recorded_code() -> dict[str, str]:
    """Return today's digest of every file that a recorded run or the benchmark of many tasks uses."""
    runs = [code_of(method) for method in behaviour.METHODS]
    return {name: digest for code in (*runs, serving_code()) for name, digest in code.items()}


def age_of(code: dict[str, str], now: dict[str, str], *cases: str) -> list[str]:
    """Describe how a card's code differs from today's; return nothing where it computes what it computed.

    ``cases`` are those of ``behaviour.CASES`` on which the card's numbers depend. Files may change as long as these do not.
    """
    if not code:
        return ["cards do not name the code that made them"]
    changed = changed_since(code, now)
    if not changed or (cases and all(behaviour.behaves_as(case, code, now) for case in cases)):
        return []
    return [f"the code has changed since: {', '.join(changed)}"]
