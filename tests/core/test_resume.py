"""What is left of a run that stopped: killed, refused, or with a loss that is not finite."""

import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toys import SHORT, ToyImages, same, toy_model, trained
from victims import fit_process

from dtl_core.files import DamagedFile, save_tensors
from dtl_core.training import NonFiniteLoss, fit

CPU = dict(device="cpu", progress=False)


def run_until_done(processes, arguments, rng=None, kills=0):
    """Starts the run again and again until it ends; returns its exit codes.

    With ``rng`` each of the first ``kills`` is killed a random while after it has written a checkpoint.
    """
    state, codes = Path(arguments[1]), []

    def written():
        return state.stat().st_mtime_ns if state.exists() else None

    while not codes or codes[-1] != 0:
        assert len(codes) < 20, f"the run never ends: {codes}"
        before = written()
        process = processes.Process(target=fit_process, args=arguments if not codes else arguments[:3])
        process.start()
        if len(codes) < kills:
            while written() == before and process.is_alive():
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
        process.join(120)
        codes.append(process.exitcode)
        process.close()
    return codes


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory):
    """Weights of each method's whole run, in a process like those that are killed."""
    results = {}

    def of(method):
        if method not in results:
            folder = tmp_path_factory.mktemp("whole")
            assert run_until_done(processes, (method, str(folder / "state.safetensors"), str(folder / "out.pt"))) == [0]
            results[method] = torch.load(folder / "out.pt")
        return results[method]

    return of


@pytest.mark.parametrize("method", ["dtl+", "lora"])
def test_killed_at_random_moments_it_ends_with_the_same_bits(method, processes, uninterrupted, tmp_path):
    state, out = tmp_path / "state.safetensors", tmp_path / "out.pt"
    codes = run_until_done(processes, (method, str(state), str(out)), random.Random(method), kills=3)
    assert codes[0] == -9 and codes[-1] == 0
    resumed = torch.load(out)
    assert same(resumed["weights"], uninterrupted(method)["weights"])
    assert resumed["loss"] == uninterrupted(method)["loss"]


@pytest.mark.parametrize("write", [0, 2])
@pytest.mark.parametrize("die", ["half", "before", "after"])
def test_killed_while_it_writes_a_checkpoint(die, write, processes, uninterrupted, tmp_path):
    state, out = tmp_path / "state.safetensors", tmp_path / "out.pt"
    assert run_until_done(processes, ("dtl", str(state), str(out), die, write)) == [-9, 0]
    resumed = torch.load(out)
    assert same(resumed["weights"], uninterrupted("dtl")["weights"])
    assert resumed["loss"] == uninterrupted("dtl")["loss"]


def test_a_finished_run_is_not_run_again(tmp_path):
    state = tmp_path / "state.safetensors"
    first, second = toy_model("dtl"), toy_model("dtl", seed=1)
    record = fit(first, ToyImages(), SHORT, checkpoint=state, **CPU)
    again = fit(second, ToyImages(), SHORT, checkpoint=state, **CPU)
    assert again.history.equals(record.history)
    assert same(trained(first), trained(second))


@pytest.fixture
def state(tmp_path):
    """A checkpoint after two epochs of ``SHORT``: one whose third epoch breaks."""
    path = tmp_path / "state.safetensors"
    with pytest.raises(NonFiniteLoss):
        fit(toy_model("dtl"), Breaks(2), SHORT, checkpoint=path, **CPU)
    return path


class Breaks(ToyImages):
    """Yields an infinite image after a number of whole epochs, as long as it is told to."""

    def __init__(self, epochs, n=24):
        super().__init__(n)
        self.left = epochs * n

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        self.left -= 1
        return (image.clone().fill_(torch.inf) if self.left == -10 else image), label


@pytest.mark.parametrize(
    "differs, recipe, method, data",
    [
        ("lr", {"lr": 1e-3}, "dtl", ToyImages()),
        ("seed", {"seed": 4}, "dtl", ToyImages()),
        ("epochs", {"epochs": 5}, "dtl", ToyImages()),
        ("parameters", {}, "lora", ToyImages()),
        ("data, images", {}, "dtl", ToyImages(16)),
        ("data", {}, "dtl", ToyImages(seed=1)),
        ("backbone", {}, "dtl", ToyImages()),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(differs, recipe, method, data, state):
    before, model = state.read_bytes(), toy_model(method)
    if differs == "backbone":
        model.info = replace(model.info, sha256="0" * 64)
    with pytest.raises(ValueError, match=f"belongs to another run .differs in {differs}.: delete it") as error:
        fit(model, data, replace(SHORT, **recipe), checkpoint=state, **CPU)
    assert str(state) in str(error.value) and state.read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "header", "other"])
def test_a_damaged_checkpoint_is_named(damage, state):
    whole = state.read_bytes()
    state.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "empty": b"",
            "header": whole[:8] + b"\xff" * 40 + whole[48:],
            "other": b"a note that someone saved under this name",
        }[damage]
    )
    model = toy_model("dtl")
    before = trained(model)
    with pytest.raises(DamagedFile, match="cannot be read.*delete it") as error:
        fit(model, ToyImages(), SHORT, checkpoint=state, **CPU)
    assert str(state) in str(error.value)
    assert same(before, trained(model)), "nothing of a damaged file gets into the model"


# --- a loss that is not finite


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tmp_path):
    state, model, two_epochs = tmp_path / "state.safetensors", toy_model("dtl"), []
    data = Breaks(2)

    class Watch(type(data)):
        def __getitem__(self, i):
            if self.left == 0:  # the first image of the third epoch
                two_epochs.append((trained(model), state.read_bytes()))
            return super().__getitem__(i)

    data.__class__ = Watch
    with pytest.raises(
        NonFiniteLoss, match=r"epoch 3: the loss is nan in step 2: .*end of epoch 2.*smaller learning rate than 0.003"
    ):
        fit(model, data, SHORT, checkpoint=state, **CPU)
    weights, file = two_epochs[0]
    assert same(trained(model), weights)
    assert state.read_bytes() == file

    mended, whole = toy_model("dtl", seed=5), toy_model("dtl")
    fit(mended, ToyImages(), SHORT, checkpoint=state, **CPU)  # the images are sound now: it goes on from epoch 2
    fit(whole, ToyImages(), SHORT, **CPU)
    assert same(trained(mended), trained(whole))


def test_in_the_first_epoch_the_model_is_as_it_was():
    model = toy_model("dtl")
    before = trained(model)
    with pytest.raises(
        NonFiniteLoss, match="epoch 1: the loss is nan in step 2: the model is back as it was before the first epoch"
    ):
        fit(model, Breaks(0), SHORT, **CPU)
    assert same(before, trained(model))


class BadGradient(nn.Module):
    """A finite loss whose gradient is not: the root of 0 has an infinite slope, and 0 times it is NaN."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return self.head(images.mean((2, 3))) + 0 * self.scale.sqrt()


def test_a_weight_that_is_not_finite_is_never_kept(tmp_path):
    state, model = tmp_path / "state.safetensors", BadGradient()
    before = trained(model)
    one_step = replace(SHORT, batch_size=24, epochs=1, warmup_epochs=0, cooldown_epochs=0)
    with pytest.raises(NonFiniteLoss, match="epoch 1: a weight is not finite"):
        fit(model, ToyImages(), one_step, checkpoint=state, **CPU)
    assert same(before, trained(model))
    assert not state.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no limit on the size of a file")
def test_a_disk_that_is_full_is_told_with_the_file(tmp_path, monkeypatch):
    """A limit on the size of files stands in for the disk; nothing half-written stays."""
    resource, path = pytest.importorskip("resource"), tmp_path / "state.safetensors"
    save_tensors({"x": torch.zeros(3)}, path, {})
    before, old = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
        with pytest.raises(OSError, match=r"state\.safetensors could not be written.*make room"):
            save_tensors({"x": torch.zeros(10**6)}, path, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_bytes() == before
