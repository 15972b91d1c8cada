"""What a frozen backbone in bf16 does to DTL: to its logits, and to its accuracy beside the runs in fp32."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from dtl_core.backbones import load_backbone
from dtl_core.baselines import build
from dtl_core.data import VTAB1k, eval_transform
from dtl_core.files import written_whole
from dtl_core.training import pick_device

from ..experiments.cards import card_path, load_cards, save_card
from ..experiments.profiles import get_profile
from ..experiments.runs import SEEDS, best_setting, run
from ..paths import cache_dir, recorded_path, results_dir, vtab_dir

METHOD, TASKS = "dtl", ("mnist", "shape_location")
FOLDER = "{profile}-bf16"  # beside the cards in fp32, never among them
MARKS = ("<!-- bf16: begin (dtl record --parts bf16) -->", "<!-- bf16: end -->")


def record_half(profile: str = "laptop", tasks: tuple[str, ...] = TASKS) -> None:
    """Trains with the frozen backbone in bf16, with the learning rates that were chosen in fp32.

    What is recorded already is left alone. Beside the cards it writes, per task, how far the logits of one trained model
    move when its backbone is cast.
    """
    bar = tqdm(total=len(tasks) * len(SEEDS), desc="recording bf16", unit="run")
    for task in tasks:
        lr = best_setting(profile, task, METHOD).lr
        for seed in SEEDS:
            path = card_path(FOLDER.format(profile=profile), "vtab-1k", task, METHOD, seed)
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


def _logits_path(profile: str, task: str, root: Path | None = None) -> Path:
    return (root or results_dir()) / FOLDER.format(profile=profile) / "logits" / f"{task}.json"


@torch.no_grad()
def _save_logits(profile: str, task: str, trained: torch.nn.Module) -> None:
    """The trained side network and head on both backbones, over val200: differences of the logits."""
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
    path = _logits_path(profile, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(note, indent=1) + "\n")


def recorded(profile: str = "laptop", root: Path | None = None) -> bool:
    """Whether there is any card in bf16."""
    return not load_cards(FOLDER.format(profile=profile), root=root).empty


def half_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """A row per task: accuracy in fp32 and bf16 (percent, mean and spread over the seeds), and what the logits do.

    Raises:
        FileNotFoundError: a card is missing.
    """
    rows = []
    cards = {
        kind: load_cards(folder, root=root)
        for kind, folder in (("fp32", profile), ("bf16", FOLDER.format(profile=profile)))
    }
    if cards["bf16"].empty:
        raise FileNotFoundError(f"nothing is recorded in bf16 for {profile}: dtl record --parts bf16")
    for task in sorted(set(cards["bf16"]["task"])):
        row: dict = {"task": task}
        for kind, table in cards.items():
            accuracy = 100 * table[(table["task"] == task) & (table["method"] == METHOD)]["accuracy"]
            row |= {
                f"{kind} mean": accuracy.mean(),
                f"{kind} spread": accuracy.std(ddof=1),
                f"{kind} seeds": len(accuracy),
            }
        rows.append(row | json.loads(recorded_path(_logits_path(profile, task, root)).read_text()))
    return pd.DataFrame(rows).set_index("task")


def half_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """The table for RESULTS.md."""
    lines = [
        "| task | DTL, fp32 | DTL, frozen backbone in bf16 | logits differ by (relative) | same answer |",
        "|---|--:|--:|--:|--:|",
    ]
    for task, row in half_table(profile, root).iterrows():
        lines.append(
            f"| {task} | {row['fp32 mean']:.1f} ± {row['fp32 spread']:.1f} | {row['bf16 mean']:.1f} ± {row['bf16 spread']:.1f} | "
            f"{row['relative_difference']:.2%} | {row['same_answer']:.1%} of {row['images']} |"
        )
    note = (
        f"Test accuracy in percent over {len(SEEDS)} seeds; setting: {get_profile(profile).setting}; the learning rate of the runs in fp32. "
        "Logits: one trained model (seed 0), its frozen backbone in fp32 and in bf16, on val200."
    )
    return "\n".join([*lines, "", note])
