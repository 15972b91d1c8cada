"""Checks of the exercises: they say "not yet" and never raise, so that a reader can go on and come back."""

from __future__ import annotations

import os
from collections.abc import Callable

_outcomes: dict[str, bool] = {}  # exercise -> passed, as of its last check in this kernel


def check(exercise: str, condition: object, hint: str = "") -> None:
    """Print ``✓ 3.1`` when the condition holds, else ``not yet 3.1: <hint>``.

    Args:
        exercise: its number, as in the text (``"3.1"``).
        condition: a truth value, or a function without arguments that gives one. Unfinished work in it (``...``,
            ``None``, ``NotImplementedError``) and any other error count as not yet.
        hint: what to look at next, in one sentence.
    """
    note = ""
    try:
        result = condition() if isinstance(condition, Callable) else condition
        passed = result is not ... and bool(result)
    except NotImplementedError:
        passed = False
    except Exception as error:  # the reader's code may fail in any way; an exercise must not stop the notebook
        passed = False
        note = f" [{type(error).__name__}: {error}]" if str(error) else f" [{type(error).__name__}]"
    _outcomes[exercise] = passed
    print(f"✓ {exercise}" if passed else f"not yet {exercise}: {hint}{note}")


def report() -> None:
    """Print how many exercises are done. The last cell of exercises and solutions calls it.

    Under ``DTL_EXPECT=stubs`` (tests of exercises) or ``DTL_EXPECT=solutions`` (tests of solutions) it asserts the outcome
    that the notebook was written for.
    """
    done = [name for name, passed in _outcomes.items() if passed]
    open_ = [name for name, passed in _outcomes.items() if not passed]
    print(f"{len(done)} of {len(_outcomes)} exercises done." + (f" Not yet: {', '.join(open_)}." if open_ else ""))
    expected = os.environ.get("DTL_EXPECT")
    assert _outcomes or not expected, "no exercise was checked"
    if expected == "stubs":
        assert not done, f"stubs that pass their check: {', '.join(done)}"
    elif expected == "solutions":
        assert not open_, f"solutions that fail their check: {', '.join(open_)}"
