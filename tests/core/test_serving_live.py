"""A running server: what it remembers of known images, and tasks that come and go under the threads that ask it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from serve import KINDS, Calls, images_of, task_of, toy

from dtl_core.serving import FeatureCache, MultiTask
from dtl_core.serving.cache import digests

ROW = 8 * 17 * 48 * 4  # bytes of one image on the toy ViT: the inputs of blocks 0 to 6 and the output of block 6


@pytest.fixture
def served():
    backbone = toy("toy/vit")
    models = {str(i): task_of(backbone, (2, 0, 6, 3 * (i % 2)), 2 + i, seed=i) for i in range(3)}
    return backbone, models


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_known_images_cost_only_the_suffix(served):
    backbone, models = served
    server, calls = MultiTask(backbone, models, cache_bytes=2**20), Calls(backbone)
    images = images_of(backbone, 4)
    first = server.predict(images)
    assert calls() == [[4]] * 7 + [[12]] * 5
    again = server.predict(images)
    assert calls() == [[]] * 7 + [[12]] * 5
    for name in models:
        assert torch.equal(first[name], again[name])
    assert (server.cache.hits, server.cache.misses, len(server.cache)) == (4, 4, 4)
    assert server.cache.bytes == 4 * ROW
    # a new task on known images, and known images among new ones in another order
    new = task_of(backbone, (4, 0, 6, 3), 7, seed=9)
    server.load("new", new)
    close(server.predict(images, ["new"])["new"], new(images).detach())
    assert calls()[:7] == [[4]] * 7  # of the separate model alone
    more = torch.cat([images_of(backbone, 2, seed=1), images.flip(0)])
    close(server.predict(more, ["1"])["1"], models["1"](more).detach())
    assert [c[0] for c in calls()[:7]] == [2] * 7


def test_a_smaller_m_is_served_from_what_is_known(served):
    backbone, models = served
    server, calls = MultiTask(backbone, models, cache_bytes=2**20), Calls(backbone)
    images = images_of(backbone, 4)
    server.predict(images)
    calls()
    smaller, larger = task_of(backbone, (2, 1, 4, 0)), task_of(backbone, (2, 1, 8, 0))
    server.load("smaller", smaller)
    server.load("larger", larger)
    answer = server.predict(images, ["smaller"])["smaller"]
    assert calls() == [[]] * 5 + [[4]] * 7
    close(answer, smaller(images).detach())
    calls()
    server.predict(images, ["larger"])  # not known so far: once more, and then it is
    assert [len(c) for c in calls()] == [1] * 12
    server.predict(images, ["larger"])
    assert [len(c) for c in calls()] == [0] * 9 + [1] * 3


def test_the_cache_is_bounded_in_bytes(served):
    backbone, models = served
    server = MultiTask(backbone, models, cache_bytes=3 * ROW + 100)
    images = images_of(backbone, 5)
    for i in range(5):
        server.predict(images[i : i + 1])
        assert server.cache.bytes == min(i + 1, 3) * ROW <= server.cache.max_bytes
    assert len(server.cache) == 3
    server.predict(images[2:3])  # used: now image 3 is the one to go
    server.predict(images[0:1])
    hits = server.cache.hits
    server.predict(images[2:3])
    assert server.cache.hits == hits + 1
    server.predict(images[3:4])
    assert server.cache.hits == hits + 1
    whole = server.predict(images)
    close(whole["0"], models["0"](images).detach())


def test_a_row_that_is_larger_than_the_bound_is_not_kept(served):
    backbone, models = served
    server = MultiTask(backbone, models, cache_bytes=ROW - 1)
    images = images_of(backbone, 2)
    close(server.predict(images)["2"], models["2"](images).detach())
    assert len(server.cache) == 0 and server.cache.bytes == 0
    with pytest.raises(ValueError, match="max_bytes is -1"):
        FeatureCache(-1)


def test_rows_are_copies_that_hold_no_larger_tensor():
    cache, batch = FeatureCache(10_000), torch.zeros(8, 10)
    cache.put("a", {"in 0": batch[0].to("cpu", copy=True)})
    cache.put("a", {"in 1": batch[1].to("cpu", copy=True)})  # beside what is known
    assert cache.bytes == 80 and cache.get("a", {"in 0", "in 1"}).keys() == {"in 0", "in 1"}
    assert cache.get("a", {"in 2"}) is None and (cache.hits, cache.misses) == (1, 1)


def test_digests_tell_images_apart():
    images = torch.randn(3, 3, 4, 4)
    one, two, three = digests(images)
    assert len({one, two, three}) == 3 and digests(images[1:2]) == [two]
    assert digests(images.contiguous(memory_format=torch.channels_last)) == [one, two, three]
    changed = images.clone()
    changed[0, 0, 0, 0] += 1e-6
    assert digests(changed)[0] != one and digests(changed)[1:] == [two, three]
    zeros = torch.zeros(1, 3, 4, 4)
    assert len({*digests(zeros), *digests(zeros.half()), *digests(zeros.view(1, 3, 2, 8))}) == 3
    assert len(set(digests(images.to(torch.bfloat16)))) == 3


def test_a_call_answers_the_tasks_that_were_loaded_when_it_began(served):
    backbone, models = served
    server, images = MultiTask(backbone, models), images_of(backbone)
    held = server.tasks

    def unload_in_the_middle(module, args):
        for name in list(server.tasks):
            server.unload(name)

    handle = backbone.blocks[3].register_forward_pre_hook(unload_in_the_middle)
    answers = server.predict(images)
    handle.remove()
    assert list(answers) == list(models) and not server.tasks and list(held) == list(models)
    close(answers["1"], models["1"](images).detach())
    with pytest.raises(TypeError):
        held["x"] = None


@pytest.mark.parametrize("cache_bytes", [0, 6 * ROW])
def test_tasks_come_and_go_under_the_threads_that_ask(served, cache_bytes, tmp_path):
    """Steady tasks are answered rightly all the while; "visitor" is one of two adapters or not there, never a mixture."""
    backbone, models = served
    server = MultiTask(backbone, models, chunk=3, cache_bytes=cache_bytes)
    batches = [images_of(backbone, 3, seed=s) for s in range(3)]
    visitors = [task_of(backbone, KINDS["toy/vit"][k], 4, seed=20) for k in ("DTL+", "late")]
    paths = []
    for i, visitor in enumerate(visitors):
        paths.append(tmp_path / f"{i}.safetensors")
        visitor.save_adapter(paths[-1])
    with torch.no_grad():
        expected = [{k: m(batch) for k, m in models.items()} for batch in batches]
        visited = [[v(batch) for v in visitors] for batch in batches]
    over, seen = threading.Event(), []

    def ask(worker):
        for round_ in range(30):
            at = (worker + round_) % 3
            answers = server.predict(batches[at])
            for name, logits in expected[at].items():
                close(answers[name], logits)
            if "visitor" in answers:
                near = [torch.allclose(answers["visitor"], v, rtol=1e-4, atol=1e-4) for v in visited[at]]
                assert sum(near) == 1
                seen.append(near.index(True))

    def come_and_go():
        rounds = 0
        while not over.is_set() or rounds < 4:
            server.load("visitor", paths[rounds % 2])
            server.load("visitor", visitors[rounds % 2])
            if rounds % 3 == 2:
                server.unload("visitor")
            rounds += 1
        return rounds

    with ThreadPoolExecutor(5) as pool:
        coming = pool.submit(come_and_go)
        asking = [pool.submit(ask, worker) for worker in range(4)]
        try:
            for future in asking:
                future.result(timeout=300)
        finally:
            over.set()
        assert coming.result(timeout=300) >= 4
    assert set(seen) == {0, 1}
    if cache_bytes:
        assert server.cache.bytes <= cache_bytes and server.cache.hits
        assert server.cache.bytes == sum(
            t.untyped_storage().nbytes() for row in server.cache._rows.values() for t in row.values()
        )
