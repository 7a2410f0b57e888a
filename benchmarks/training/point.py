"""One point: torch's loops and ours compute the same, then all are timed in turn."""

import copy
from contextlib import ExitStack

import torch
from torch import Tensor

from benchmarks.harness.models import model_settings
from benchmarks.harness.timing import Way, interleave
from benchmarks.training.loops import (
    TorchLoop,
    batch_settings,
    lab_settings,
    random_corpus,
    trainer,
)
from benchmarks.training.products import operations_of, products_alone, products_of
from benchmarks.training.record import LAB, MM, OURS, PRODUCTS, TORCH, TrainingPoint
from benchmarks.training.settings import TrainingBenchSettings
from training.model.device import Precision
from training.model.model import CharRNN
from training.model.optimizer import build_optimizer
from training.run.trainer import Trainer
from unroll.errors import UnrollError

# Greatest difference of a first update's loss or gradients from torch's, relative to the greatest
# value of the same tensor. fp32 sums thousands of products in another order and carries rounding of
# 6e-8 through a window's steps; bf16 rounds each operand by up to 0.4 %.
TOLERANCE: dict[str, float] = {"fp32": 1e-4, "bf16": 0.1}
# A ReLU whose sum is rounded to the other side of 0 has its whole gradient for a step or none. Of 6
# million sums of rnn_relu-512x3, two did, and moved a gradient by 1.1 %; in a window without such
# sums, all gradients were within 1e-6.
TOLERANCE_OF_RELU = 0.05
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
LAB_UPDATES = 4  # in one sample: an update of 50 characters is short
WINDOWS = 4  # of the text
WARM_UP = 25  # samples not timed: until then the heap grows, and pages that are new cost time


def measure(
    name: str, precision: Precision, threads: int, plan: TrainingBenchSettings
) -> TrainingPoint:
    """Verify that all compute the same, then time a model, CELL-HIDDENxLAYERS.

    Raises:
        UnrollError: loss or gradients are not torch's.
    """
    torch.set_num_threads(threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(25)
        model = CharRNN(model_settings(name, plan.vocabulary))
    characters = plan.streams * plan.window
    products = products_of(model.settings, plan.streams, plan.window)
    with ExitStack() as stack:
        lab, lab_difference = _lab_loop(model)
        plain, ours, difference = _at_our_batch(stack, model, precision, plan)
        ways: dict[str, tuple[Way, int]] = {
            LAB: (lambda: [lab.update() for _ in range(LAB_UPDATES)], LAB_UPDATES * lab.streams.T),
            TORCH: (plain.update, characters),
            OURS: (ours.update, characters),
            MM: (products_alone(products, DTYPES[precision], tuned=False), characters),
            PRODUCTS: (products_alone(products, DTYPES[precision], tuned=True), characters),
        }
        for _ in range(WARM_UP):
            for run, _characters in ways.values():
                run()
        samples = interleave({way: run for way, (run, _) in ways.items()}, plan.repeats, 1)
    return TrainingPoint(
        model=name,
        precision=precision,
        threads=threads,
        characters=characters,
        operations=operations_of(products),
        microseconds={
            way: [sample / ways[way][1] for sample in times] for way, times in samples.items()
        },
        differences={LAB: lab_difference, TORCH: difference},
    )


def _lab_loop(model: CharRNN) -> tuple[TorchLoop, float]:
    """Return the lab's own loop, and how far our trainer with the lab's settings is from it."""
    settings, theirs = lab_settings(model), copy.deepcopy(model)
    symbols = WINDOWS * settings.window + settings.start_offset
    corpus = random_corpus(model.settings.vocabulary_size, symbols)
    with trainer(settings, copy.deepcopy(model), corpus, "fp32") as ours:
        optimizer = torch.optim.Adam(theirs.parameters(), lr=settings.learning_rate)
        loop = TorchLoop(theirs, ours.streams, optimizer, settings.gradient_clip)
        return loop, first_difference(LAB, loop, ours, tolerance(model, "fp32"))


def _at_our_batch(
    stack: ExitStack, model: CharRNN, precision: Precision, plan: TrainingBenchSettings
) -> tuple[TorchLoop, Trainer, float]:
    """Return torch's loop and our trainer at the same batch, and how far they are apart."""
    settings, theirs = batch_settings(model, plan.streams, plan.window), copy.deepcopy(model)
    corpus = random_corpus(plan.vocabulary, WINDOWS * plan.streams * plan.window + 1)
    ours = stack.enter_context(trainer(settings, copy.deepcopy(model), corpus, precision))
    optimizer = build_optimizer(theirs, settings)
    loop = TorchLoop(theirs, ours.streams, optimizer, settings.gradient_clip)
    return loop, ours, first_difference(TORCH, loop, ours, tolerance(model, precision))


def tolerance(model: CharRNN, precision: Precision) -> float:
    """Return how far the gradients may be from torch's."""
    of_cell = TOLERANCE_OF_RELU if model.settings.cell == "rnn_relu" else 0.0
    return max(TOLERANCE[precision], of_cell)


def first_difference(name: str, loop: TorchLoop, ours: Trainer, allowed: float) -> float:
    """Make the first update of both; return the farthest difference of loss and gradients.

    Each difference is relative to the greatest value of the same tensor.

    Raises:
        UnrollError: it is more than allowed, or ours went back instead of learning.
    """
    loss = loop.update()
    if not ours.update():
        raise UnrollError(f"{name}: our first update exploded; nothing was timed")
    wanted = {"loss": torch.tensor(loss), **_gradients(loop.model)}
    found = {"loss": torch.tensor(ours.progress.loss_sum), **_gradients(ours.model)}
    differences = {
        key: float((found[key] - tensor).abs().max() / tensor.abs().max())
        for key, tensor in wanted.items()
    }
    for key, difference in differences.items():
        if not difference <= allowed:
            raise UnrollError(
                f"{name}: our {key} of the first update is {difference:.2g} from torch's, relative "
                f"to its greatest value; at most {allowed:g} is rounding; nothing was timed"
            )
    return max(differences.values())


def _gradients(model: CharRNN) -> dict[str, Tensor]:
    return {
        f"gradient of {name}": weight.grad
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
