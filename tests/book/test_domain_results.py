"""The table and the pictures of domain generalization, with no card, some cards and all of them."""

import numpy as np
from figures import texts
from run_cards import put

from dtl_book.experiments import COMPARED, SEEDS
from dtl_book.experiments.profiles import get_profile
from dtl_book.figures import domain as display
from dtl_book.standins import build_suite
from dtl_book.tables.benchmarks import OF_TARGETS, domain_cells, domain_markdown, domain_table, domains_of, target_means

TARGETS = ("uci", "printed", "sketch", "rendition")


def write(root, methods, seeds=SEEDS, profile="laptop", source="mnist", targets=TARGETS, within=None):
    """The source 0.8, the targets 0.1, 0.2, …, all higher by 0.02 for each step along the methods and 0.01 a seed."""
    for method in methods:
        for seed in seeds:
            more = 0.02 * COMPARED.index(method) + 0.01 * seed
            scores = {
                name: {"accuracy": 0.1 * k + more, "balanced_accuracy": 0.0, "accuracy_within": within}
                for k, name in enumerate(targets, start=1)
            }
            put(root, benchmark="domain", method=method, profile=profile, task=source, seed=seed, accuracy=0.8 + more,
                targets=scores, parameters_without_head=1000)  # fmt: skip


def test_no_card(tmp_path):
    assert domain_table(root=tmp_path).empty and target_means(root=tmp_path) == {}
    lines = domain_markdown(root=tmp_path).splitlines()
    assert lines[2] == "| Linear probe | – | " + "not run | " * 5 + "– |"
    assert "0 of 18" in lines[-1] and len(lines) == 2 + 6 + 2
    assert texts(display.draw_domains(root=tmp_path)) == ["not run"] * 5
    assert (display.source_rates(root=tmp_path)["accuracy"] == "not run").all()


def test_some_cards(tmp_path):
    write(tmp_path, ["linear"])
    write(tmp_path, ["dtl"], seeds=SEEDS[:1])
    write(tmp_path, ["lora"], targets=TARGETS[:2])  # as a run on a disk that lacks two domains would leave it
    row = domain_table(root=tmp_path).set_index(["method", "domain"]).loc[("linear", "printed")]
    assert np.allclose([row["mean"], row["spread"], row["seeds"]], [21.0, 1.0, 3]) and np.isnan(row["within"])
    cells = domain_cells(root=tmp_path)
    assert cells.loc["linear"].tolist()[:2] == ["81.0 ± 1.0", "11.0 ± 1.0"]
    assert cells.loc["linear", OF_TARGETS] == "26.0 ± 1.0"
    assert cells.loc["dtl", "mnist"] == "88.0 (1 of 3 seeds)" and cells.loc["dtl", OF_TARGETS] == "–"
    assert cells.loc["lora", ["uci", "sketch", OF_TARGETS]].tolist() == ["17.0 ± 1.0", "not run", "–"]
    assert texts(display.draw_domains(root=tmp_path))[-1].startswith("not run: BitFit, AdaptFormer")


def test_all_cards(tmp_path):
    write(tmp_path, ["linear"], source="sketch")
    put(tmp_path, benchmark="domain", purpose="select", lr=0.1, accuracy=0.75)
    assert domain_table(root=tmp_path).empty, "neither runs for one target nor other purposes count"
    assert display.source_rates(root=tmp_path).set_index("method")["lr 0.1"]["DTL"] == "75.0"
    write(tmp_path, COMPARED)
    markdown = domain_markdown(root=tmp_path)
    assert "not run" not in markdown and "All 18 final runs" in markdown and "10 epochs" in markdown
    assert "16 images a class of mnist" in markdown and "1,000 training images" not in markdown
    assert "| DTL+ | 1,000 | 91.0 ± 1.0 | 21.0 ± 1.0 | 31.0 ± 1.0 | 41.0 ± 1.0 | 51.0 ± 1.0 | 36.0 ± 1.0 |" in markdown
    assert texts(display.draw_domains(root=tmp_path)) == []


def test_official_domains_under_other_names_and_both_scores(tmp_path):
    targets = ("imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r")
    write(tmp_path, ["dtl"], profile="paper", source="imagenet", targets=targets, within=0.5)
    cells = domain_cells("paper", tmp_path)
    assert cells.loc["dtl", "imagenet-adversarial"] == "39.0 ± 1.0" and cells.loc["dtl", OF_TARGETS] == "34.0 ± 1.0"
    inside = domain_cells("paper", tmp_path, column="within").loc["dtl"]
    assert inside["imagenet-rendition"] == "50.0 ± 0.0" and inside["imagenet"] == "–"
    rates = display.authors_rates().set_index("domain")["DTL"]
    assert len(set(rates)) == 4 and rates["imagenet-rendition"] == "3e-05"


def test_domains_are_drawn_and_sampled(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path / "data"))
    assert display.open_domains(get_profile("paper")) == {}
    said = capsys.readouterr().out
    assert "imagenet-rendition" in said and str(tmp_path) not in said
    domains = display.open_domains(get_profile("smoke"))
    assert tuple(domains) == ("mnist", *TARGETS) == domains_of("smoke")
    build_suite("smoke", tasks=("digits",))
    assert "there already" in capsys.readouterr().out
    figure = display.domain_sheet(domains)
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")] == list(domains)
    sample = display.Sample(domains["uci"], 10)
    assert len({sample[i][1] for i in range(10)}) == 10 == len(sample) and sample.digest != domains["uci"].digest
