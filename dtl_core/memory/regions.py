"""Attribution of a step's memory to the parts of a network: embed, block i, side network, readout and head.

What a method does between two blocks (VPT's prompts, say) is attributed to "between blocks".

The parts are wrapped on their instances for the length of a step. In forward the wrapper sets the ledger's region while
the part runs. In backward a hook on the gradient of the part's output sets the region: when that gradient arrives, the
part's own backward begins.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .ledger import Ledger


@contextmanager
def watched(ledger: Ledger, model: nn.Module, modes: Sequence[TorchFunctionMode] = ()) -> Iterator[None]:
    """Watch the parts that ``watch_points`` of a ``DTL`` or ``Classifier`` names, for the length of the context.

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
            passed_on = any(out is x for x in args)  # its gradient is that of the part that made it
            if isinstance(out, Tensor) and out.requires_grad and not out.is_leaf and not passed_on:
                out.register_hook(lambda _: ledger.enter(here))
            ledger.enter(before)
            return out

        return watching

    with ExitStack() as stack:
        for owner, method, label in model.watch_points():
            stack.enter_context(patch.object(owner, method, watch(getattr(owner, method), label)))
        yield


def regions(model: nn.Module) -> dict[int, str]:
    """Return the region of each parameter and buffer, by its id.

    A Swin's patch merging belongs to the first block of its stage.
    """
    steps, backbone = model.blocks, model.backbone
    parts = [(model, "between blocks"), (backbone, "embed"), (model.head, "head")]
    parts += [(getattr(model, name), "side network") for name in ("csn", "side") if hasattr(model, name)]
    parts += [(getattr(backbone, name), "readout") for name in ("norm", "fc_norm") if hasattr(backbone, name)]
    parts += [(backbone.layers[stage].downsample, f"block {i}") for i, stage in steps.first.items()]
    parts += [(block, f"block {i}") for i, block in enumerate(steps.blocks)]
    return {id(t): region for part, region in parts for t in (*part.parameters(), *part.buffers())}
