"""What runs in the processes that tests start, and mostly kill."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import torch
from toys import SHORT, SIZES, ToyImages, shaken, toy_model, trained

from dtl_core.training import PrefixCache, fit


def _die(*_args, **_kwargs) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fit_process(method: str, checkpoint: str, out: str, die: str = "", write: int = 0) -> None:
    """Trains with a checkpoint and saves weights and history to ``out``.

    It kills itself "half" way through this write of a checkpoint, counted from 0, or "before" or "after" its renaming.
    """
    import safetensors.torch as module

    from dtl_core import files

    torch.set_num_threads(1)
    save, rename, writes = module.save_file, os.replace, []

    def half_saved(tensors, path, metadata):
        save(tensors, path, metadata=metadata)
        writes.append(path)
        if die == "half" and len(writes) == write + 1:
            os.truncate(path, Path(path).stat().st_size // 2)
            _die()

    def renamed(source, target):
        if die == "before" and len(writes) == write + 1:
            _die()
        rename(source, target)
        time.sleep(0.05)  # whoever kills this process at a random moment has the time to
        if die == "after" and len(writes) == write + 1:
            _die()

    module.save_file, files.os.replace = half_saved, renamed
    # drop path draws random numbers in each step: a resumed epoch must draw the same ones
    model = toy_model(method, **({"drop_path": 0.3} if method.startswith("dtl") else {}))
    record = fit(model, ToyImages(), SHORT, device="cpu", checkpoint=checkpoint, progress=False)
    torch.save({"weights": trained(model), "loss": record.history["loss"].tolist()}, out)


def cache_process(root: str, images: int) -> None:
    """Writes a prefix cache and kills itself at a given image."""
    torch.set_num_threads(1)

    class Deadly(ToyImages):
        def __getitem__(self, i):
            if i == images:
                _die()
            return super().__getitem__(i)

    PrefixCache(toy_model(), Deadly(), root=root, batch_size=4, device="cpu", progress=False)


def record_process(environment: dict[str, str], methods: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    """Records a small grid of the smoke profile on the CPU."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    torch.cuda.is_available = torch.backends.mps.is_available = lambda: False
    from dtl_book.experiments import settings
    from dtl_book.sweep import record

    settings.LEARNING_RATES, settings.SEEDS = (1e-3, 1e-2), (0, 1)
    record("smoke", methods, tasks, parts=("vtab-1k",))


def shared_cache_process(folder: str, name: str, method: str, die_at: int | None = None) -> None:
    """Asks for a prefix cache once ``go`` is there, and saves what it read, what it opened and what was printed.

    At the image ``die_at`` it waits for the file ``die`` and kills itself.
    """
    torch.set_num_threads(1)
    place = Path(folder)

    class Noted(ToyImages):
        def __getitem__(self, i):
            with open(place / f"{name}.opened", "a") as file:
                file.write(f"{i}\n")
            if i == die_at:
                _wait_for(place / "die")
                _die()
            return super().__getitem__(i)

    model = toy_model(method)
    (place / f"{name}.ready").touch()
    _wait_for(place / "go")
    with open(place / f"{name}.said", "w", buffering=1) as said, redirect_stdout(said):
        cache = PrefixCache(model, Noted(), root=place / "prefix", batch_size=4, device="cpu")
    features, _ = cache.__getitems__(list(range(len(cache))))
    torch.save({"tokens": features.tokens, "tap 3": features.taps[3]}, place / f"{name}.pt")


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} never comes"
        time.sleep(0.002)


def data_parallel_process(rank: int, cases: list[tuple[str, str, str]], folder: str) -> None:
    """One of two processes of gloo: takes two steps on its half of 8 images and saves the gradients.

    ``<rank>.pt`` holds gradients of both steps by case; "local", those of the first case without an exchange; "unused",
    what is said of a parameter that takes no part.
    """
    from torch import distributed
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    def steps(model: torch.nn.Module, parallel: torch.nn.Module, backbone: str) -> list[dict[str, torch.Tensor]]:
        images, gradients = ToyImages(8, SIZES[backbone], torch.float64), []
        for _ in range(2):
            cross_entropy(parallel(images.images[rank::2]), images.labels[rank::2]).backward()
            gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
            model.zero_grad()
        return gradients

    found: dict = {}
    for case in cases:
        model = shaken(*case)
        found[case] = steps(model, DistributedDataParallel(model, find_unused_parameters=False), case[1])
    model = shaken(*cases[0])
    found["local"] = steps(model, model, cases[0][1])[0]
    model.register_parameter("idle", torch.nn.Parameter(torch.zeros(3, dtype=torch.float64)))
    try:
        steps(model, DistributedDataParallel(model, find_unused_parameters=False), cases[0][1])
        found["unused"] = ""
    except RuntimeError as error:
        found["unused"] = str(error)
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def planted(execute):
    """Return ``execute`` on the CPU with faults: DTL with seed 1 is killed after its first epoch, once; "lora" always fails.

    Every epoch that is trained, and every run that begins, is noted in the cache folder.
    """
    from dtl_book.paths import cache_dir
    from dtl_core.training import loop

    torch.cuda.is_available = torch.backends.mps.is_available = lambda: False
    write = loop.Checkpoint.write

    def faulty(run, **options):
        notes = cache_dir() / "notes"
        notes.mkdir(parents=True, exist_ok=True)

        def note(line: str) -> None:
            with open(notes / run.name, "a") as file:
                file.write(f"{line}\n")

        def noted(self, rows):
            write(self, rows)
            note(f"epoch {len(rows)}")
            if (run.method, run.seed, run.purpose) == ("dtl", 1, "final") and not (notes / "killed").exists():
                (notes / "killed").touch()
                print("one epoch, and then it is killed")
                _die()

        note(f"run in {os.getpid()}")
        if run.method == "lora" and not (notes / "mended").exists():
            print("something is said before it fails")
            raise RuntimeError("a planted failure")
        loop.Checkpoint.write = noted
        try:
            return execute(run, **options)
        finally:
            loop.Checkpoint.write = write

    return faulty


def waiting(run, **_):
    """Note the process and wait long."""
    from dtl_book.paths import cache_dir

    (cache_dir() / "pids").mkdir(parents=True, exist_ok=True)
    (cache_dir() / "pids" / str(os.getpid())).touch()
    time.sleep(120)


def sweep_process(environment: dict[str, str], runs: list) -> None:
    """A sweep in two processes, which a test kills."""
    from dtl_book.sweep import open_workers, run_all

    os.environ.update(environment)
    with open_workers(2, program=(__file__, "waiting")) as pool:
        run_all(runs, pool)


if __name__ == "__main__":  # a worker of a sweep with another ``execute``
    from dtl_book.experiments import execution
    from dtl_book.sweep import worker

    fault, *words = sys.argv[1:]
    torch.set_num_threads(1)
    execution.execute = waiting if fault == "waiting" else planted(execution.execute)
    worker.main(*words)
