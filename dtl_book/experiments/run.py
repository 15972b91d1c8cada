"""One run as a record: the command line shows it, a sweep enumerates it, and its card holds it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..paths import cache_dir, results_dir
from .pitfalls import Pitfalls
from .profiles import Profile, get_profile

Benchmark = Literal["vtab-1k", "few-shot", "domain"]  # with ``data`` its kind: "folder", "csv" or "torchvision"
Method = Literal[
    "full", "linear", "bitfit", "vpt-shallow", "vpt-deep", "adaptformer", "lora", "ssf", "fact", "repadapter", "lst", "res-tuning-bypass", "noah", "dtl", "dtl+"
]  # fmt: skip
ProfileName = Literal["smoke", "laptop", "paper"]
Protocol = Literal["authors", "clean"]
# those that can leave the first blocks as they are, see ``baselines.build``
LATE_METHODS = ("full", "bitfit", "vpt-deep", "adaptformer", "lora", "ssf", "repadapter")
RANKED = {"lora": "rank", "adaptformer": "bottleneck"}  # DTL's rank is its config's
FUNCTION = {
    "tap_from": "tap_from",
    "inject_from": "inject_from",
    "beta": "beta",
    "kernel": "dwconv_kernel",
}  # DTLConfig's
HOW = ("recompute", "device", "workers")  # what a run computes does not depend on these
# timm sets a block's drop path when it builds the block, and the rivals run timm's own blocks, which are built without
DROP_PATH_METHODS = ("dtl", "dtl+")


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        task: of the benchmark, e.g. `mnist` (laptop) or `caltech101` (paper); for few-shot a set (`typefaces`,
            `oxford-pets`); for domain the source (`mnist`, `imagenet`), which is tested on every domain, or one target.
        method: how to adapt.
        benchmark: which one the task is of.
        data: your own images instead of a benchmark: `folder:PATH`, a sub-folder per class, or train, val and test with one
            each; `csv:FILE`, with the columns path, label and perhaps split; or `torchvision:NAME`, e.g. CIFAR10.
        per_class: of your own images, how many of each class to train on; all if not given.
        shots: training images a class (few-shot); 16 if not given.
        protocol: `authors` (their recipe for the task) or `clean`; the profile's if not given.
        profile: sizes and sources; `DTL_PROFILE`, else laptop.
        from_adapter: adapter file of the same method, sizes and classes to go on from.
        seed: of initialisation and order, and which drawing of the shots.
        lr: learning rate; the recipe's own if not given.
        drop_path: probability of leaving out a frozen block in training (dtl, dtl+); the recipe's own if not given. With it
            no prefix is stored.
        epochs: passes over the images; the recipe's own if not given.
        batch_size: images a step; the recipe's own if not given.
        augmentation: of the training images: `none` or `rand-m9-mstd0.5-inc1` (letters keep their class); the recipe's own
            if not given.
        backbone: a timm name, `hf-hub:NAME`, or a .safetensors file with `arch`; the profile's if not given.
        arch: timm name of the architecture of a .safetensors file.
        image_size: side of the images in pixels, or height and width; the backbone's own if not given (the profile's, for the
            profile's backbone).
        pretrained: load the backbone's weights. Without them they are random, which serves tests.
        backbone_dtype: of the frozen weights and the tokens. The trained parameters stay float32.
        first_block: adapt the blocks from this one on and leave those before it frozen (full, bitfit, vpt-deep, adaptformer,
            lora, ssf, repadapter), so that their output can be stored as DTL's is.
        rank: of LoRA, of DTL's maps, or the width of AdaptFormer's bottleneck; the method's own if not given.
        tap_from: first block whose input DTL's side network reads; the paper's, scaled to the depth, if not given.
        inject_from: M of DTL, the first block after which it adds; the paper's, scaled to the depth, if not given.
        beta: steepness of DTL's gate; infinity is ReLU; 100 if not given.
        kernel: side of the depthwise convolution of DTL+; the paper's if not given.
        taps: let the linear probe read every block's input too.
        recompute: what a step of DTL computes again in backward instead of keeping it: `side` (what it adds), `blocks` (also the
            blocks after M: fewer bytes, more time) or `none`.
        precision: of a step: `fp32`, `bf16`, `fp16` (CUDA) or `auto`; the recipe's own if not given.
        device: `cuda`, `cuda:1`, `mps` or `cpu`; the first there is if not given.
        workers: processes that open images.
        weight_decay: of the trained matrices; the recipe's own if not given.
        warmup_epochs: epochs in which the learning rate rises; the recipe's own if not given.
        pitfalls: common mistakes, to be measured.
        purpose: "final" (tested once) or "select" (a setting that is tried, scored on validation images).
        group: folder of the card, where it is not the benchmark's.
        variant: what distinguishes the run in its group; a part of the card's name.
    """

    task: str = ""
    method: Method = "dtl+"
    benchmark: Benchmark = "vtab-1k"
    data: str | None = None
    per_class: int | None = None
    shots: int | None = None
    protocol: Protocol | None = None
    profile: ProfileName | None = None
    from_adapter: Annotated[str | None, tyro.conf.arg(name="from")] = None
    seed: int = 0
    lr: float | None = None
    drop_path: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    augmentation: str | None = None
    backbone: str | None = None
    arch: str | None = None
    image_size: tuple[int, ...] = ()
    pretrained: bool = True
    backbone_dtype: Literal["float32", "bfloat16"] = "float32"
    first_block: int = 0
    rank: int | None = None
    tap_from: int | None = None
    inject_from: int | None = None
    beta: float | None = None
    kernel: int | None = None
    taps: bool = False
    recompute: Literal["side", "blocks", "none"] = "side"
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    device: str | None = None
    workers: int = 0
    weight_decay: float | None = None
    warmup_epochs: int | None = None
    pitfalls: Annotated[Pitfalls, tyro.conf.OmitArgPrefixes] = field(default_factory=Pitfalls)
    purpose: tyro.conf.Suppress[Literal["final", "select"]] = "final"
    group: tyro.conf.Suppress[str] = ""
    variant: tyro.conf.Suppress[str] = ""

    def __post_init__(self):
        if not self.task and self.data is None:
            raise ValueError(
                "say what to train on: either --task NAME (of a benchmark) or --data folder:PATH (your own images)"
            )
        if self.data is not None:
            from dtl_core.data import parse_spec  # with torch, for which --help need not wait

            kind, _, task = parse_spec(self.data)
            object.__setattr__(self, "benchmark", kind)
            object.__setattr__(self, "task", self.task or task)
        if self.per_class is not None and (self.data is None or self.per_class < 1):
            raise ValueError(f"per_class is {self.per_class}: at least 1, and of your own images alone (--data)")
        if self.benchmark == "few-shot":
            object.__setattr__(self, "shots", self.shots or 16)
        elif self.shots is not None:
            raise ValueError(f"shots belong to the few-shot benchmark, and this is {self.benchmark}: leave them out")
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"lr is {self.lr}: it must be a positive number, or left out")
        if 0 in (self.epochs, self.batch_size):
            raise ValueError(
                f"epochs={self.epochs}, batch_size={self.batch_size}: both must be at least 1, or left out"
            )
        if self.drop_path and self.method not in DROP_PATH_METHODS:
            raise ValueError(
                f"drop_path is {self.drop_path}, and {self.method} takes none: it belongs to "
                f"{' and '.join(DROP_PATH_METHODS)}, which walk through the frozen blocks themselves"
            )
        if self.first_block and self.method not in LATE_METHODS:
            raise ValueError(
                f"first_block is {self.first_block}, and {self.method} takes none: it belongs to {', '.join(LATE_METHODS)}"
            )
        if self.rank is not None and self.method not in (*RANKED, *DROP_PATH_METHODS):
            raise ValueError(f"rank is {self.rank}, and {self.method} has none: leave it out")
        if self.taps and self.method != "linear":
            raise ValueError(f"taps are for the linear probe, and this is {self.method}")
        own = [f"--{name.replace('_', '-')}" for name in (*FUNCTION, "recompute") if self._given(name)]
        if own and self.method not in DROP_PATH_METHODS:
            raise ValueError(f"{' and '.join(own)}: {self.method} has none; these are options of dtl and dtl+")
        if self.pitfalls.readout != "mean" and self.method in DROP_PATH_METHODS:
            raise ValueError(
                f"--readout {self.pitfalls.readout}: {self.method} reads the mean of the patch tokens alone"
            )
        if self.backbone and self.pitfalls.weights:
            raise ValueError("--weights and --backbone both name a backbone: give one of them")
        if bool(self.arch) != bool(self.backbone and self.backbone.endswith(".safetensors")):
            raise ValueError("--arch NAME says what --backbone FILE.safetensors holds: give both, or neither")
        if len(self.image_size) > 2 or min(self.image_size, default=1) < 1:
            raise ValueError(f"image_size is {self.image_size}: give the side, or height and width, in pixels")
        if self.workers < 0:
            raise ValueError(f"workers is {self.workers}: 0 opens images in this process")
        object.__setattr__(self, "profile", get_profile(self.profile).name)

    def __str__(self) -> str:
        rate = f", lr {self.lr:g}" if self.lr else ""
        drop = "" if self.drop_path is None else f", drop path {self.drop_path:g}"
        return f"{self.label} on {self.where}, seed {self.seed}{rate}{drop}"

    def _given(self, name: str) -> bool:
        return getattr(self, name) != type(self).__dataclass_fields__[name].default

    @property
    def sizes(self) -> Profile:
        return get_profile(self.profile)

    @property
    def backbone_name(self) -> str:
        return self.backbone or self.pitfalls.weights or self.sizes.backbone

    @property
    def input_size(self) -> tuple[int, ...] | int | None:
        """The side, or (H, W), of the images; None for the backbone's own."""
        side = self.image_size[0] if len(self.image_size) == 1 else self.image_size
        return side or (None if self.backbone else self.sizes.image_size)

    @property
    def function(self) -> dict[str, int | float]:
        """The fields of ``DTLConfig`` that the run asks for."""
        return {FUNCTION[name]: getattr(self, name) for name in FUNCTION if self._given(name)} | (
            {"rank": self.rank} if self.rank is not None and self.method in DROP_PATH_METHODS else {}
        )

    @property
    def setting(self) -> str:
        """A phrase for captions and tables: the profile's, or the backbone that was asked for."""
        if self.backbone_name == self.sizes.backbone and not self.image_size:
            return self.sizes.setting_of(self.benchmark)
        size = " x ".join(map(str, self.image_size)) if self.image_size else ""
        return f"{self.profile}: {self.backbone_name}{f' at {size} px' if size else ''}"

    @property
    def task_in_paths(self) -> str:
        """The task; of files of one's own with a digest of their place, for two folders may have one name."""
        if self.data is None or self.benchmark == "torchvision":
            return self.task
        place = Path(self.data.partition(":")[2]).expanduser().resolve()
        return f"{self.task}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        """The method, with its variant, else with what makes it another model than the profile's."""
        return "-".join([self.method, *([self.variant] if self.variant else self._own_model())])

    def _own_model(self) -> Iterator[str]:
        """Yield the options that give another model, for names of files: no two models share one."""
        if self.backbone:
            yield re.sub(r"[^\w.]+", "_", self.backbone.removesuffix(".safetensors"))
        if not self.pretrained:
            yield "random"
        if self.image_size:
            yield "x".join(map(str, self.image_size))
        for name in ("first_block", "rank", *FUNCTION):
            if self._given(name):
                yield f"{name}{getattr(self, name):g}"
        if self.taps:
            yield "taps"
        yield from (
            f"{name}{re.sub(r'[^.0-9A-Za-z]+', '_', str(value))}" for name, value in self.pitfalls.active().items()
        )

    @property
    def where(self) -> str:
        """The task, with its shots."""
        shots = self.shots or self.per_class
        return f"{self.task}, {shots} shots" if shots else self.task

    def card(self, root: Path | None = None) -> Path:
        """Return the path of the card below ``root`` or the recorded results.

        Runs with a backbone in bfloat16 have a folder beside the profile's: they never stand among the others.
        """
        tried = {"lr": self.lr, "drop_path": self.drop_path} if self.purpose == "select" else {}
        profile = self.profile if self.backbone_dtype == "float32" else bf16_folder(self.profile)
        where = profile, self.group or self.benchmark, self.task_in_paths, self.label, self.seed
        return card_path(*where, root=root, shots=self.shots or self.per_class, **tried)

    @property
    def failure(self) -> Path:
        """Where a failed run is recorded; its log is beside that, as ``.log``."""
        profile, *rest = self.card().relative_to(results_dir()).parts
        return results_dir().joinpath(profile, "failed", *rest)

    @property
    def name(self) -> str:
        """The card's path in one word."""
        return "-".join(self.card().relative_to(results_dir()).with_suffix("").parts)

    @property
    def checkpoint(self) -> Path:
        """Where the state after each epoch is kept until the run has ended. No two different runs share it."""
        facts = {k: v for k, v in asdict(self).items() if k not in HOW}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        return cache_dir() / "runs" / f"{self.name}-{digest}.safetensors"

    def adapter(self, build: Path) -> Path:
        """Return the path of the adapter file below the folder of built files."""
        own = self.benchmark in ("vtab-1k", "folder")  # the other benchmarks' tasks may have the same names
        where = self.task_in_paths if own else f"{self.benchmark}-{self.task_in_paths}"
        return build / "adapters" / f"{where}-{self.card().stem}.safetensors"

    @property
    def prefixes(self) -> Path:
        """Folder of the stored prefixes that the runs of a task share in a sweep."""
        return cache_dir() / "sweep" / f"{self.profile}-{self.benchmark}-{self.task}-{self.backbone_dtype}"

    @classmethod
    def from_dict(cls, record: dict) -> Run:
        """Return the run of ``dataclasses.asdict(run)``, as a card holds it."""
        pitfalls = Pitfalls(**record.get("pitfalls") or {})
        return cls(**{**record, "image_size": tuple(record.get("image_size", ())), "pitfalls": pitfalls})


def bf16_folder(profile: str) -> str:
    """Return the folder of a profile's cards in bf16: beside those in fp32, never among them."""
    return f"{profile}-bf16"


def card_path(
    profile: str, benchmark: str, task: str, method: str, seed: int, lr: float | None = None, root: Path | None = None,
    shots: int | None = None, drop_path: float | None = None,
) -> Path:  # fmt: skip
    """Return the path of a card: ``results/<profile>/<benchmark>/<task>/<method>-seed0.json``.

    With ``shots`` it is ``<method>-4shot-seed0.json``; with ``lr``, ``drop_path`` or both a selection card,
    ``select-<method>-lr0.001-dp0.1-seed0.json``.
    """
    method = f"{method}-{shots}shot" if shots else method
    tried = [f"{name}{value:g}" for name, value in (("lr", lr), ("dp", drop_path)) if value is not None]
    name = "-".join([*(["select"] if tried else []), method, *tried, f"seed{seed}"])
    return (root or results_dir()) / profile / benchmark / task / f"{name}.json"
