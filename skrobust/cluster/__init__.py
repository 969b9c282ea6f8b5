"""Clustering on a learned metric."""

from skrobust.cluster._adversarial_clustering import AdversarialClustering

__all__ = ["AdversarialClustering"]
