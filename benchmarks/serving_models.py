"""What benchmarks/serving.py compares: one server for many tasks, and the ways to do without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.baselines import build
from dtl_core.memory.step import set_attention
from dtl_core.serving import MultiTask
from dtl_core.serving.multitask import CHUNK

KINDS = ("MultiTask", "MultiTask, known images", "separate DTL models", "LoRA (peft), switched", "full copies")
ONE, KNOWN, SEPARATE, LORA, FULL = KINDS


@dataclass
class Bench:
    """Compares what many tasks cost.

    Attributes:
        backbone: a name for ``load_backbone``; random weights. ``vit_small_patch16_224`` is quicker.
        image_size: side in pixels.
        batch_size: images that every task answers.
        tasks: numbers of tasks.
        classes: of every head.
        chunk: of ``MultiTask``.
        chunks: sizes of a chunk that are compared at the largest number of tasks.
        rounds: counted rounds, after one that is not.
        threads: of torch.
        out: JSON file for the figures.
    """

    backbone: str = "vit_base_patch16_224"
    image_size: int = 224
    batch_size: int = 1
    tasks: tuple[int, ...] = (1, 2, 4, 8, 19)
    classes: int = 100
    chunk: int = CHUNK
    chunks: tuple[int, ...] = (1, 4, 8, 16, 32)
    rounds: int = 7
    threads: int = 2
    out: Path | None = None


class Lora(nn.Module):
    """peft's LoRA (r = 8 on qkv) for many tasks on one backbone, with a head each."""

    def __init__(self, backbone: nn.Module, tasks: int, classes: int):
        from peft import LoraConfig, get_peft_model

        super().__init__()
        config = LoraConfig(r=8, lora_alpha=8, lora_dropout=0.0, target_modules=["qkv"])
        classifier = build("linear", backbone, classes)  # a copy of the backbone, and the readout of all methods
        self.features = classifier.features
        self.heads = nn.ModuleList(nn.Linear(classifier.head.in_features, classes) for _ in range(tasks))
        self.adapted = get_peft_model(classifier.backbone, config, adapter_name="task 0")
        for i in range(1, tasks):
            self.adapted.add_adapter(f"task {i}", config)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, task: int) -> Tensor:
        self.adapted.set_adapter(f"task {task}")
        return self.heads[task](self.features(images))


def answers(bench: Bench) -> tuple[dict[str, Callable], dict[str, nn.Module], MultiTask]:
    """The two servers as functions (images, tasks), the others as functions (images, task); their models; the server."""
    most = max(bench.tasks)
    backbone = load_backbone(bench.backbone, image_size=bench.image_size, pretrained=False)
    config = DTLConfig.for_backbone(backbone)
    models = [DTL(backbone, bench.classes, config).eval() for _ in range(most)]
    for model in models:
        for low_rank in model.csn.maps.values():
            nn.init.normal_(low_rank.up, std=0.1)
    named = {str(i): model for i, model in enumerate(models)}
    server = MultiTask(backbone, named, chunk=bench.chunk)
    known = MultiTask(backbone, named, chunk=bench.chunk, cache_bytes=2**30)
    lora, full = Lora(backbone, most, bench.classes), build("linear", backbone, bench.classes).eval()
    for model in (backbone, lora, full):
        set_attention(model, "fused")
    work = {
        ONE: lambda images, tasks: server.predict(images, map(str, range(tasks))),
        KNOWN: lambda images, tasks: known.predict(images, map(str, range(tasks))),
        SEPARATE: lambda images, task: models[task](images),
        LORA: lambda images, task: lora(images, task),
        # one in the place of all copies: a block's weights leave the caches either way
        FULL: lambda images, task: full(images),
    }
    return work, {SEPARATE: models[0], LORA: lora, FULL: full}, server


def weight_bytes(held: dict[str, nn.Module], kind: str, tasks: int) -> int:
    """Bytes of all weights for so many tasks: one backbone, and what each task adds."""

    def size(parameters) -> int:
        return sum(p.numel() * p.element_size() for p in parameters)

    dtl, lora, full = held[SEPARATE], held[LORA], held[FULL]
    if kind == FULL:
        return tasks * size(full.parameters())
    if kind == LORA:
        added = [p for n, p in lora.named_parameters() if ".task 0" in n or n.startswith("heads.0.")]
        return size(dtl.backbone.parameters()) + tasks * size(added)
    return size(dtl.backbone.parameters()) + tasks * size(dtl.trainable_parameters())
