"""Attacks on nearest-neighbour classifiers that use their training points."""
