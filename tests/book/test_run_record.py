"""The record of a run: one for the command line, a sweep and a card; and the comparison at equal memory that it spells."""

import json
from dataclasses import asdict, replace

import pytest
from asked import prepare, run
from stand_ins import draw

from dtl_book import cli
from dtl_book.experiments import Pitfalls, Run, card_path, equal_memory, execute, load_card, save_card
from dtl_book.experiments import run as module
from dtl_book.experiments.recipes import recipe_of
from dtl_core.baselines import METHODS
from dtl_core.training.checkpoint import Checkpoint

TASK = "shape_location"
ASKED = dict(profile="smoke", seed=3, lr=0.01, epochs=2, beta=float("inf"), pitfalls=Pitfalls(jpeg=30),
             group="here", variant="so")  # fmt: skip


def test_a_record_comes_back_from_json_and_from_a_card(place, tmp_path):
    asked = Run(TASK, "dtl", **ASKED)
    assert Run.from_dict(json.loads(json.dumps(asdict(asked)))) == asked
    card, _ = run("dtl", TASK, **ASKED, progress=False)
    assert Run.from_dict(load_card(save_card(card, tmp_path / "card.json")).run) == asked
    assert asked.card() == card_path("smoke", "here", TASK, "dtl-so", 3)


def test_the_methods_are_those_of_the_core():
    assert set(module.Method.__args__) == set(METHODS)


@pytest.mark.parametrize(
    "asked, message",
    [
        (dict(method="dtl", first_block=3), "first_block is 3, and dtl takes none"),
        (dict(method="bitfit", rank=2), "rank is 2, and bitfit has none"),
        (dict(method="lora", drop_path=0.1), "lora takes none"),
        (dict(method="lora", batch_size=0), "at least 1"),
        (dict(method="lora", shots=4), "few-shot benchmark"),
        (dict(method="lora", profile="desk"), "no profile is called 'desk'"),
    ],
)
def test_what_does_not_go_together_is_named(asked, message):
    with pytest.raises(ValueError, match=message):
        Run(TASK, **asked)


def test_sizes_reach_the_model(place):
    lora = prepare("lora", TASK, profile="smoke", first_block=3, rank=2)
    assert lora.options == {"first_block": 3, "rank": 2} and lora.cacheable
    assert not prepare("lora", TASK, profile="smoke").cacheable, "its gradient reaches the first block"
    assert prepare("adaptformer", TASK, profile="smoke", rank=3).options == {"bottleneck": 3}
    assert prepare("dtl", TASK, profile="smoke", rank=4).model.config.rank == 4


def test_every_field_can_be_asked_for(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    said = capsys.readouterr().out
    shown = {"first-block", "rank", "drop-path", "backbone-dtype", "augmentation", "normalisation", "data", "lr"}
    assert all(f"--{name}" in said for name in shown) and "--purpose" not in said and "--group" not in said


@pytest.fixture
def two_folders(place):
    """Two people's folders of one name."""
    for person in ("anna", "ben"):
        for label in ("cat", "dog"):
            for i in range(6):
                draw(place / person / "images" / label / f"{i}.png", label == "dog", i + 6 * (person == "ben"))
    return place


def test_two_folders_of_one_name_share_nothing(two_folders, monkeypatch):
    anna, ben = (Run(data=f"folder:{two_folders / person}/images", method="dtl") for person in ("anna", "ben"))
    monkeypatch.chdir(two_folders / "anna")
    here, few = replace(anna, data="folder:images"), replace(anna, per_class=2)
    table, shelf = (Run(data=word, method="dtl") for word in ("csv:images/birds.csv", "torchvision:cifar10"))
    assert {run.task for run in (anna, ben, here, few)} == {"images"} and (table.task, shelf.task) == (
        "birds",
        "CIFAR10",
    )
    assert here.card() == anna.card() and here.adapter(two_folders) == anna.adapter(two_folders)
    different = (anna, ben, few, table, shelf)
    for paths in (Run.card, lambda run: run.adapter(two_folders), lambda run: run.checkpoint, lambda run: run.failure):
        assert len({paths(run) for run in different}) == len(different)
    at_anna = here.checkpoint
    monkeypatch.chdir(two_folders / "ben")
    assert here.checkpoint != at_anna and here.card() == ben.card(), "the same words from another place"
    digest = anna.card().parent.name.removeprefix("images-")
    assert anna.adapter(two_folders).name == f"images-{digest}-dtl-seed0.safetensors"
    assert (
        few.card().name == "dtl-2shot-seed0.json"
        and shelf.adapter(two_folders).name == "torchvision-CIFAR10-dtl-seed0.safetensors"
    )


@pytest.mark.parametrize("asked, path", [
    (Run("mnist", "dtl+", profile="laptop"), "vtab-1k/mnist/dtl+-seed0 mnist-dtl+-seed0"),
    (Run("typefaces", "lora", "few-shot", shots=4, seed=2, profile="laptop"), "few-shot/typefaces/lora-4shot-seed2 few-shot-typefaces-lora-4shot-seed2"),
    (Run("mnist", "dtl", "domain", lr=0.01, purpose="select", profile="laptop"), "domain/mnist/select-dtl-lr0.01-seed0 domain-mnist-select-dtl-lr0.01-seed0"),
])  # fmt: skip
def test_the_paths_of_benchmarks_are_as_recorded(asked, path, tmp_path):
    card, adapter = path.split()
    assert asked.card(tmp_path) == tmp_path / f"laptop/{card}.json"
    assert asked.adapter(tmp_path) == tmp_path / f"adapters/{adapter}.safetensors"


def test_a_stopped_run_stands_in_nobodys_way(two_folders, monkeypatch):
    """Ctrl-C after the first epoch; then another folder of that name, and another number of epochs."""
    asked = dict(method="dtl", profile="smoke", epochs=2)
    first = Run(data=f"folder:{two_folders}/anna/images", **asked)
    write = Checkpoint.write

    def stopped(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "write", stopped)
        execute(first, progress=False)
    assert first.checkpoint.exists()
    for other in (
        replace(first, data=f"folder:{two_folders}/ben/images"),
        replace(first, epochs=3),
        replace(first, per_class=2),
    ):
        card, _ = execute(other, progress=False)
        assert card.benchmark == "folder" and len(card.epochs) == other.epochs
    assert first.checkpoint.exists() and len(execute(first, progress=False)[0].epochs) == 2, "and it goes on itself"
    assert not first.checkpoint.exists()


@pytest.mark.parametrize("asked, message", [
    (dict(data="images"), "names no images: write folder:PATH"), (dict(data="torchvision:MNIST3D"), "choose one of CIFAR10"),
    (dict(data="folder:x", per_class=0), "per_class is 0: at least 1"), (dict(task=TASK, per_class=2), "of your own images alone"),
])  # fmt: skip
def test_what_is_no_data_of_ones_own_is_named(asked, message):
    with pytest.raises(ValueError, match=message):
        Run(**asked)


def test_the_paper_profile_has_the_authors_rows(monkeypatch):
    run = Run("caltech101", "dtl", profile="paper")
    assert recipe_of(run).total_epochs == 110 and recipe_of(replace(run, lr=0.5)).lr == 0.5


def test_a_rate_is_chosen_with_every_seed_where_two_lie_close(tmp_path, monkeypatch, place):
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path))
    (base,) = equal_memory.base_runs("smoke", (TASK,), ("lora-late-r2",))
    assert (base.first_block, base.rank, base.label) == (7, 2, "lora-late-r2")
    card, _ = run("linear", TASK, profile="smoke", epochs=1, progress=False)

    def put(lr, seed, accuracy):
        (select,) = equal_memory.tried(base, (seed,), (lr,))
        save_card(replace(card, accuracy=accuracy), select.card())

    for lr, accuracy in ((1e-3, 0.70), (3e-3, 0.715), (1e-2, 0.60)):
        put(lr, 0, accuracy)
    assert equal_memory.close_rates(base) == (1e-3, 3e-3)
    for lr, seed, accuracy in ((1e-3, 1, 0.74), (1e-3, 2, 0.74), (3e-3, 1, 0.70), (3e-3, 2, 0.70)):
        put(lr, seed, accuracy)
    assert equal_memory.chosen_rate(base) == 1e-3, "by the mean over the seeds, not by the first"
    put(3e-3, 0, 0.80)
    assert equal_memory.close_rates(base) == () and equal_memory.chosen_rate(base) == 3e-3


def test_a_rival_over_all_blocks_goes_on_from_the_rates_of_the_record(place):
    (lora, *_), quick = (
        equal_memory.whole_runs("smoke", (TASK,)),
        dict(profile="smoke", lr=1e-3, epochs=1, progress=False),
    )
    card, _ = run("lora", TASK, purpose="select", **quick)
    known = save_card(card, Run(TASK, "lora", profile="smoke", purpose="select", lr=1e-3).card())
    first, middle, _ = equal_memory.tried(lora)
    assert equal_memory.choice_card(first) == known and equal_memory.accuracy_of(first) == card.accuracy
    assert equal_memory.choice_card(middle) == middle.card() and middle.card().parent.parent.name == "equal-memory"
    save_card(card, first.card())
    assert equal_memory.choice_card(first) == first.card(), "its own card goes before"
    assert {
        r.where for r in equal_memory.base_runs("smoke", ("typefaces",), ("dtl",), benchmark="few-shot", shots=4)
    } == {"typefaces, 4 shots"}
    assert [r.label for r in equal_memory.runs_along_m("smoke")][:2] == ["dtl-M2", "lora-late-M2"]
