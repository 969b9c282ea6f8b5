r"""Small vertex covers, with a bound on the smallest.

    LP = min Σ x_i   over   0 ≤ x_i ≤ 1,   x_i + x_j ≥ 1 for every edge ij.

A minimum vertex cover C of the bipartite double cover (edges from i to a copy j′ of j) gives an
optimum x_i = ½ ([i ∈ C] + [i′ ∈ C]), and a maximum matching gives C (Koenig). Some smallest
cover of the graph takes every i with x_i = 1 and none with x_i = 0 (Nemhauser and Trotter);
of what is left, every vertex at ½, half of each component is needed at least. Where a component
is bipartite either side of it is as small as that. So the cover is a smallest one where no odd
cycle is left, and at most twice the smallest always: it takes no more than Σ ⌈x_i⌉ ≤ 2 LP.

Source: Nemhauser, Trotter, *Vertex Packings: Structural Properties and Algorithms*,
Mathematical Programming 8 (1975) 232–248.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import (
    breadth_first_order,
    connected_components,
    maximum_bipartite_matching,
)

__all__ = ["small_vertex_cover"]


def small_vertex_cover(edges: np.ndarray, n_vertices: int) -> tuple[np.ndarray, int]:
    """Return a vertex cover, and a lower bound on the size of the smallest.

    Parameters
    ----------
    edges : ndarray of shape (n_edges, 2), int
        Pairs of different vertices, each pair once.
    n_vertices : int

    Returns
    -------
    cover : ndarray of shape (n_vertices,) of bool
        No vertex of it can be left out; a smallest one if the graph is bipartite, at most twice
        as large as the smallest otherwise.
    lower : int
        No cover has fewer vertices.
    """
    i, j = edges.T
    graph = _csr(np.concatenate([i, j]), np.concatenate([j, i]), n_vertices)
    doubled = _double_cover(graph)  # 2 x
    cover = doubled == 2
    lower = int(cover.sum())
    rest = np.flatnonzero(doubled == 1)
    if len(rest) == 0:
        return cover, lower
    kernel = graph[rest][:, rest]
    left, right = _components(kernel)
    # the copies of a vertex are connected by odd cycles only
    odd = left == right
    cover[rest] = np.where(odd, ~_independent(kernel, odd), left > right)
    sizes = np.bincount(np.minimum(left, right))
    return cover, lower + int(((sizes + 1) // 2).sum())


def _double_cover(graph: sparse.csr_matrix) -> np.ndarray:
    """Return [i ∈ C] + [i′ ∈ C] of each vertex for a minimum cover C of the double cover."""
    n = graph.shape[0]
    partner = maximum_bipartite_matching(graph, perm_type="column")
    free, matched = np.flatnonzero(partner < 0), np.flatnonzero(partner >= 0)
    edges = graph.tocoo()
    # alternating walks from the free vertices: by any edge to a copy, back by the matching
    start = np.full(len(free), 2 * n)
    tails = np.concatenate([edges.row, n + partner[matched], start])
    heads = np.concatenate([n + edges.col, matched, free])
    walks = _csr(tails, heads, 2 * n + 1)
    reached = np.zeros(2 * n + 1, dtype=bool)
    reached[breadth_first_order(walks, 2 * n, return_predecessors=False)] = True
    return (~reached[:n]).astype(np.int8) + reached[n : 2 * n]


def _csr(tails: np.ndarray, heads: np.ndarray, n_vertices: int) -> sparse.csr_matrix:
    ones = np.ones(len(tails), dtype=np.int8)
    return sparse.csr_matrix((ones, (tails, heads)), shape=(n_vertices, n_vertices))


def _components(graph: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the components of the double cover that hold each vertex and its copy."""
    n, edges = graph.shape[0], graph.tocoo()
    double = _csr(edges.row, n + edges.col, 2 * n)
    labels = connected_components(double, directed=False)[1]
    return labels[:n], labels[n:]


def _independent(graph: sparse.csr_matrix, among: np.ndarray) -> np.ndarray:
    """Return a maximal independent set among some vertices, by fewest neighbours first."""
    degree = np.diff(graph.indptr)
    blocked, chosen = ~among, np.zeros(len(among), dtype=bool)
    for i in np.argsort(degree, kind="stable"):
        if not blocked[i]:
            chosen[i] = True
            blocked[graph.indices[graph.indptr[i] : graph.indptr[i + 1]]] = True
    return chosen
