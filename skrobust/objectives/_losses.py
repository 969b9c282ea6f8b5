r"""Non-increasing losses of a signed robustness margin t (in the units of X).

=============  =======================
``negative``   −t
``hinge``      max(margin − t, 0)
``exponential`` exp(−t)
``logistic``   log(1 + exp(−t))
=============  =======================
"""

import torch
from torch.nn import functional

__all__ = ["LOSSES", "margin_loss"]

LOSSES = ("negative", "hinge", "exponential", "logistic")


def margin_loss(t: torch.Tensor, loss: str, margin: float = 1.0) -> torch.Tensor:
    """Return the loss of each margin.

    Parameters
    ----------
    t : Tensor of any shape
        Signed margins, larger is better.
    loss : {"negative", "hinge", "exponential", "logistic"}
        The loss; the table above gives the formulas.
    margin : float, default=1.0
        The hinge's margin, in the units of `t`. Other losses ignore it.

    Returns
    -------
    Tensor of the shape of `t`

    Examples
    --------
    >>> import torch
    >>> from skrobust.objectives import margin_loss
    >>> margin_loss(torch.tensor([0.5, 2.0]), "hinge", margin=1.0)
    tensor([0.5000, 0.0000])
    """
    if loss == "negative":
        return -t
    if loss == "hinge":
        return functional.relu(margin - t)
    if loss == "exponential":
        return torch.exp(-t)
    if loss == "logistic":
        return functional.softplus(-t)
    raise ValueError(f"loss must be one of {list(LOSSES)}; got {loss!r}.")
