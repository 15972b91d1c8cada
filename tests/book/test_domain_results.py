"""The table and the pictures of domain generalization, with no card, some cards and all of them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from figures import texts

from dtl_book.experiments import COMPARED, SEEDS, RunCard, card_path, save_card
from dtl_book.experiments.profiles import get_profile
from dtl_book.figures import domain as display
from dtl_book.paths import project_dir
from dtl_book.standins import build_suite
from dtl_book.tables import domain as recorded

TARGETS = ("uci", "printed", "sketch", "rendition")
EMPTY = dict.fromkeys(f.name for f in fields(RunCard))


def write(root, methods, seeds=SEEDS, profile="laptop", source="mnist", targets=TARGETS, within=None):
    """The source 0.8, the targets 0.1, 0.2, …, all higher by 0.02 for each step along the methods and 0.01 a seed."""
    for method in methods:
        for seed in seeds:
            more = 0.02 * COMPARED.index(method) + 0.01 * seed
            scores = {
                name: {"accuracy": 0.1 * k + more, "balanced_accuracy": 0.0, "accuracy_within": within}
                for k, name in enumerate(targets, start=1)
            }
            card = RunCard(**{
                **EMPTY, "method": method, "profile": profile, "task": source, "purpose": "final", "protocol": "clean",
                "seed": seed, "lr": 0.01, "accuracy": 0.8 + more, "targets": scores, "parameters_without_head": 1000,
                "recipe": {"epochs": 40},
            })  # fmt: skip
            save_card(card, card_path(profile, "domain", source, method, seed, root=root))


def test_no_card(tmp_path):
    assert recorded.domain_table(root=tmp_path).empty and recorded.target_means(root=tmp_path) == {}
    lines = recorded.domain_markdown(root=tmp_path).splitlines()
    assert lines[2] == "| Linear probe | – | " + "not run | " * 5 + "– |"
    assert "0 of 18" in lines[-1] and len(lines) == 2 + 6 + 2
    assert texts(display.draw_domains(root=tmp_path)) == ["not run"] * 5
    assert (display.source_rates(root=tmp_path)["accuracy"] == "not run").all()


def test_some_cards(tmp_path):
    write(tmp_path, ["linear"])
    write(tmp_path, ["dtl"], seeds=SEEDS[:1])
    write(tmp_path, ["lora"], targets=TARGETS[:2])  # as a run on a disk that lacks two domains would leave it
    table = recorded.domain_table(root=tmp_path).set_index(["method", "domain"])
    row = table.loc[("linear", "printed")]
    assert np.allclose([row["mean"], row["spread"], row["seeds"]], [21.0, 1.0, 3]) and np.isnan(row["within"])
    cells = recorded.domain_cells(root=tmp_path)
    assert cells.loc["linear"].tolist()[:2] == ["81.0 ± 1.0", "11.0 ± 1.0"]
    assert cells.loc["linear", recorded.MEAN] == "26.0 ± 1.0"
    assert cells.loc["dtl", "mnist"] == "88.0 (1 of 3 seeds)" and cells.loc["dtl", recorded.MEAN] == "–"
    assert cells.loc["lora", ["uci", "sketch", recorded.MEAN]].tolist() == ["17.0 ± 1.0", "not run", "–"]
    assert "7 of 18 final runs" in recorded.domain_markdown(root=tmp_path)
    assert texts(display.draw_domains(root=tmp_path))[-1].startswith("not run: BitFit, AdaptFormer")


def test_all_cards(tmp_path):
    write(tmp_path, COMPARED)
    markdown = recorded.domain_markdown(root=tmp_path)
    assert "not run" not in markdown and "All 18 final runs" in markdown and "40 epochs" in markdown
    assert "16 images a class of mnist" in markdown and "1,000 training images" not in markdown
    assert "| DTL+ | 1,000 | 91.0 ± 1.0 | 21.0 ± 1.0 | 31.0 ± 1.0 | 41.0 ± 1.0 | 51.0 ± 1.0 | 36.0 ± 1.0 |" in markdown
    figure = display.draw_domains(root=tmp_path)
    assert texts(figure) == [] and len(figure.legends[0].get_texts()) == 6


def test_runs_for_one_target_and_other_purposes_do_not_count(tmp_path):
    write(tmp_path, ["linear"], source="sketch")
    card = RunCard(**{**EMPTY, "method": "dtl", "task": "mnist", "purpose": "select", "lr": 0.1, "accuracy": 0.75})
    save_card(card, card_path("laptop", "domain", "mnist", "dtl", 0, 0.1, root=tmp_path))
    assert recorded.domain_table(root=tmp_path).empty
    assert display.source_rates(root=tmp_path).set_index("method")["lr 0.1"]["DTL"] == "75.0"


def test_official_domains_under_other_names_and_both_scores(tmp_path):
    targets = ("imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r")
    write(tmp_path, ["dtl"], profile="paper", source="imagenet", targets=targets, within=0.5)
    cells = recorded.domain_cells("paper", tmp_path)
    assert cells.loc["dtl", "imagenet-adversarial"] == "39.0 ± 1.0"
    assert cells.loc["dtl", recorded.MEAN] == "34.0 ± 1.0"
    inside = recorded.domain_cells("paper", tmp_path, column="within").loc["dtl"]
    assert inside["imagenet-rendition"] == "50.0 ± 0.0" and inside["imagenet"] == "–"
    rates = display.authors_rates().set_index("domain")["DTL"]
    assert len(set(rates)) == 4 and rates["imagenet-rendition"] == "3e-05"


def test_domains_are_drawn_and_sampled(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path / "data"))
    assert display.open_domains(get_profile("paper")) == {}
    said = capsys.readouterr().out
    assert "imagenet-rendition" in said and str(tmp_path) not in said
    domains = display.open_domains(get_profile("smoke"))
    assert tuple(domains) == ("mnist", *TARGETS) == recorded.domains_of("smoke")
    build_suite("smoke", tasks=("digits",))
    assert "there already" in capsys.readouterr().out
    figure = display.domain_sheet(domains)
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")] == list(domains)
    sample = display.Sample(domains["uci"], 10)
    assert len(sample) == 10 and len({sample[i][1] for i in range(10)}) == 10
    assert len(display.Sample(domains["uci"], 999)) == 20
    assert sample.digest != domains["uci"].digest


def test_the_page_holds_the_table_of_the_committed_cards():
    text = (project_dir() / "RESULTS.md").read_text()
    shown = text.split(recorded.MARKS[0])[1].split(recorded.MARKS[1])[0].strip()
    assert shown == recorded.domain_markdown("laptop", project_dir() / "results"), "dtl results --write"
