"""The report as a page: a table, a curve drawn as SVG, and the checks; no scripts, no links."""

from html import escape
from typing import Any

import numpy as np

__all__ = ["report_html"]

_STYLE = """
.skrobust{font:14px/1.45 system-ui,sans-serif;color:#1c2733;max-width:760px;background:#fff;
padding:12px 16px}
.skrobust h3{margin:0 0 2px;font-size:17px}.skrobust p{margin:2px 0 10px;color:#55616d}
.skrobust .wide{overflow-x:auto}.skrobust table{font:inherit;border-collapse:collapse;margin:8px 0}
.skrobust td,.skrobust th{padding:3px 10px;text-align:right;border-bottom:1px solid #e3e7eb;
white-space:nowrap}
.skrobust td:first-child,.skrobust th:first-child{text-align:left}
.skrobust tr.bound td{font-weight:600}
.skrobust li{margin:3px 0;list-style:none}.skrobust ul{padding:0;margin:8px 0}
.skrobust .flag{color:#a02a14;font-weight:600}.skrobust .ok{color:#23724a}
.skrobust svg{max-width:100%;height:auto}
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 240, 44, 34


def report_html(report: Any) -> str:
    """Return the page of a :class:`RobustnessReport`."""
    columns = report._columns()
    head = "".join(f"<th>{eps:.4g}</th>" for eps in report.eps)
    rows = []
    for name, values in columns.items():
        bound = ' class="bound"' if "bound" in name else ""
        cells = "".join(f"<td>{value:.3f}</td>" for value in values)
        rows.append(f"<tr{bound}><td>{escape(name)}</td>{cells}</tr>")
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    checks = "".join(
        f'<li><span class="{"flag" if f.flagged else "ok"}">{"⚠" if f.flagged else "✓"} '
        f"{escape(f.name)}</span>: {escape(f.message)}</li>"
        for f in report.health
    )
    truth = "The truth lies between the certified accuracy and that under the worst attack."
    if report.certified is None:
        truth = "The truth is at most the accuracy under the worst attack; nothing is proved."
    return (
        f'<div class="skrobust"><style>{_STYLE}</style><h3>{escape(report.estimator)}</h3>'
        f"<p>{report.n_samples} points, norm {escape(str(report.threat_model.norm))}. {truth}</p>"
        f'<div class="wide"><table><tr><th>eps</th>{head}</tr>{"".join(rows)}</table></div>'
        f"{_curve(report)}{notes}<ul>{checks}</ul></div>"
    )


def _curve(report: Any) -> str:
    """Draw both bounds against the budget, and what lies between them."""
    eps = np.r_[0.0, report.eps]
    upper = np.r_[report.clean_accuracy, report.worst]
    right = float(eps[-1]) or 1.0

    def at(x: float, y: float) -> str:
        return (
            f"{_LEFT + (x / right) * (_WIDTH - _LEFT - 12):.1f},"
            f"{8 + (1 - y) * (_HEIGHT - _BOTTOM - 8):.1f}"
        )

    def line(values: np.ndarray) -> str:
        return " ".join(at(x, y) for x, y in zip(eps, values, strict=True))

    parts = []
    if report.certified is not None:
        lower = np.r_[report.clean_accuracy, report.certified]
        back = " ".join(at(x, y) for x, y in zip(eps[::-1], lower[::-1], strict=True))
        parts.append(f'<polygon points="{line(upper)} {back}" fill="#cfe0ee"/>')
        parts.append(
            f'<polyline points="{line(lower)}" fill="none" stroke="#1d5f94" stroke-width="2"/>'
        )
    parts.append(
        f'<polyline points="{line(upper)}" fill="none" stroke="#c2481f" stroke-width="2"/>'
    )
    for y in (0.0, 0.5, 1.0):
        x0, y0 = at(0, y).split(",")
        parts.append(
            f'<line x1="{x0}" y1="{y0}" x2="{_WIDTH - 12}" y2="{y0}" stroke="#e3e7eb"/>'
            f'<text x="{_LEFT - 6}" y="{float(y0) + 4}" text-anchor="end">{y:g}</text>'
        )
    for x in np.linspace(0, right, 5):
        parts.append(
            f'<text x="{at(x, 0).split(",")[0]}" y="{_HEIGHT - 16}" text-anchor="middle">{x:.3g}'
            "</text>"
        )
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 2}" text-anchor="middle">eps</text>')
    label = "orange: accuracy under the worst attack" + (
        "" if report.certified is None else "; blue: certified accuracy"
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{label}" '
        f'font-size="11" fill="#55616d">{"".join(parts)}</svg><p>{label}</p>'
    )
