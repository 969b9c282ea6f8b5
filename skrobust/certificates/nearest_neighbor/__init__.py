"""Radii of nearest-neighbour rules: geometry, bounds, exact searches."""
