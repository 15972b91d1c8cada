"""Which code made a card: what a digest sees and what it does not."""

import pytest

from dtl_book.experiments import code_digests as code
from dtl_book.experiments.code_digests import PACKAGE, VIEWS, age_of, bare, changed_since, code_of
from dtl_book.experiments.recipes import takes_views
from dtl_book.experiments.run import Run
from dtl_core.baselines import METHODS
from dtl_core.data.augment import AUTHORS

SOURCE = '''"""About."""

from x import y  # why


def f(a):
    """Doc
    of f."""
    # a remark
    text = "# no remark"
    return a + 1
'''


def test_comments_docstrings_and_blank_lines_do_not_count():
    other = SOURCE.replace("About.", "Else.").replace("# why", "").replace("of f", "of g").replace("a remark", "two")
    assert bare(other.replace("\n\n", "\n\n\n")) == bare(SOURCE)
    assert bare(SOURCE) == 'from x import y\ndef f(a):\n    text = "# no remark"\n    return a + 1'


@pytest.mark.parametrize("old, new", [("a + 1", "a + 2"), ("# no remark", "# a remark"), ("    return", "return")])
def test_what_runs_counts(old, new):
    assert bare(SOURCE.replace(old, new, 1)) != bare(SOURCE)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_names_files_that_are_there(method):
    files = code_of(method)
    assert "training/loop.py" in files and all((PACKAGE / name).is_file() for name in files)
    assert ("csn.py" in files) == (method in ("dtl", "dtl+"))
    parts = ("noah", "adaptformer", "lora", "vpt", "classifier")
    assert method != "noah" or {f"baselines/{n}.py" for n in parts} < set(files), "one made of others names them too"
    assert changed_since(files, code_of(method)) == []


def test_a_change_is_named(monkeypatch):
    before = code_of("dtl")
    monkeypatch.setattr(code, "digest_of", lambda name: "0" if name == "csn.py" else before.get(name))
    assert changed_since(before, code_of("dtl")) == ["csn.py"]
    assert len(changed_since({}, code_of("dtl"))) == len(before)


@pytest.mark.parametrize(
    "benchmark, task, augmentation, views",
    [
        ("vtab-1k", "caltech101", "none", False),
        ("few-shot", "typefaces", "none", False),
        ("few-shot", "typefaces", AUTHORS, True),
        ("few-shot", "oxford-pets", "none", True),  # photographs are cropped for the test
        ("domain", "mnist", "none", False),
    ],
)
def test_random_views_and_crops_count_where_images_go_through_them(benchmark, task, augmentation, views):
    run = Run(task, "dtl", benchmark=benchmark, augmentation=augmentation, profile="laptop")
    assert takes_views(run) == views
    now = code_of("dtl", views)
    assert (VIEWS in now) == views
    older = {**now, VIEWS: "0" * 12}
    assert age_of(older, now) == [f"the code has changed since: {VIEWS}"]


def test_cards_from_before_a_mended_crash_are_current():
    """`results/behaviour.json` says why: where the older file got through, it drew the same images."""
    older = {**code_of("dtl"), VIEWS: "8d2af036af3f"}
    assert age_of(older, code_of("dtl", views=False), "dtl") == []
    assert age_of({}, code_of("dtl"), "dtl") == ["cards do not name the code that made them"]
