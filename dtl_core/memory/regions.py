"""Attribution of a step's memory to the parts of a network: embed, block i, side network, readout and head.

What a method does between two blocks (VPT's prompts, say) is attributed to "between blocks". The parts of a module that
is no method's are its repeated blocks and, beside them, its children, each under its path.

The parts are wrapped on their instances for the length of a step. In forward the wrapper sets the ledger's region while
the part runs. In backward a hook on the gradient of the part's output sets the region: when that gradient arrives, the
part's own backward begins.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest.mock import patch

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..blocks import WatchPoint
from .ledger import Ledger

LISTS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


class Part(NamedTuple):
    """A part of any module; ``repeated`` if it is one of several like it in a list, and is itself made of modules."""

    path: str
    module: nn.Module
    repeated: bool


def parts_of(module: nn.Module, path: str = "", repeated: bool = False) -> list[Part]:
    """Return a module's repeated blocks, of whatever depth, and what lies beside them, in the module's own order.

    ``conv1, bn1, …, layer1.0, layer1.1, …, fc`` of a ResNet. Where nothing is repeated the parts are the children.
    """
    if path and not any(_alike(m) for m in module.modules()):
        return [Part(path, module, repeated)]
    like = _alike(module)
    return [
        part
        for name, child in module.named_children()
        for part in parts_of(child, f"{path}.{name}".lstrip("."), type(child) in like)
    ]


def _alike(module: nn.Module) -> set[type]:
    """Return the classes of which a list holds several, each made of modules in turn."""
    kinds = Counter(type(child) for child in module.children() if any(True for _ in child.children()))
    return {kind for kind, n in kinds.items() if n > 1} if isinstance(module, LISTS) else set()


@contextmanager
def watched(ledger: Ledger, model: nn.Module, modes: Sequence[TorchFunctionMode] = ()) -> Iterator[None]:
    """Watch the parts of a model for the length of the context: those that its ``watch_points`` name, or ``parts_of`` it.

    What a checkpoint recomputes in backward runs under ``modes``, which autograd does not restore there.
    """

    def watch(function: Callable, label: str | None) -> Callable:
        def watching(*args, **kwargs):
            before, here = ledger.region, label or f"block {args[0]}"
            ledger.enter(here)
            with ExitStack() as stack:
                for mode in modes if ledger.phase == "backward" else ():
                    stack.enter_context(mode)
                out = function(*args, **kwargs)
            for made in tree_leaves(out):
                passed_on = any(made is x for x in args)  # its gradient is that of the part that made it
                if isinstance(made, Tensor) and made.requires_grad and not made.is_leaf and not passed_on:
                    made.register_hook(lambda _: ledger.enter(here))
            ledger.enter(before)
            return out

        return watching

    if hasattr(model, "watch_points"):
        points = model.watch_points()
    else:
        points = [WatchPoint(part.module, "forward", part.path) for part in parts_of(model)]
    with ExitStack() as stack:
        for owner, method, label in points:
            stack.enter_context(patch.object(owner, method, watch(getattr(owner, method), label)))
        yield


def regions(model: nn.Module) -> dict[int, str]:
    """Return the region of each parameter and buffer, by its id.

    A Swin's patch merging belongs to the first block of its stage. What two parts share belongs to the later one.
    """
    parts = [(model, "between blocks")]
    if hasattr(model, "watch_points"):
        steps, backbone = model.blocks, model.backbone
        parts += [(backbone, "embed"), (model.head, "head")]
        parts += [(getattr(model, name), "side network") for name in ("csn", "side") if hasattr(model, name)]
        parts += [(getattr(backbone, name), "readout") for name in ("norm", "fc_norm") if hasattr(backbone, name)]
        parts += [(backbone.layers[stage].downsample, f"block {i}") for i, stage in steps.first.items()]
        parts += [(block, f"block {i}") for i, block in enumerate(steps.blocks)]
    else:
        parts += [(part.module, part.path) for part in parts_of(model)]
    return {id(t): region for part, region in parts for t in (*part.parameters(), *part.buffers())}
