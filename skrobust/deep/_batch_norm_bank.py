"""Several batch norms in the place of one: each kind of rows has its own.

Clean and adversarial examples have different distributions inside a network; with a batch norm for
each, both can be trained on without mixing their statistics (Xie et al., *Adversarial examples
improve image recognition*, CVPR 2020; two auxiliary ones in Singh et al., arXiv:2211.16253).
All other weights are shared. Inference uses the clean ones.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["CLEAN", "add_branches", "branches_of", "route"]

CLEAN = "clean"


class _Bank:
    """A batch norm with named copies beside it.

    The batch norm itself is the clean one, so that its keys in a state dict stay what they
    were; those of the copies hold ``.aux.``.
    """

    aux: nn.ModuleDict
    branch: str
    split: tuple[tuple[str, int], ...] | None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.split is None:
            return self._normalize(self.branch, x)
        sizes = [size for _, size in self.split]
        if sum(sizes) != len(x):
            raise ValueError(f"a batch of {len(x)} rows was routed by the sizes {sizes}.")
        parts = zip(self.split, x.split(sizes), strict=True)
        return torch.cat([self._normalize(name, part) for (name, _), part in parts if len(part)])

    def _normalize(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if name == CLEAN:
            return super().forward(x)  # type: ignore[misc]
        return self.aux[name](x)


class BankedBatchNorm1d(_Bank, nn.BatchNorm1d):
    """Several ``BatchNorm1d``."""


class BankedBatchNorm2d(_Bank, nn.BatchNorm2d):
    """Several ``BatchNorm2d``."""


class BankedBatchNorm3d(_Bank, nn.BatchNorm3d):
    """Several ``BatchNorm3d``."""


class BankedSyncBatchNorm(_Bank, nn.SyncBatchNorm):
    """Several ``SyncBatchNorm``."""


_BANKED: dict[type, type] = {
    nn.BatchNorm1d: BankedBatchNorm1d,
    nn.BatchNorm2d: BankedBatchNorm2d,
    nn.BatchNorm3d: BankedBatchNorm3d,
    nn.SyncBatchNorm: BankedSyncBatchNorm,
}


def add_branches(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """Give every batch norm of a module a copy for each name, statistics included.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place. Convert to ``SyncBatchNorm`` before, not after.
    names : sequence of str
        Names of the branches beside ``"clean"``.

    Returns
    -------
    torch.nn.Module
        The module.

    Raises
    ------
    ValueError
        If it has no batch norm, has branches already, or a name is taken.

    Examples
    --------
    >>> import torch
    >>> from skrobust.deep import add_branches, route
    >>> net = add_branches(torch.nn.Sequential(torch.nn.BatchNorm1d(2)), ["adversarial"])
    >>> x = torch.randn(6, 2)
    >>> with route(net, [("clean", 4), ("adversarial", 2)]):
    ...     net(x).shape
    torch.Size([6, 2])
    """
    names = list(names)
    if CLEAN in names or len(set(names)) < len(names) or not names:
        raise ValueError(f"names must be different, and none of them 'clean'; got {names}.")
    if any(isinstance(part, _Bank) for part in module.modules()):
        raise ValueError("module has branches of its batch norms already.")
    # by their first names: one that is used in several places stays one
    norms = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)
    }
    if not norms:
        raise ValueError(
            f"module must have batch norms to add branches to; {type(module).__name__} has none."
        )
    for name, part in norms.items():
        if type(part) not in _BANKED:
            raise ValueError(
                f"the batch norm {name!r} is a {type(part).__name__}; branches are known for "
                f"{', '.join(kind.__name__ for kind in _BANKED)}."
            )
    for part in norms.values():
        aux = nn.ModuleDict({name: copy.deepcopy(part) for name in names})
        bank: Any = part
        bank.__class__ = _BANKED[type(part)]
        bank.aux, bank.branch, bank.split = aux, CLEAN, None
    return module


def branches_of(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the branches beside the clean one; none where there is no bank.

    Parameters
    ----------
    module : torch.nn.Module
    """
    banks = _banks(module)
    return tuple(banks[0].aux) if banks else ()


@contextmanager
def route(module: nn.Module, branches: str | Sequence[tuple[str, int]]) -> Iterator[None]:
    """Send batches through branches, inside a ``with`` block.

    Parameters
    ----------
    module : torch.nn.Module
        With :func:`add_branches`; another one is left alone.
    branches : str or sequence of (str, int)
        The branch of all rows, or the branches of consecutive rows with how many there are.

    Raises
    ------
    ValueError
        If a branch is not known.
    """
    banks = _banks(module)
    split = None if isinstance(branches, str) else tuple(branches)
    names = [branches] if isinstance(branches, str) else [name for name, _ in branches]
    for bank in banks:
        for name in names:
            if name != CLEAN and name not in bank.aux:
                raise ValueError(f"branch must be one of {[CLEAN, *bank.aux]}; got {name!r}.")
    before = [(bank.branch, bank.split) for bank in banks]
    try:
        for bank in banks:
            bank.split = split
            bank.branch = CLEAN if split is not None else names[0]
        yield
    finally:
        for bank, (branch, old) in zip(banks, before, strict=True):
            bank.branch, bank.split = branch, old


def _banks(module: nn.Module) -> list[Any]:
    return [part for part in module.modules() if isinstance(part, _Bank)]
