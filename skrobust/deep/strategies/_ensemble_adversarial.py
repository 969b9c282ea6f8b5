r"""Ensemble adversarial training (EAT) for metrics that are used through clustering.

M networks f_m with losses L_m (and proxies) of their own. The training points are split at random
into M parts, within each class, and member m trains on all but the m-th. Member j's adversarial
examples

    x^(j) = argmax L_j( f_j(x'), y )

are handed to the others, so that each is updated by what harms the ensemble ("self-transfer"):

    T1   member i's loss is the mean over j of L_i on x^(j)            (the default)
    T0   on x^(i) only                 T2   one example for all, that raises the mean of all losses
    T3   on x^(j) with a random j      T4   on the others' examples only.

An example may also be found by how far it moves an embedding, argmax ‖f_j(x') − f_j(x)‖
(``craft="shift"``), or each by one of the two ("mixed"): those of the loss cost clean accuracy,
those of the shift leave room for an adversary that aims at a class.

Idea: Ke, *Towards adversarially robust deep metric learning*, arXiv:2501.01025. Its full text was
not at hand: the split, the five readings of self-transfer and the defaults are a reconstruction.
(Tramèr et al., ICLR 2018, use the name for another method.)
"""

from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from skrobust.deep._adversary import Adversary
from skrobust.deep.strategies._base import AdversarialStrategy, TrainingStep, distances
from skrobust.deep.strategies._ensemble import EnsembleStrategy
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["EnsembleAdversarialTraining"]


class EnsembleAdversarialTraining(EnsembleStrategy, AdversarialStrategy):
    """Train several networks on each other's adversarial examples.

    The embedding is that of all members side by side, and attacks on the fitted metric see all of
    them.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, in the units of X; None is ``ThreatModel()``.
    n_members : int, default=3
        M.
    split : {"leave_one_out", "disjoint", "classes", "none"}, default="leave_one_out"
        What member m trains on: all parts but the m-th, the m-th part alone, all classes but
        those of the m-th part, or everything.
    transfer : {"T0", "T1", "T2", "T3", "T4"}, default="T1"
        Whose adversarial examples; see above.
    craft : {"loss", "shift", "mixed"}, default="loss"
        What the examples raise: the loss, the movement of the embedding, or one of these for
        each row.
    clean_weight : float, default=0.0
        Share, in [0, 1], of the clean rows in the loss.
    max_iter : int, default=7
        Steps of the adversary.
    step_size : float, default=None
        Of one step, as a share of the budget; None is 2.5 / max_iter, at most 1.
    start : float, default=1.0
        Radius of the random start, as a share of the budget.

    Examples
    --------
    >>> from skrobust.deep import EnsembleAdversarialTraining
    >>> EnsembleAdversarialTraining(transfer="T4")
    EnsembleAdversarialTraining(transfer='T4')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **AdversarialStrategy._parameter_constraints,
        "n_members": [Interval(Integral, 2, None, closed="left")],
        "split": [StrOptions({"leave_one_out", "disjoint", "classes", "none"})],
        "transfer": [StrOptions({"T0", "T1", "T2", "T3", "T4"})],
        "craft": [StrOptions({"loss", "shift", "mixed"})],
        "clean_weight": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        threat_model: ThreatModel | None = None,
        *,
        n_members: int = 3,
        split: str = "leave_one_out",
        transfer: str = "T1",
        craft: str = "loss",
        clean_weight: float = 0.0,
        max_iter: int = 7,
        step_size: float | None = None,
        start: float = 1.0,
    ):
        super().__init__(threat_model, max_iter=max_iter, step_size=step_size, start=start)
        self.n_members = n_members
        self.split = split
        self.transfer = transfer
        self.craft = craft
        self.clean_weight = clean_weight

    def check(self) -> None:
        """Raise where a parameter is not as described."""
        super().check()
        if self.craft != "loss":
            self._check_start(f"for craft={self.craft!r}")

    def assign(self, y: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
        """Return the part of each row: at random within its class, or of its class.

        Parameters
        ----------
        y : ndarray of shape (n_samples,)
        random_state : RandomState
        """
        if self.split == "classes":
            order = random_state.permutation(int(y.max()) + 1)
            return order[y] % self.n_members
        parts = np.zeros(len(y), dtype=np.int64)
        for c in np.unique(y):
            rows = random_state.permutation(np.flatnonzero(y == c))
            # where parts cannot be equal, chance says which are larger
            parts[rows] = (np.arange(len(rows)) + random_state.randint(self.n_members)) % (
                self.n_members
            )
        return parts

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and its embeddings; see :class:`Training`.

        Parameters
        ----------
        step : TrainingStep
        """
        if step.parts is None:
            raise ValueError(
                "EnsembleAdversarialTraining needs batches of the estimator's own loader; "
                "iterator_train with a collate_fn of its own does not say which rows they hold."
            )
        pairs = self.pairs(step.module, step.criterion)
        examples = self._examples(step, pairs)
        rows = [self._rows(step.parts, m) for m in range(self.n_members)]
        # what each member trains on: examples one after the other, then clean rows
        given = []
        for m in range(self.n_members):
            given.append(self._select(examples, m, step.require_adversary()))
            if self.clean_weight > 0:
                given[m] = [*given[m], step.x]
        inputs = [torch.cat([x[own] for x in some]) for some, own in zip(given, rows, strict=True)]
        # one call of the whole, because several processes average gradients once a call
        embedded = step.model(inputs)
        total = []
        for m, (_, loss) in enumerate(pairs):
            own = [loss(z, step.y[rows[m]]) for z in embedded[m].chunk(len(given[m]))]
            clean = own.pop() if self.clean_weight > 0 else None
            value = torch.stack(own).mean()
            if clean is not None:
                value = (1 - self.clean_weight) * value + self.clean_weight * clean
            total.append(value)
        return torch.stack(total).mean(), step.embed_eval(step.x)

    def _rows(self, parts: torch.Tensor, m: int) -> torch.Tensor:
        """Return the mask of the rows that member m trains on."""
        if self.split == "none":
            return torch.ones_like(parts, dtype=torch.bool)
        own = parts == m if self.split == "disjoint" else parts != m
        # a batch that has next to nothing of its own: all of it
        return own if own.sum() > 1 else torch.ones_like(own)

    def _examples(
        self, step: TrainingStep, pairs: list[tuple[nn.Module, nn.Module]]
    ) -> list[torch.Tensor]:
        """Return adversarial rows of each member, or those against all of them."""
        # against all members at once, or against one after the other
        victims = [pairs] if self.transfer == "T2" else [[pair] for pair in pairs]
        # rows whose embeddings are moved; "mixed" takes every other one, of rows in random order
        shifted = torch.full((len(step.x),), self.craft != "loss", device=step.x.device)
        if self.craft == "mixed":
            shifted[::2] = False

        def value(x: torch.Tensor, some: Any, before: list[torch.Tensor]) -> torch.Tensor:
            raised = []
            for k, (member, loss) in enumerate(some):
                z = member(x)
                if before:
                    raised.append(distances(z[shifted], before[k][shifted]).sum())
                    # these rows count in the loss of the others, but are not moved by it
                    z = torch.where(shifted[:, None], z.detach(), z)
                if not shifted.all():
                    raised.append(loss(z, step.y))
            return torch.stack(raised).sum() / len(some)

        adversary = step.require_adversary()
        examples = []
        with step.still():
            for some in victims:
                with torch.no_grad():
                    before = [member(step.x) for member, _ in some] if shifted.any() else []
                raised = partial(value, some=some, before=before)
                examples.append(adversary.ascend(step.x, raised, **self.ascent))
        return examples

    def _select(
        self, examples: list[torch.Tensor], m: int, adversary: Adversary
    ) -> list[torch.Tensor]:
        """Return the examples that member m trains on."""
        if self.transfer == "T0":
            return [examples[m]]
        if self.transfer == "T3":
            device = examples[0].device
            j = torch.randint(len(examples), (1,), generator=adversary.generator, device=device)
            return [examples[int(j)]]
        if self.transfer == "T4":
            return [x for j, x in enumerate(examples) if j != m]
        return examples
