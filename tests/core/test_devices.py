"""One run on several devices.

Under DistributedDataParallel, with no search for unused parameters, two processes of gloo give the gradients of one. A
parameter that no gradient reaches would stop the second step, or give another average.
"""

import pytest
import torch
from toys import SIZES, ToyImages, shaken
from victims import data_parallel_process

CASES = [(m, b, r) for m in ("dtl", "dtl+") for b in SIZES for r in ("side", "none", "blocks")]


@pytest.fixture(scope="module")
def parallel(processes, tmp_path_factory):
    """What each of two processes found for every case, by rank."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch is built without gloo")
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [processes.Process(target=data_parallel_process, args=(r, CASES, str(folder))) for r in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_processes_give_the_gradients_of_one(case, parallel):
    method, backbone, recompute = case
    model = shaken(method, backbone, recompute)
    images = ToyImages(8, SIZES[backbone], torch.float64)
    torch.nn.functional.cross_entropy(model(images.images), images.labels).backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(g.abs().max() > 0 for g in expected.values()), "a parameter without a gradient would show nothing"
    for found in (gradients for rank in (0, 1) for gradients in parallel[rank][case]):  # of both steps
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_each_process_saw_half_of_the_images(parallel):
    local = [parallel[rank]["local"] for rank in (0, 1)]
    assert any(not torch.allclose(local[0][n], local[1][n]) for n in local[0]), "so the average is one of two"


def test_an_unused_parameter_would_be_noticed(parallel):
    for rank in (0, 1):
        assert "Expected to have finished reduction in the prior iteration" in parallel[rank]["unused"]
