"""Where the time of the exact 1-NN radii of Fashion-MNIST goes.

    python -m studies where_time_goes euclidean|learned

Prints wall time as a ratio to brute-force kneighbors, peak memory of the process, and the share of
each part (cProfile, cumulative; some hundreds of calls, so profiling costs little).
"""

import cProfile
import pstats
import resource
import time

from benchmarks.certificates import ExactRadius

from skrobust.certificates import exact_nearest_neighbor_radius

PARTS = {
    "prepare training points": ("_training_set.py", "of"),
    "embed test points": ("_rule.py", "embed"),
    "distances (one product a batch)": ("_class_batch.py", "__init__"),
    "bounds of all negatives (one more product)": ("_class_batch.py", "_candidate_bounds"),
    "value candidates over all positives": ("_class_batch.py", "_approximate"),
    "values in float64": ("_class_batch.py", "_exact"),
    "cells: small programs": ("_cells.py", "_solve_rows"),
    "cells: violated positives": ("_cells.py", "_add_violated"),
    "cells: distances in float64": ("_cells.py", "__init__"),
    "ask the victim": ("_request.py", "attack"),
    "ask the victim about ties": ("_request.py", "status"),
}


def main(metric="euclidean"):
    """Run once and print the table."""
    benchmark = ExactRadius()
    G = benchmark.setup_cache() if metric == "learned" else None
    benchmark.setup(G, metric)
    peer, model = benchmark.peer(1), benchmark.pipeline()
    profile = cProfile.Profile()
    started = time.perf_counter()
    found = profile.runcall(exact_nearest_neighbor_radius, model, benchmark.X, benchmark.y)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{metric}: {seconds / peer:.2f} x kneighbors ({peer:.1f} s), peak {memory:.2f} GiB")
    known = found.upper < float("inf")
    print(f"mean radius {found.radius.mean():.4f}, with an example {known.mean():.4f}")
    rest = 1.0
    stats = pstats.Stats(profile).stats
    for name, (file, function) in PARTS.items():
        spent = sum(v[3] for k, v in stats.items() if k[0].endswith(file) and k[2] == function)
        rest -= spent / seconds
        print(f"| {name} | {spent / seconds:.1%} |")
    print(f"| the rest | {rest:.1%} |")
