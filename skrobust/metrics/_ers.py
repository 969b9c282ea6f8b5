r"""The empirical robustness score of the ranking literature.

    ERS = mean{ 2·CA+, 100 − CA−, 2·QA+, 100 − QA−, 100 (1 − TMA), 50 (2 − ES:D),
                ES:R, LTM, GTM, GTT }

(Zhou and Patel, *Enhancing adversarial robustness for deep metric learning*, CVPR 2022). CA and QA
are percentile ranks in percent, TMA a cosine, ES:D a shift on the unit sphere, the others
percentages.
"""

from collections.abc import Mapping

__all__ = ["empirical_robustness_score"]

_RANGES = {
    "CA+": (0, 100),
    "CA-": (0, 100),
    "QA+": (0, 100),
    "QA-": (0, 100),
    "TMA": (-1, 1),
    "ES:D": (0, 2),
    "ES:R": (0, 100),
    "LTM": (0, 100),
    "GTM": (0, 100),
    "GTT": (0, 100),
}


def empirical_robustness_score(results: Mapping[str, float]) -> float:
    """Mean of ten results of attacks on a ranking, each scaled to [0, 100].

    It rewards an embedding that has collapsed, so it says nothing without the clean Recall@1
    beside it, and it is not defined for embeddings that are not on the unit sphere.

    Parameters
    ----------
    results : mapping of str to float
        With the keys "CA+", "CA-", "QA+", "QA-" (mean percentile ranks, 0 to 100), "TMA" (mean
        cosine), "ES:D" (mean shift, 0 to 2), "ES:R", "LTM", "GTM", "GTT" (percentages).

    Returns
    -------
    float
        0 to 100, larger is more robust.

    Raises
    ------
    ValueError
        If a result is missing or out of its range, as on embeddings of another norm than 1.

    Examples
    --------
    >>> from skrobust.metrics import empirical_robustness_score
    >>> perfect = {"CA+": 50, "CA-": 0, "QA+": 50, "QA-": 0, "TMA": 0, "ES:D": 0}
    >>> empirical_robustness_score(perfect | {"ES:R": 100, "LTM": 100, "GTM": 100, "GTT": 100})
    100.0
    """
    missing = [name for name in _RANGES if name not in results]
    if missing:
        raise ValueError(f"results must have the keys {list(_RANGES)}; {missing} are missing.")
    for name, (low, high) in _RANGES.items():
        if not low - 1e-6 <= results[name] <= high + 1e-6:
            raise ValueError(
                f"results[{name!r}] must lie in [{low}, {high}], as for unit-norm embeddings; got "
                f"{results[name]!r}."
            )
    r = results
    parts = [
        2 * r["CA+"],
        100 - r["CA-"],
        2 * r["QA+"],
        100 - r["QA-"],
        100 * (1 - r["TMA"]),
        50 * (2 - r["ES:D"]),
        r["ES:R"],
        r["LTM"],
        r["GTM"],
        r["GTT"],
    ]
    return sum(parts) / len(parts)
