"""What can be seen of a figure."""

__all__ = ["cut_off"]


def cut_off(figure):
    """Return how much of what is drawn lies beyond the edge of a figure, in inches."""
    figure.canvas.draw()
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    return max(0, -box.x0, -box.y0, box.x1 - width, box.y1 - height)
