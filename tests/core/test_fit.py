"""The training loop: it learns, repeats itself, leaves the frozen alone, and says what it does."""

import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from toys import SHORT, ToyImages, same, toy_model, trained

from dtl_core.training import Recipe, fit, loop, pick_device

CPU = dict(device="cpu", progress=False)


@pytest.mark.parametrize("method", ["linear", "full", "lora", "dtl", "dtl+"])
def test_it_learns_a_toy_task_and_repeats_itself(method):
    recipe, runs = replace(SHORT, lr=1e-2, epochs=6), []
    for seed in (3, 3, 4):
        model = toy_model(method)
        runs.append((fit(model, ToyImages(), replace(recipe, seed=seed), **CPU), trained(model)))
    history = runs[0][0].history
    assert list(history) == ["epoch", "lr", "loss", "accuracy", "seconds"]
    assert history["epoch"].tolist() == list(range(1, 8))
    assert history["lr"].tolist() == recipe.learning_rates()
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    assert history["accuracy"].iloc[-1] > 0.9 > 0.6 > history["accuracy"].iloc[0]
    assert runs[0][0].seconds == pytest.approx(history["seconds"].sum())
    assert (runs[0][0].device, runs[0][0].precision, runs[0][0].peak_bytes) == ("cpu", "fp32", None)
    assert same(runs[0][1], runs[1][1]), "the same seed gives the same bits"
    assert not same(runs[0][1], runs[2][1]), "another seed gives another order"


@pytest.mark.parametrize("n, steps", [(5, 1), (31, 1), (32, 1), (63, 1), (64, 2), (1000, 31)])
def test_a_batch_is_min_32_n_and_the_last_smaller_one_is_dropped(n, steps):
    batches = loop._epoch_batches(n, 32, seed=0)
    assert [len(b) for b in batches] == [min(32, n)] * steps
    flat = [i for b in batches for i in b]
    assert len(set(flat)) == len(flat) and set(flat) <= set(range(n))
    assert batches != loop._epoch_batches(n, 32, seed=1)


class Counted(nn.Module):
    """A linear model that notes the size of each batch."""

    def __init__(self):
        super().__init__()
        self.head, self.sizes = nn.Linear(3, 4), []

    def forward(self, images):
        self.sizes.append(len(images))
        return self.head(images.mean((2, 3)))


def test_what_the_model_sees_of_an_epoch():
    model = Counted()
    fit(model, ToyImages(70), Recipe(epochs=2, warmup_epochs=0, cooldown_epochs=0, precision="fp32"), **CPU)
    assert model.sizes == [32, 32] * 2
    assert not model.training, "fit leaves the model ready for use"


def test_the_steps_are_those_of_a_loop_written_by_hand():
    recipe = replace(SHORT, weight_decay=0.3)
    torch.manual_seed(0)
    model, data = Counted().double(), ToyImages(8, dtype=torch.float64)  # one batch an epoch, so its order is no matter
    weight, bias = (p.detach().clone().requires_grad_() for p in model.head.parameters())
    optimizer = torch.optim.AdamW([{"params": [weight]}, {"params": [bias], "weight_decay": 0}], weight_decay=0.3)
    losses = []
    for lr in recipe.learning_rates():
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = nn.functional.cross_entropy(data.images.mean((2, 3)) @ weight.T + bias, data.labels)
        weight.grad = bias.grad = None
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    record = fit(model, data, recipe, **CPU)
    assert record.history["loss"].tolist() == pytest.approx(losses, rel=1e-10)
    torch.testing.assert_close(model.head.weight, weight, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(model.head.bias, bias, rtol=1e-8, atol=1e-10)


def test_zero_steps_is_an_error():
    with pytest.raises(ValueError, match="zero steps"):
        fit(Counted(), ToyImages(0), SHORT, **CPU)


def test_fp16_is_refused_on_the_cpu():
    model = toy_model("dtl")
    with pytest.raises(ValueError, match="fp16 needs.*CUDA.*bf16"):
        fit(model, ToyImages(), replace(SHORT, precision="fp16"), **CPU)


@pytest.mark.parametrize(
    "kind, instructions, picked",
    [("cuda", False, "fp16"), ("cpu", True, "bf16"), ("cpu", False, "fp32"), ("mps", True, "fp32")],
)
def test_what_auto_picks(kind, instructions, picked, monkeypatch):
    monkeypatch.setattr(loop, "cpu_has_bf16", lambda: instructions)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert loop.pick_precision("auto", torch.device(kind)) == picked


def test_auto_is_resolved_in_the_record(monkeypatch):
    monkeypatch.setattr(loop, "cpu_has_bf16", lambda: False)
    recipe = replace(SHORT, epochs=1, warmup_epochs=0, cooldown_epochs=0, precision="auto")
    assert fit(toy_model("linear"), ToyImages(8), recipe, **CPU).precision == "fp32"


def test_bf16_runs_under_autocast_and_the_weights_stay_fp32():
    model, seen = Counted(), []
    model.head.register_forward_hook(lambda _module, _inputs, out: seen.append(out.dtype))
    recipe = replace(SHORT, epochs=1, warmup_epochs=0, cooldown_epochs=0, precision="bf16")
    assert fit(model, ToyImages(8), recipe, **CPU).precision == "bf16"
    assert seen == [torch.bfloat16] and model.head.weight.dtype == torch.float32


@pytest.mark.parametrize("cuda, mps, picked", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_which_device_is_picked(cuda, mps, picked, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == picked
    assert pick_device("cpu").type == "cpu"


class Slow(ToyImages):
    def __getitem__(self, i):
        time.sleep(0.02)  # the bar is drawn ten times a second at most
        return super().__getitem__(i)


def test_the_bar_shows_loss_and_accuracy(capsys):
    recipe = replace(SHORT, epochs=2, warmup_epochs=0, cooldown_epochs=0)
    record = fit(Counted(), Slow(), recipe, device="cpu", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "training" in err
    last = record.history.iloc[-1]
    assert "training, epoch 2" in err and f"accuracy={last['accuracy']:.3f}, loss={last['loss']:.3f}" in err
    fit(Counted(), ToyImages(), recipe, device="cpu", progress=False)
    assert capsys.readouterr() == ("", "")


class Judge:
    """Scores that are given beforehand; sees whether the run was stopped at one."""

    def __init__(self, *scores, stop_at=None):
        self.scores, self.stop_at, self.states = list(scores), stop_at, []

    def __call__(self, model):
        if len(self.states) == self.stop_at:
            raise KeyboardInterrupt
        self.states.append(trained(model))
        return self.scores[len(self.states) - 1]


def test_the_best_scored_epoch_is_what_the_model_ends_with():
    recipe, model = replace(SHORT, epochs=6), toy_model("dtl")  # seven epochs: scored after 2, 4, 6 and 7
    judge = Judge(0.2, 0.5, 0.5, 0.4)
    record = fit(model, ToyImages(), recipe, score=judge, score_every=2, **CPU)
    assert record.kept_epoch == 4, "the first of equals"
    assert record.history["score"].isna().tolist() == [True, False, True, False, True, False, False]
    assert same(trained(model), judge.states[1]) and not same(trained(model), judge.states[3])
    plain = toy_model("dtl")
    assert fit(plain, ToyImages(), recipe, **CPU).kept_epoch == 7
    assert same(trained(plain), judge.states[3]), "scoring changes nothing of the training"


def test_a_run_stopped_between_scores_keeps_its_best(tmp_path):
    recipe, state = replace(SHORT, epochs=6), tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(toy_model("dtl"), ToyImages(), recipe, checkpoint=state, score=Judge(0.9, stop_at=1), score_every=2, **CPU)
    model, judge = toy_model("dtl"), Judge(0.5, 0.4, 0.3)
    record = fit(model, ToyImages(), recipe, checkpoint=state, score=judge, score_every=2, **CPU)
    whole, all_scores = toy_model("dtl"), Judge(0.9, 0.5, 0.4, 0.3)
    fit(whole, ToyImages(), recipe, score=all_scores, score_every=2, **CPU)
    assert record.kept_epoch == 2 and record.history["score"].dropna().tolist() == [0.9, 0.5, 0.4, 0.3]
    assert same(trained(model), trained(whole)) and same(trained(model), all_scores.states[0])
    with pytest.raises(ValueError, match="score_every"):
        fit(toy_model("dtl"), ToyImages(), recipe, checkpoint=state, score=judge, score_every=3, **CPU)
