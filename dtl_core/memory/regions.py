"""Attribution of a step's memory to the parts of a network: embed, block i, side network, readout and head.

What a method does between two blocks (VPT's prompts, say) is attributed to "between blocks".

The parts are wrapped on their instances for the length of a step. In forward the wrapper sets the ledger's region while
the part runs. In backward a hook on the gradient of the part's output sets the region: when that gradient arrives, the
part's own backward begins.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from unittest.mock import patch

from torch import Tensor, nn

from .ledger import Ledger


def replaced(owner: object, name: str, make: Callable[[Callable], Callable]) -> AbstractContextManager:
    """Replace ``owner.name`` by ``make(owner.name)`` on the instance, for the length of the context."""
    return patch.object(owner, name, make(getattr(owner, name)))


def _watching(ledger: Ledger, label: str | None) -> Callable[[Callable], Callable]:
    def make(function: Callable) -> Callable:
        def watched(*args, **kwargs):
            before, here = ledger.region, label or f"block {args[0]}"
            ledger.enter(here)
            out = function(*args, **kwargs)
            passed_on = any(out is x for x in args)  # its gradient is that of the part that made it
            if isinstance(out, Tensor) and out.requires_grad and not out.is_leaf and not passed_on:
                out.register_hook(lambda _: ledger.enter(here))
            ledger.enter(before)
            return out

        return watched

    return make


@contextmanager
def watched(ledger: Ledger, model: nn.Module) -> Iterator[None]:
    """Watch the parts that ``watch_points`` of a ``DTL`` or ``Classifier`` names, for the length of the context."""
    with ExitStack() as stack:
        for point in model.watch_points():
            stack.enter_context(replaced(point.owner, point.method, _watching(ledger, point.label)))
        yield


def region_of_parameter(name: str, depth_of: dict[str, int]) -> str:
    """Return the region of a parameter from its name in the model and the model's ``block_prefixes``."""
    for prefix, i in depth_of.items():
        if name.startswith(prefix):
            return f"block {i}"
    part, _, rest = name.partition(".")
    if part == "backbone":
        return "readout" if rest.split(".")[0] in ("norm", "fc_norm") else "embed"
    return {"csn": "side network", "side": "side network", "head": "head"}.get(part, "between blocks")


def block_prefixes(model: nn.Module) -> dict[str, int]:
    """Return the index of each block by the prefix of its parameters' names.

    A Swin's patch merging has the index of the first block of its stage.
    """
    if hasattr(model.backbone, "blocks"):
        return {f"backbone.blocks.{i}.": i for i in range(len(model.backbone.blocks))}
    prefixes, first = {}, 0
    for s, layer in enumerate(model.backbone.layers):
        prefixes[f"backbone.layers.{s}.downsample."] = first
        prefixes |= {f"backbone.layers.{s}.blocks.{b}.": first + b for b in range(len(layer.blocks))}
        first += len(layer.blocks)
    return prefixes
