"""What an adversarial step costs, and what skorch and our code add to a bare PyTorch loop.

    python -m studies deep_cost [--device cuda] [--batch 128] [--epochs 5]

In plain steps: forward, backward and optimizer step of the same module, loss and batch in a bare
PyTorch loop, which takes turns with ours, epoch by epoch. The median of the ratios is printed, and
what was to be reached; then what the memory layout of the default network saves.
"""

import argparse

import torch
from benchmarks.common import SMOKE
from benchmarks.deep import STRATEGIES, cost, layout_cost


def main(*arguments):
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1 if SMOKE else 5)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"| batch {given.batch}, {given.device} | plain steps | at most |\n|---|---|---|")
    for name, (_, allowed) in STRATEGIES.items():
        found = cost(name, given.batch, given.device, given.epochs)
        print(f"| {name} | {found:.2f} | {allowed:.2f} |", flush=True)
    print(f"\nchannels last over channels first, cpu: {layout_cost():.2f}")
