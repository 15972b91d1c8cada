"""The fingerprint of what the recorded code computes: it tells a tidied file from one that computes something else."""

import json

import pytest
import torch

from dtl_book.experiments import behaviour, load_card
from dtl_book.experiments.behaviour import (
    CASES,
    METHODS,
    SERVING,
    behaves_as,
    load_behaviours,
    numbers_of,
    record_behaviour,
)
from dtl_book.experiments.code_digests import age_of, code_of, recorded_code, serving_code
from dtl_book.paths import recorded_path, results_dir
from dtl_core.files import DamagedFile


@pytest.mark.parametrize("case", CASES)
def test_todays_code_computes_what_is_recorded(case):
    """A change that moves these numbers makes a new id (`dtl claims --write`), and ages every card of the older ones."""
    latest = list(load_behaviours().values())[-1]
    assert numbers_of(case) == pytest.approx(latest["numbers"][case], rel=1e-8, abs=1e-8)


def test_every_committed_digest_stands_under_a_behaviour():
    known = load_behaviours()["1"]["code"]
    cards = [c for p in recorded_path(results_dir()).rglob("*seed*.json") if (c := load_card(p)).profile != "smoke"]
    assert len(cards) > 400
    for card in cards:
        for name, digest in card.code.items():
            assert digest in known[name], f"{card.method} on {card.task}: {name}"


def test_the_numbers_are_of_a_training_that_moved():
    for method in METHODS:
        losses = numbers_of(method)[:4]
        assert all(a > b for a, b in zip(losses, losses[1:], strict=False)), method
    assert len({numbers_of(m)[:4] for m in METHODS}) == len(METHODS)


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A record of its own, under which today's code stands."""
    path = record_behaviour(recorded_code(), tmp_path / "behaviour.json")
    monkeypatch.setattr(behaviour, "recorded_path", lambda _: path)
    return path


def tidied(path, name):
    """The record of a day on which this file had other lines that computed the same."""
    known = json.loads(path.read_text())
    known["1"]["code"][name] = ["0" * 12, *known["1"]["code"][name]]
    path.write_text(json.dumps(known))


def test_a_tidied_file_leaves_a_card_current(record):
    card = {**code_of("dtl"), "csn.py": "0" * 12}
    assert age_of(card, code_of("dtl"), "dtl") == ["the code has changed since: csn.py"]
    tidied(record, "csn.py")
    assert age_of(card, code_of("dtl"), "dtl") == []
    assert age_of({**card, "dtl.py": "1" * 12}, code_of("dtl"), "dtl") == ["the code has changed since: csn.py, dtl.py"]
    serving = {**serving_code(), "csn.py": "0" * 12}
    assert age_of(serving, serving_code(), SERVING) == []


def test_moved_numbers_age_a_card_and_make_an_id_of_their_own(record, monkeypatch):
    tidied(record, "csn.py")
    card, real = {**code_of("dtl"), "csn.py": "0" * 12}, numbers_of
    moved = lambda case: tuple(x + 1e-6 * (case == "dtl") for x in real(case))  # noqa: E731
    monkeypatch.setattr(behaviour, "numbers_of", moved)
    assert not behaves_as("dtl", card, code_of("dtl")) and behaves_as("lora", card, code_of("dtl"))
    assert age_of(card, code_of("dtl"), "dtl") == ["the code has changed since: csn.py"]
    assert record_behaviour({**recorded_code(), "csn.py": "2" * 12}, record) == record
    known = json.loads(record.read_text())
    assert list(known) == ["1", "2"] and known["2"]["code"]["csn.py"] == ["2" * 12]


def test_recording_twice_adds_nothing_and_leaves_the_random_numbers_alone(record):
    before = torch.random.get_rng_state()
    numbers_of.cache_clear()
    assert record_behaviour(recorded_code(), record) is None
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_damaged_record_is_named(record):
    record.write_text('{"1": []}')
    with pytest.raises(DamagedFile, match="behaviour.json is damaged"):
        load_behaviours()
