"""k-means by faiss and by scikit-learn: time and inertia in the same run."""

import numpy as np
from sklearn.cluster import KMeans

from skrobust import AdversarialClustering

from .common import SMOKE, blobs, seconds


class KMeansBackend:
    """60,000 × 64 embeddings of norm 1, k = 100, three starts, fifty iterations."""

    timeout = 1800
    rounds = number = repeat = 1
    warmup_time = 0

    def setup(self):
        n = 2000 if SMOKE else 60_000
        Z, _ = blobs(n, 64, n_classes=100)
        self.Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
        self.own = AdversarialClustering(
            n_clusters=100, backend="faiss", n_init=3, max_iter=50, random_state=0
        )
        self.peer = KMeans(100, n_init=3, max_iter=50, random_state=0)

    def track_time_ratio(self):
        peer = seconds(lambda: self.peer.fit(self.Z))
        return seconds(lambda: self.own.fit(self.Z)) / peer

    def track_inertia_ratio(self):
        return self.own.fit(self.Z).inertia_ / self.peer.fit(self.Z).inertia_

    def peakmem_fit(self):
        self.own.fit(self.Z)

    track_time_ratio.unit = track_inertia_ratio.unit = "ratio"
