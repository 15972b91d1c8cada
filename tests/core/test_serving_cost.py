"""What many tasks over one backbone cost: calls of blocks, products, rows of a batch, bytes."""

import math

import pytest
import torch
from serve import Calls, images_of, mixed, task_of, toy
from torch.utils.flop_counter import FlopCounterMode

from dtl_core.memory import Ledger
from dtl_core.memory.step import set_attention
from dtl_core.serving import MultiTask
from dtl_core.serving.path import pieces


def test_a_block_is_called_once_a_chunk_not_once_a_task():
    backbone = toy("toy/vit")
    models = {str(i): task_of(backbone, (2, 0, 6, 0), seed=i) for i in range(19)}
    server, calls = MultiTask(backbone, models, chunk=32), Calls(backbone)
    server.predict(images_of(backbone, 32))
    assert calls() == [[32]] * 7 + [[32] * 19] * 5
    server.predict(images_of(backbone, 1))
    assert calls() == [[1]] * 7 + [[19]] * 5
    server.chunk = 10
    server.predict(images_of(backbone, 1))
    assert calls() == [[1]] * 7 + [[10, 9]] * 5  # as even as can be


def test_a_task_with_a_larger_m_joins_later_and_shares_the_path_until_then():
    backbone = toy("toy/vit")
    server, calls = MultiTask(backbone, mixed(backbone, "toy/vit")), Calls(backbone)
    server.predict(images_of(backbone, 2))
    # M = 3, 6, 6, 9, 11: the frozen path of 2 images goes to block 11, and the joined batch grows beside it
    rows = [sum(seen) for seen in calls()]
    assert rows == [2] * 4 + [2 + 2] * 3 + [2 + 6] * 3 + [2 + 8] * 2
    server.predict(images_of(backbone, 2), ["early"])
    assert [sum(seen) for seen in calls()] == [2] * 12  # no further than asked


@pytest.mark.parametrize("tasks", [1, 2, 8, 19])
def test_the_products_are_those_of_the_arithmetic(tasks):
    """(7 + 5 T) / (12 T) of the blocks; beside them embedding, side networks and heads, counted by hand."""
    backbone = toy("toy/vit")
    models = {str(i): task_of(backbone, (2, 0, 6, 0), 3, seed=i) for i in range(tasks)}
    images, n, d = images_of(backbone, 4), 17, 48  # 16 patches and the class token
    block = 4 * (n * 12 * d * d + 2 * n * n * d)  # products for 4 images
    embed = 4 * 16 * (3 * 8 * 8) * d
    # each tap is coded once; each of the 6 injections multiplies all the codes so far
    side = 4 * n * (12 * 2 * d + 2 * d * sum(range(7, 13)))
    head = 4 * d * 3
    set_attention(backbone, "math")  # the counter does not know the CPU's fused kernel
    with FlopCounterMode(display=False) as counter:
        MultiTask(backbone, models).predict(images)
    assert counter.get_total_flops() == 2 * (embed + 7 * block + tasks * (5 * block + side + head))
    with FlopCounterMode(display=False) as separate, torch.no_grad():
        models["0"](images)
    alone = 4 * n * 12 * 2 * 2 * d  # without gradients a model keeps h: each tap is coded and written once
    assert separate.get_total_flops() == 2 * (embed + 12 * block + alone + head)


def test_pieces_cover_every_image_of_every_task_once():
    backbone = toy("toy/vit")
    tasks = list(MultiTask(backbone, mixed(backbone, "toy/vit")).tasks.values())
    for images in (1, 2, 3, 7):
        for chunk in (1, 2, 3, 5, 16, 100):
            batches = list(pieces(tasks, images, chunk))
            seen = [(p.task.name, i) for batch in batches for p in batch for i in range(images)[p.images]]
            assert sorted(seen) == sorted((t.name, i) for t in tasks for i in range(images))
            sizes = [batch[-1].rows.stop for batch in batches]
            assert max(sizes) <= chunk and len(sizes) == math.ceil(len(tasks) * images / chunk)
            rows = [list(range(p.rows.start, p.rows.stop)) for batch in batches for p in batch]
            assert sum(rows, []) == [r for size in sizes for r in range(size)]


def test_memory_is_bounded_by_the_chunk_whatever_the_number_of_tasks():
    backbone = toy("toy/vit")
    models = {str(i): task_of(backbone, (2, 0, 6, 3), seed=i) for i in range(12)}
    images, peaks = images_of(backbone, 16), {}
    for tasks in (2, 12):
        server = MultiTask(backbone, {k: models[k] for k in list(models)[:tasks]}, chunk=4)
        ledger = Ledger()
        with ledger:
            answers = server.predict(images)
        peaks[tasks] = ledger.peak - sum(a.numel() * 4 for a in answers.values())
        ledger.close()
    assert peaks[12] < 1.05 * peaks[2]
