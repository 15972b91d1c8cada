"""The state of a run between two epochs, in safetensors."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..files import DamagedFile, save_tensors


class Checkpoint:
    """The trainable parameters, the states of AdamW and the scaler, the history, and the best parameters if any.

    Nothing is kept on disk without a path. ``identity`` holds the facts that must be equal for a run to continue
    (recipe, data, backbone). The training loop sets ``best``, a snapshot of the best parameters.
    """

    def __init__(self, path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler, identity: dict):
        self.path = Path(path) if path else None
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer, self.scaler = optimizer, scaler
        self.best: dict[str, Tensor] | None = None
        shapes = {n: list(p.shape) for n, p in self.parameters.items()}
        self.identity = json.loads(json.dumps({**identity, "parameters": shapes}))  # as it comes back from the file

    def snapshot(self) -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in self.parameters.items()}

    @torch.no_grad()
    def put_back(self, snapshot: dict[str, Tensor]) -> None:
        for n, p in self.parameters.items():
            p.copy_(snapshot[n])

    def is_finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.parameters.values())

    def write(self, rows: list[dict]) -> None:
        """Write the state after an epoch, whole or not at all."""
        if self.path is None:
            return
        tensors = {f"model/{n}": p for n, p in self.parameters.items()}
        for n, p in self.parameters.items():
            tensors |= {f"adam/{n}/{k}": torch.as_tensor(v) for k, v in self.optimizer.state[p].items()}
        tensors |= {f"best/{n}": t for n, t in (self.best or {}).items()}
        about = {"rows": rows, "identity": self.identity, "scaler": self.scaler.state_dict()}
        save_tensors(tensors, self.path, {k: json.dumps(v) for k, v in about.items()})

    @torch.no_grad()
    def restore(self) -> list[dict]:
        """Restore the state of a stopped run in place and return its history, which is empty for a new run.

        Raises:
            DamagedFile: the file cannot be read.
            ValueError: the file belongs to another run.
        """
        if self.path is None or not self.path.exists():
            return []
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
            rows, identity, scaler = (json.loads(metadata[k]) for k in ("rows", "identity", "scaler"))
            tensors = load_file(self.path)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DamagedFile(
                f"the checkpoint {self.path} cannot be read ({error}): delete it to start this run again"
            ) from error
        differs = sorted(k for k in identity.keys() | self.identity.keys() if identity.get(k) != self.identity.get(k))
        if differs:
            raise ValueError(
                f"the checkpoint {self.path} belongs to another run (differs in {', '.join(differs)}): delete it, or choose another path"
            )
        for n, p in self.parameters.items():
            p.copy_(tensors[f"model/{n}"])
            state = {k.rsplit("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"adam/{n}/")}
            self.optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in state.items()}
        best = {k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")}
        self.best = {n: best[n].to(p.device) for n, p in self.parameters.items()} if best else None
        if scaler:
            self.scaler.load_state_dict(scaler)
        return rows
