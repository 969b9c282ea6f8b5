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
.skrobust td,.skrobust th{padding:3px 9px;text-align:right;border-bottom:1px solid #e3e7eb;
vertical-align:bottom}
.skrobust th{max-width:8em;overflow-wrap:break-word}
.skrobust .bound{font-weight:600}
.skrobust li{margin:3px 0;list-style:none}.skrobust ul{padding:0;margin:8px 0}
.skrobust .flagged{color:#a02a14;font-weight:600}.skrobust .passed{color:#23724a}
@media(max-width:560px){.skrobust table{font-size:11px}.skrobust td,.skrobust th{padding:3px}
.skrobust th{max-width:6.5em}}
.skrobust svg{max-width:100%;height:auto}
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 240, 52, 34
_SIGNS = {"!": ("flagged", "⚠"), "ok": ("passed", "✓"), "--": ("open", "–")}


def report_html(report: Any) -> str:
    """Return the page of a :class:`RobustnessReport`."""
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    checks = "".join(
        f'<li><span class="{kind}">{sign} {escape(f.name)}</span>: {escape(f.message)}</li>'
        for f in report.health
        for kind, sign in [_SIGNS[f.mark]]
    )
    truth = "The truth lies between the certified accuracy and that under the worst attack."
    if report.certified is None:
        truth = "The truth is at most the accuracy under the worst attack; nothing is proved."
    return (
        f'<div class="skrobust"><style>{_STYLE}</style><h3>{escape(report.estimator)}</h3>'
        f"<p>{report.n_samples} points, norm {escape(str(report.threat_model.norm))}. {truth}</p>"
        f"{_table(report)}"
        f"{_curve(report)}{notes}<ul>{checks}</ul></div>"
    )


def _table(report: Any) -> str:
    """Lay the columns out as in `to_frame`, a row for each budget: it grows down, not aside."""
    columns = report._columns()
    kinds = [' class="bound"' if "bound" in name else "" for name in columns]
    head = "".join(
        f"<th{kind}>{escape(name)}</th>" for name, kind in zip(columns, kinds, strict=True)
    )
    rows = [
        f"<tr><td>{eps:.4g}</td>"
        + "".join(f"<td{kind}>{v:.3f}</td>" for v, kind in zip(values, kinds, strict=True))
        + "</tr>"
        for eps, *values in zip(report.eps, *columns.values(), strict=True)
    ]
    return f'<div class="wide"><table><tr><th>eps</th>{head}</tr>{"".join(rows)}</table></div>'


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
            f'<polyline points="{line(lower)}" fill="none" stroke="#1d5f94" stroke-width="4"/>'
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
    middle = (_HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text transform="translate(12,{middle}) rotate(-90)" text-anchor="middle">accuracy</text>'
    )
    label = "orange: accuracy under the worst attack" + (
        "" if report.certified is None else "; blue: certified accuracy"
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{label}" '
        f'font-size="11" fill="#55616d">{"".join(parts)}</svg><p>{label}</p>'
    )
