r"""MDProp: several batch norms and adversarial examples with several targets.

A batch of B clean rows becomes ``[x ; STAX of its first half ; MTAX of its second half]``: examples
that are pulled to one target, and to T of them, in feature space, by minimising

    ( 1/T Σ_q mean_i ‖t_{q,i} − f(x_i + δ_i)‖ )² ,

with targets t drawn from the embeddings of the half-batch where the attack starts, next to the
clean rows, through the branch that is attacked. The square does not change
the direction of a row's step, which is that of the sum of the distances (toward the geometric
median of the targets; ``aim="centroid"`` sums their squares). All 2 B rows enter one
metric loss with their own labels; clean rows, STAX and MTAX have batch norms of their own, and
inference uses those of the clean rows (Singh, Kakizaki and Araki, ACML 2023, arXiv:2211.16253).
"""

from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import nn

from skrobust.deep._batch_norm_bank import CLEAN, add_branches
from skrobust.deep.strategies._base import AdversarialStrategy, TrainingStep, distances
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["MDProp"]

SINGLE, MULTI = "single", "multi"
_BRANCHES = {"AP'": (SINGLE,), "MP'": (MULTI,), "MP''": (SINGLE, MULTI)}


class MDProp(AdversarialStrategy):
    """Train on clean rows and on adversarial ones that were pulled to other embeddings.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, in the units of X; None is ``ThreatModel()``.
    variant : {"AP'", "MP'", "MP''"}, default="MP''"
        Adversarial rows with one target, with several, or half of them each.
    n_targets : int, default=5
        T, of the rows with several targets.
    targets : {"any", "other_class", "dense"}, default="any"
        Each a random row of the half-batch (its own class is not excluded, as published), one
        of another class, or a random row and the rows nearest to it.
    aim : {"median", "centroid"}, default="median"
        Distances to the targets, or their squares.
    perturbation : {"targets", "noise"}, default="targets"
        "noise" puts random perturbations of the full budget in place of adversarial ones: the
        control that shows what the adversary is good for.
    shared_batch_norm : bool, default=False
        One batch norm for all rows; with ``variant="AP'"`` that is plain training on clean and
        adversarial rows.
    loss_per : {"batch", "branch"}, default="batch"
        One loss on all rows, so that clean and adversarial rows are pairs, or the mean of
        the losses of clean, single-target and multi-target rows.
    max_iter : int, default=1
        Steps of the adversary.
    step_size : float, default=None
        Of one step, as a share of the budget; None is 1 / max_iter.
    start : float, default=0.05
        Radius of the random start, as a share of the budget.

    Notes
    -----
    The module must have batch norms, unless they are shared.

    Examples
    --------
    >>> from skrobust import ThreatModel
    >>> from skrobust.deep import MDProp
    >>> MDProp(ThreatModel(float("inf"), 0.1), n_targets=3).get_params()["n_targets"]
    3
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **AdversarialStrategy._parameter_constraints,
        "variant": [StrOptions(set(_BRANCHES))],
        "n_targets": [Interval(Integral, 1, None, closed="left")],
        "targets": [StrOptions({"any", "other_class", "dense"})],
        "aim": [StrOptions({"median", "centroid"})],
        "perturbation": [StrOptions({"targets", "noise"})],
        "shared_batch_norm": ["boolean"],
        "loss_per": [StrOptions({"batch", "branch"})],
    }

    def __init__(
        self,
        threat_model: ThreatModel | None = None,
        *,
        variant: str = "MP''",
        n_targets: int = 5,
        targets: str = "any",
        aim: str = "median",
        perturbation: str = "targets",
        shared_batch_norm: bool = False,
        loss_per: str = "batch",
        max_iter: int = 1,
        step_size: float | None = None,
        start: float = 0.05,
    ):
        super().__init__(threat_model, max_iter=max_iter, step_size=step_size, start=start)
        self.variant = variant
        self.n_targets = n_targets
        self.targets = targets
        self.aim = aim
        self.perturbation = perturbation
        self.shared_batch_norm = shared_batch_norm
        self.loss_per = loss_per

    @property
    def rate(self) -> float:
        """The step, a share of the budget."""
        return 1 / self.max_iter if self.step_size is None else self.step_size

    def prepare(self, module: nn.Module) -> nn.Module:
        """Return the module with a branch of its batch norms for each kind of rows.

        Parameters
        ----------
        module : torch.nn.Module

        Raises
        ------
        ValueError
            If it has no batch norm, or one of an unknown kind.
        """
        if self.shared_batch_norm:
            return module
        try:
            return add_branches(module, _BRANCHES[self.variant])
        except ValueError as error:
            raise ValueError(
                f"{error} MDProp(shared_batch_norm=True) trains without branches."
            ) from error

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and its embeddings; see :class:`Training`.

        Parameters
        ----------
        step : TrainingStep
        """
        # parts of the batch: which branch its adversarial rows go through, and how many there are
        kinds = _BRANCHES[self.variant]
        sizes = [len(part) for part in step.x.tensor_split(len(kinds))]
        names = [CLEAN] * len(kinds) if self.shared_batch_norm else list(kinds)
        split = list(zip(names, sizes, strict=True))
        moved = self._perturb(step, split)
        # all 2 B rows in one forward, each part normalised by its branch
        z = step.embed(torch.cat([step.x, moved]), [(CLEAN, len(step.x)), *split])
        labels = torch.cat([step.y, step.y])
        clean = z[: len(step.x)]
        if self.loss_per == "batch":
            return step.criterion(z, labels), clean
        ends = [len(step.x), *sizes]
        losses = [
            step.criterion(part, own)
            for part, own in zip(z.split(ends), labels.split(ends), strict=True)
        ]
        return torch.stack(losses).mean(), clean

    def _perturb(self, step: TrainingStep, split: list[tuple[str, int]]) -> torch.Tensor:
        """Return adversarial rows, of the shape of the batch."""
        adversary = step.require_adversary()
        if self.perturbation == "noise":
            return adversary.noise(step.x)
        counts = [1 if kind == SINGLE else self.n_targets for kind in _BRANCHES[self.variant]]
        sizes = [size for _, size in split]
        targets: list[torch.Tensor] = []

        def value(z: torch.Tensor) -> torch.Tensor:
            parts = z.split(sizes)
            if not targets:  # drawn from the rows where the attack starts, through its branches
                for part, y, n in zip(parts, step.y.split(sizes), counts, strict=True):
                    targets.append(self._targets(part.detach(), y, n, adversary.generator))
            return torch.cat([self._pull(part, t) for part, t in zip(parts, targets, strict=True)])

        return step.attack(step.x, value, self, split)

    def _pull(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return minus the distance of each row to its targets, shape (n,)."""
        if self.aim == "median":
            return -distances(z[:, None], targets).mean(1)
        return -(z[:, None] - targets).square().sum(2).mean(1)

    def _targets(
        self, z: torch.Tensor, y: torch.Tensor, n_targets: int, generator: torch.Generator
    ) -> torch.Tensor:
        """Return targets of shape (n, n_targets, embedding_dim)."""
        drawn = torch.rand((len(z), n_targets, len(z)), generator=generator, device=z.device)
        if self.targets == "other_class":
            other = y[:, None] != y
            # a half-batch of one class has none
            other |= ~other.any(1, keepdim=True)
            drawn = torch.where(other[:, None], drawn, -1)
        elif self.targets == "dense":
            first = drawn[:, 0].argmax(1)
            near = torch.cdist(z.float(), z.float()).topk(min(n_targets, len(z)), largest=False)
            return z[near.indices[first]]
        return z[drawn.argmax(2)]
