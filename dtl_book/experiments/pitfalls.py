"""Common pitfalls, to be measured: normalisation, weights, readout, and images that went through JPEG."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from PIL import Image

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from dtl_core.backbones import BackboneInfo

NORMALISATIONS = {"half": ((0.5,) * 3, (0.5,) * 3), "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


@dataclass(frozen=True)
class Pitfalls:
    """What other codebases do differently. The defaults leave a run as it is.

    Attributes:
        normalisation: a pitfall to measure: of the inputs; `own` is the backbone's, `half` mean and deviation 0.5 (the
            authors' for both backbones), `imagenet` those of ImageNet's images. Many codebases take one where the weights
            want the other.
        weights: a pitfall to measure: another backbone instead of the profile's, such as
            `vit_base_patch16_224.augreg_in21k`, to which timm's old name of the paper's weights now points.
        readout: a pitfall to measure: the class token (`cls`, not for DTL) instead of the patch tokens' mean.
        jpeg: a pitfall to measure: quality, 1 to 95, at which every picture is stored once before it is read. 75 is
            Pillow's default, with which the common VTAB-1K archive was made. 0 leaves it as it is.
    """

    normalisation: Literal["own", "half", "imagenet"] = "own"
    weights: str = ""
    readout: Literal["mean", "cls"] = "mean"
    jpeg: int = 0

    def __post_init__(self):
        if self.normalisation not in ("own", *NORMALISATIONS):
            raise ValueError(f"normalisation is {self.normalisation!r}: choose own, {', '.join(NORMALISATIONS)}")
        if self.readout not in ("mean", "cls"):
            raise ValueError(f"readout is {self.readout!r}: choose mean or cls")
        if not 0 <= self.jpeg <= 95:
            raise ValueError(f"jpeg is {self.jpeg}: a quality from 1 to 95, or 0 for none")

    def active(self) -> dict:
        """Return those that are not at their default."""
        return {k: v for k, v in asdict(self).items() if v != getattr(Pitfalls(), k)}

    def normalised(self, info: BackboneInfo) -> BackboneInfo:
        """Return the backbone's facts with this normalisation of its inputs."""
        if self.normalisation == "own":
            return info
        mean, std = NORMALISATIONS[self.normalisation]
        return replace(info, mean=mean, std=std)

    def applied(self, data: Dataset) -> Dataset:
        """Send the images of a data set through JPEG where that is switched on. Changes its transform in place."""
        if self.jpeg:
            data.transform = ThroughJpeg(data.transform, self.jpeg)
        return data


class ThroughJpeg:
    """A transform that stores an image as JPEG, opens it again, and applies another transform, whose attributes it takes over."""

    def __init__(self, after, quality: int):
        self.after, self.quality = after, quality
        self.deterministic = getattr(after, "deterministic", False)
        self.augmentation = getattr(after, "augmentation", "none")

    def __call__(self, image: Image.Image):
        stored = io.BytesIO()
        image.save(stored, "JPEG", quality=self.quality)
        return self.after(Image.open(stored).convert("RGB"))

    def __repr__(self) -> str:
        return f"ThroughJpeg({self.after!r}, quality={self.quality})"
