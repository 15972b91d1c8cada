"""A profile chooses sizes and sources, never code."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """One row of the profile table."""

    name: str  # smoke, laptop or paper
    backbone: str  # name for load_backbone
    image_size: int  # side of the square input, pixels
    epochs: int  # passes over the training images in a recorded run
    batch_size: int
    least_steps: int  # a set too small for this many steps in these epochs gets more epochs
    # the same for few-shot sets. The laptop's 100 are what the authors' 100 epochs take at one shot
    few_shot_steps: int
    # "authors": their recipe for the task, and for few-shot the best epoch on the validation list; "clean": learning
    # rates (and drop paths of DTL, where a grid of them is given) chosen on validation images from one grid for all
    # methods, and the last epoch
    protocol: str
    network: str  # a phrase for captions and tables of any benchmark
    images: str = ""  # what VTAB-1K's tasks train on, where that is worth mentioning

    @property
    def setting(self) -> str:
        """A phrase for captions and tables of VTAB-1K."""
        return f"{self.network}, {self.images}" if self.images else self.network

    def least_steps_of(self, benchmark: str) -> int:
        """Return the least number of steps of a run on a benchmark."""
        return self.few_shot_steps if benchmark == "few-shot" else self.least_steps

    def setting_of(self, benchmark: str) -> str:
        """Return a phrase for captions and tables of a benchmark."""
        return self.setting if benchmark == "vtab-1k" else self.network


PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", "toy/vit", 32, 2, 8, 4, 4, "clean", "smoke: a toy ViT with random weights, a few rendered images"),
        Profile(
            "laptop", "packaged/vit-s14", 98, 10, 32, 200, 100, "clean", "laptop: packaged ViT-S/14 at 98 px",
            "1,000 training images",
        ),
        Profile(
            "paper", "vit_base_patch16_224.orig_in21k", 224, 100, 32, 0, 0, "authors",
            "paper: ViT-B/16 (ImageNet-21k) at 224 px",
        ),
    )
}  # fmt: skip


def get_profile(name: str | None = None) -> Profile:
    """Return the profile of this name, else of ``DTL_PROFILE``, else ``laptop``."""
    name = name or os.environ.get("DTL_PROFILE") or "laptop"
    if name not in PROFILES:
        raise ValueError(
            f"no profile is called {name!r}: choose one of {', '.join(PROFILES)} (argument or DTL_PROFILE)"
        )
    return PROFILES[name]
