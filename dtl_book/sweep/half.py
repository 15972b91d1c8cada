"""Runs of DTL with its frozen backbone in bf16, and what the cast does to the logits of one trained model."""

from __future__ import annotations

import json

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from dtl_core.backbones import load_backbone
from dtl_core.baselines import build
from dtl_core.data import VTAB1k, eval_transform
from dtl_core.files import written_whole
from dtl_core.training import pick_device

from ..experiments.cards import card_path, save_card
from ..experiments.grids import HALF_TASKS, half_folder, half_logits_path
from ..experiments.profiles import get_profile
from ..experiments.runs import SEEDS, best_setting, run
from ..paths import cache_dir, vtab_dir

METHOD = "dtl"


def record_half(profile: str = "laptop", tasks: tuple[str, ...] = HALF_TASKS) -> None:
    """Train with the frozen backbone in bf16, with the learning rates that were chosen in fp32.

    What is recorded already is left alone. Beside the cards it writes, per task, how far the logits of one trained model
    move when its backbone is cast.
    """
    bar = tqdm(total=len(tasks) * len(SEEDS), desc="recording bf16", unit="run")
    for task in tasks:
        lr = best_setting(profile, task, METHOD).lr
        for seed in SEEDS:
            path = card_path(half_folder(profile), "vtab-1k", task, METHOD, seed)
            if not path.exists():
                bar.set_postfix_str(f"{task} lr {lr:g} seed {seed}")
                card, model = run(
                    METHOD, task, profile=profile, seed=seed, lr=lr, progress=False, backbone_dtype=torch.bfloat16,
                    cache_root=cache_dir() / "record" / f"{profile}-{task}-bf16",
                )  # fmt: skip
                if seed == SEEDS[0]:
                    _save_logits(profile, task, model)
                save_card(card, path)  # last, since a run with a card is not taken again
                tqdm.write(f"{task} bf16 seed {seed}: accuracy {card.accuracy:.3f} in {card.seconds:.0f} s")
            bar.update()
    bar.close()


@torch.no_grad()
def _save_logits(profile: str, task: str, trained: torch.nn.Module) -> None:
    """Write the differences between the logits of the trained side network and head on both backbones, over val200."""
    chosen = get_profile(profile)
    backbone = load_backbone(chosen.backbone, image_size=chosen.image_size)
    whole = build(METHOD, backbone, trained.head.out_features, inplace=True, config=trained.config)
    own = {n: p for n, p in trained.state_dict().items() if not n.startswith("backbone.")}
    whole.load_state_dict(own, strict=False)
    device, info = pick_device(None), whole.info
    data = VTAB1k(vtab_dir(profile), task, "val200", eval_transform(info.image_size, info.mean, info.std))
    pairs = []
    for images, _ in DataLoader(data, batch_size=50):
        pairs.append([m.to(device).eval()(images.to(device)).float().cpu() for m in (whole, trained)])
    fp32, bf16 = (torch.cat(side) for side in zip(*pairs, strict=True))
    note = {
        "task": task, "method": METHOD, "images": len(fp32), "split": "val200",
        "relative_difference": float((bf16 - fp32).norm() / fp32.norm()),
        "largest_difference": float((bf16 - fp32).abs().max()), "largest_logit": float(fp32.abs().max()),
        "same_answer": float((bf16.argmax(1) == fp32.argmax(1)).float().mean()),
    }  # fmt: skip
    with written_whole(half_logits_path(profile, task)) as temporary:
        temporary.write_text(json.dumps(note, indent=1) + "\n")
