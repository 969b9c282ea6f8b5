r"""Non-increasing losses of a signed robustness margin t (in the units of X).

=============== =======================
``negative``    −t
``hinge``       max(target_radius − t, 0)
``exponential`` exp(−t)
``logistic``    log(1 + exp(−t))
=============== =======================
"""

import torch
from torch.nn import functional

__all__ = ["LOSSES", "margin_loss"]

LOSSES = ("negative", "hinge", "exponential", "logistic")


def margin_loss(t: torch.Tensor, loss: str, target_radius: float | None = None) -> torch.Tensor:
    """Return the loss of each margin.

    Parameters
    ----------
    t : Tensor of any shape
        Signed margins, larger is better.
    loss : {"negative", "hinge", "exponential", "logistic"}
        The loss; the table above gives the formulas.
    target_radius : float, default=None
        Where the hinge ends, in the units of `t`. Other losses ignore it.

    Returns
    -------
    Tensor of the shape of `t`

    Raises
    ------
    ValueError
        If the loss is not known, or the hinge has no target radius.

    Examples
    --------
    >>> import torch
    >>> from skrobust.objectives import margin_loss
    >>> margin_loss(torch.tensor([0.5, 2.0]), "hinge", target_radius=1.0)
    tensor([0.5000, 0.0000])
    """
    if loss == "negative":
        return -t
    if loss == "hinge":
        if target_radius is None:
            raise ValueError("target_radius must be given with loss='hinge'; got None.")
        return functional.relu(target_radius - t)
    if loss == "exponential":
        return torch.exp(-t)
    if loss == "logistic":
        return functional.softplus(-t)
    raise ValueError(f"loss must be one of {list(LOSSES)}; got {loss!r}.")
