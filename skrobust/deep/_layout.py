"""From rows as they are handed in to what a torch module is given."""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch

__all__ = ["InputLayout"]

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class InputLayout:
    """How one row of X becomes one input of a module.

    Images of shape (H, W) get a channel, (H, W, C) has its channels last and is turned,
    (C, H, W) stays; (d,) is a table. Other shapes stay as they are. Which of two axes holds the
    channels is given, or read from the shape (:func:`_read_last`).

    Attributes
    ----------
    row_shape : tuple of int
        Shape of one row as it is handed in.
    shape : tuple of int
        Shape of one row before it is turned.
    channels_last : bool
    guessed : bool
        Whether nothing but the sizes of the axes says so.
    """

    row_shape: tuple[int, ...]
    shape: tuple[int, ...]
    channels_last: bool
    guessed: bool = False

    @classmethod
    def of(
        cls, row_shape: tuple[int, ...], image_shape: Any = None, channels_last: bool | None = None
    ) -> Self:
        """Decide by the shape of a row and the parameters `image_shape` and `channels_last`.

        Raises
        ------
        ValueError
            If `image_shape` is not two or three positive integers, or does not hold as many
            values as a row, or nothing says which axis holds the channels.
        """
        shape = row_shape
        if image_shape is not None:
            shape = _checked(image_shape)
            if math.prod(shape) != math.prod(row_shape):
                raise ValueError(
                    f"image_shape={image_shape!r} holds {math.prod(shape)} values; a row of X "
                    f"has shape {row_shape} and holds {math.prod(row_shape)}."
                )
        if len(shape) != 3:
            return cls(tuple(row_shape), tuple(shape), False)
        if channels_last is not None:
            return cls(tuple(row_shape), tuple(shape), bool(channels_last))
        usual = shape[0] in _CHANNELS or shape[-1] in _CHANNELS
        return cls(tuple(row_shape), tuple(shape), _read_last(shape), not usual)

    @property
    def is_image(self) -> bool:
        """Whether a row is an image."""
        return len(self.shape) in (2, 3)

    def __str__(self) -> str:
        axes = {2: "height, width", 3: "channels, height, width"}.get(len(self.shape), "features")
        axes = "height, width, channels" if self.channels_last else axes
        return f"rows of shape {self.shape} are read as ({axes})"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of the module."""
        if len(self.shape) == 2:
            return (1, *self.shape)
        if self.channels_last:
            return (self.shape[2], *self.shape[:2])
        return self.shape

    def to_module(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows of any shape, of shape (n, *input_shape)."""
        x = rows.reshape(len(rows), *self.shape)
        if len(self.shape) == 2:
            return x[:, None]
        if not self.channels_last:
            return x
        # with the strides of any other input, so that the same kernels compute it
        return x.movedim(-1, 1).contiguous().reshape(len(x), -1).reshape(len(x), *self.input_shape)


def _read_last(shape: tuple[int, ...]) -> bool:
    """Return whether the last of three axes holds the channels.

    Two equal axes are height and width; else 1, 3 or 4 is a number of channels; else there are
    fewer channels than pixels.
    """
    first, middle, last = shape
    if first == middle != last and first > 1:
        return True
    if middle == last != first and last > 1:
        return False
    usual = first in _CHANNELS, last in _CHANNELS
    if any(usual):
        return not usual[0]
    if first == last:
        raise ValueError(
            f"images of shape {shape} may have their channels first or last; give channels_last."
        )
    return last < first


def _checked(image_shape: Any) -> tuple[int, ...]:
    try:
        shape = tuple(int(n) for n in image_shape)
        whole = all(int(n) == n for n in image_shape)
    except (TypeError, ValueError):
        shape, whole = (), False
    if not whole or len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(
            "image_shape must be (height, width), (channels, height, width) or (height, width, "
            f"channels); got {image_shape!r}."
        )
    return shape
