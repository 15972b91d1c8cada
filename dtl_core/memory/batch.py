"""Search for the largest batch that fits a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .plan import plan_training
from .report import GIB

FORECASTS = 4  # plans at foretold batches, before the search halves what is left
PROBES = (8, 16)  # multiples of the parts that a lean DTL takes its batch in


@dataclass(frozen=True)
class BatchFit:
    """Largest batch for a GPU.

    Attributes:
        largest: images per step; 0 if not even one fits.
        peak_bytes: planned peak of that batch, or of one image if none fits.
        fixed_bytes, image_bytes: the peak is about ``fixed_bytes + image_bytes * batch``.
        gpu_gib, reserve_gib: the GPU's memory in GiB, and the part of it that was left free.
    """

    largest: int
    peak_bytes: int
    fixed_bytes: float
    image_bytes: float
    gpu_gib: float
    reserve_gib: float

    def sentence(self) -> str:
        """Return the result in words."""
        if not self.largest:
            return (
                f"Not even one image fits a GPU of {self.gpu_gib:g} GiB: it would take {self.peak_bytes / GIB:.2f} GiB."
            )
        return (
            f"The largest batch that fits a GPU of {self.gpu_gib:g} GiB is {self.largest:,} images: "
            f"{self.peak_bytes / GIB:.2f} GiB, and {self.reserve_gib:g} GiB are left for CUDA itself."
        )


def largest_batch(
    method: str, backbone: str = "vit_base_patch16_224", *, gpu_gib: float, reserve_gib: float = 1.0, **setting
) -> BatchFit:
    """Find the largest batch whose planned peak fits a GPU.

    The peak is affine in the batch, up to the rounding of storages and of the parts of a batch. Two plans predict the
    answer, a third checks it, and a fourth checks that one more image does not fit. If a check fails, the prediction is
    moved until both hold. If small batches have their peak in the optimizer's step and large ones do not, bisection
    finds the answer in about ten more plans.

    Args:
        method, backbone: as in ``plan_training``.
        gpu_gib: the GPU's memory in GiB.
        reserve_gib: GiB left free for CUDA's context, the workspaces of its libraries and fragmentation. The default is
            our own choice.
        **setting: other arguments of ``plan_training``, without ``batch_size``.

    Raises:
        ValueError: no memory is left for the training.
    """

    def peak(batch: int) -> int:
        return plan_training(method, backbone, batch_size=batch, **setting).peak_bytes

    return largest_fitting(peak, PROBES, gpu_gib, reserve_gib)


def largest_fitting(
    peak: Callable[[int], int], probes: tuple[int, int], gpu_gib: float, reserve_gib: float
) -> BatchFit:
    """Find the largest batch that fits a GPU for any function that gives the peak; see ``largest_batch``.

    Args:
        peak: returns the bytes of a batch, and never fewer for a larger batch.
        probes: two batches to begin with, the smaller first.
        gpu_gib, reserve_gib: as in ``largest_batch``.

    Raises:
        ValueError: no memory is left for the training.
    """
    room = (gpu_gib - reserve_gib) * GIB
    if room <= 0:
        raise ValueError(
            f"a GPU of {gpu_gib:g} GiB has nothing left beside {reserve_gib:g} GiB for CUDA itself: raise gpu_gib, or lower "
            "reserve_gib"
        )
    low, high = (peak(b) for b in probes)
    slope = max(1.0, (high - low) / (probes[1] - probes[0]))
    fixed = low - slope * probes[0]
    fits, over, seen = 0, None, {}  # the largest batch known to fit, the smallest known not to, their bytes
    n = max(1, int((room - fixed) // slope))
    while over != fits + 1:
        seen[n] = peak(n)
        if seen[n] <= room:
            fits = n
        else:
            over = n
        known = fits or over
        n = max(fits + 1, known + int((room - seen[known]) // slope))
        if over is not None:  # foretold in vain, as where small batches have their peak in the optimizer's step: halve
            n = min(n, over - 1) if len(seen) < FORECASTS else (fits + over) // 2
    if fits > 1 and abs(fixed + slope * fits - seen[fits]) > 0.01 * seen[fits]:
        slope = (seen[fits] - peak(fits // 2)) / (fits - fits // 2)  # of the batches near the answer
        fixed = seen[fits] - slope * fits
    return BatchFit(fits, seen[fits or 1], fixed, slope, gpu_gib, reserve_gib)
