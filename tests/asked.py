"""Runs by what tests ask for: the fields of ``Run`` and the options of ``execute`` in one call."""

from __future__ import annotations

from dtl_book.experiments import Run, execution


def prepare(method: str, task: str, **asked):
    return execution.prepare(Run(task, method, **asked))


def run(method: str, task: str, **asked):
    options = {k: asked.pop(k) for k in ("cache", "prefixes", "keep_checkpoint", "progress") if k in asked}
    return execution.execute(Run(task, method, **asked), **options)
