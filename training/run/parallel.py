"""Several processes that train one model together, each on a part of the streams.

torchrun starts them. The gradients' mean goes through torch's DistributedDataParallel; what decides
how the training goes on (time, losses, a wish to stop) goes through here, once an update, so that
all processes do the same. The first one alone validates, samples, logs and saves.
"""

import gc
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from dacite import from_dict
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from training.run.state import Progress, TrainingState
from unroll.errors import CheckpointError, DeviceError, SettingsError

# What processes say to each other always goes through gloo, so that a GPU never waits for it.
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
WAIT_AT_MOST = timedelta(hours=1)  # the others wait while the first validates and saves


class Group:
    """The processes of a training; while entered, they can hear each other.

    Args:
        rank: which of them this is, from 0.
        size: their number.
        local_rank: which of those on this machine this is.
        device: `cpu` or `cuda`; on CUDA each process takes the device of its local rank.

    Raises:
        DeviceError: this machine has fewer CUDA devices than processes.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, local_rank: int = 0, *, device: str = "cpu"
    ) -> None:
        self.rank, self.size, self._device = rank, size, device
        if device == "cuda" and size > 1:
            found = torch.cuda.device_count()
            if local_rank >= found:
                raise DeviceError(
                    f"LOCAL_RANK = {local_rank}: process {rank} needs a CUDA device of its own, "
                    f"and this machine has {found}; lower torchrun's --nproc-per-node to that"
                )
            torch.cuda.set_device(local_rank)

    @classmethod
    def of_environment(cls, device: str, environment: Mapping[str, str] = os.environ) -> "Group":
        """Return the group that torchrun's variables describe; without them, one process.

        Raises:
            SettingsError: some of the variables are missing.
            DeviceError: this machine has fewer CUDA devices than processes.
        """
        size = int(environment.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(device=device)
        missing = [
            name
            for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
            if name not in environment
        ]
        if missing:
            raise SettingsError(
                f"WORLD_SIZE = {size} in the environment, but no {', '.join(missing)}: start the "
                "processes with torchrun, or unset WORLD_SIZE to train with one"
            )
        return cls(int(environment["RANK"]), size, int(environment["LOCAL_RANK"]), device=device)

    def __enter__(self) -> "Group":
        if self.size > 1:
            dist.init_process_group(BACKENDS[self._device], timeout=WAIT_AT_MOST)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.size > 1 and kind is None:  # after an error the others may never say good-bye
            gc.collect()  # what holds on to the group goes first, else its threads may outlive it
            dist.barrier()
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that reports and writes."""
        return self.rank == 0

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Make sure that all processes agree on facts.

        Args:
            facts: what JSON can hold, by name.

        Raises:
            SettingsError: this process has another value than the first one.
        """
        for name, value in self.share(dict(facts)).items():
            if facts[name] != value:
                raise SettingsError(
                    f"{name} = {facts[name]!r} in process {self.rank}, {value!r} in process 0: "
                    "start all processes of a training with the same settings and text"
                )

    def require_divisible(self, streams: int) -> None:
        """Make sure that all processes get as many streams.

        Raises:
            SettingsError: they do not.
        """
        if streams % self.size:
            near = max(1, round(streams / self.size)) * self.size
            raise SettingsError(
                f"streams = {streams}: must be a multiple of the {self.size} processes, which read "
                f"as many each; take --streams {near}, or another number of processes"
            )

    def columns(self, streams: int) -> slice:
        """Return which of the streams are this process's."""
        n = streams // self.size
        return slice(self.rank * n, (self.rank + 1) * n)

    def seed(self, seed: int) -> None:
        """Give every process but the first random numbers of its own, for its dropout."""
        if not self.first:
            own = np.random.SeedSequence([seed, self.rank]).generate_state(1, np.uint64)[0]
            torch.manual_seed(int(own) >> 1)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return what to run in a model's place, so that gradients become their means."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def mean(self, *values: float) -> tuple[float, ...]:
        """Return the means of numbers over all processes."""
        if self.size == 1:
            return values
        return tuple(value / self.size for value in self._sum(*values))

    def agree(self, elapsed: float, stop: bool) -> tuple[float, bool]:
        """Return the first process's seconds, and whether any process wants to stop."""
        if self.size == 1:
            return elapsed, stop
        seconds, stops = self._sum(elapsed if self.first else 0.0, float(stop))
        return seconds, stops > 0

    def share(self, value: Any) -> Any:
        """Return the first process's value; it must be what JSON can hold."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.first else b""
        (length,) = self._sum(float(len(text)))
        held = torch.frombuffer(bytearray(text or bytes(int(length))), dtype=torch.uint8)
        dist.broadcast(held, 0)
        return json.loads(bytes(held.tolist()))

    def share_progress(self, progress: Progress) -> Progress:
        """Return the first process's progress."""
        return progress if self.size == 1 else from_dict(Progress, self.share(asdict(progress)))

    def gather(self, state: TrainingState) -> TrainingState:
        """Join the parts of a state: all streams side by side, each process's random numbers.

        The random numbers of process r > 0 get names that end in `.r`.
        """
        if self.size == 1:
            return state
        recurrent = {n: torch.cat(self._all(t), dim=1) for n, t in state.recurrent.items()}
        random = {
            f"{name}.{rank}" if rank else name: part
            for name, tensor in state.random.items()
            for rank, part in enumerate(self._all(tensor))
        }
        return replace(state, recurrent=recurrent, random=random)

    def own_part(self, state: TrainingState) -> TrainingState:
        """Take this process's part of a joined state.

        Raises:
            CheckpointError: the state is that of another number of processes.
        """
        saved = sum(name.partition(".")[0] == "cpu" for name in state.random)
        if saved != self.size:
            raise CheckpointError(
                f"resume: a run saved by {saved} and started with {self.size} processes would not "
                "end as it would have: their dropout and the order of sums would be others; start "
                f"{saved} (torchrun --nproc-per-node {saved}), or begin a new run"
            )
        suffix = f".{self.rank}" if self.rank else ""
        names = {name.partition(".")[0] for name in state.random}
        return replace(
            state,
            recurrent={n: t[:, self.columns(t.shape[1])] for n, t in state.recurrent.items()},
            random={name: state.random[name + suffix] for name in names},
        )

    def _sum(self, *values: float) -> list[float]:
        held = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(held)
        return [float(value) for value in held]

    def _all(self, tensor: Tensor) -> list[Tensor]:
        own = tensor.cpu().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        return parts
