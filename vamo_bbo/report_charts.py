"""The charts of a report, drawn by plotly."""

from __future__ import annotations

import html
import math
from typing import Any, NamedTuple

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.run.load import JournalData
from vamo_bbo.space import Choice

__all__ = ["Lane", "convergence", "lanes", "parallel", "parameters", "text", "timing"]

MOST_PARAMETERS = 30
"""Parameters that are drawn."""
MOST_POINTS = 20_000
"""Points of a chart: evaluations are evenly thinned beyond."""
VECTOR = 2_000
"""Points up to which a chart is vector graphics; beyond, the graphics processor draws it."""
DECADES = 100.0
"""Ratio of highest to lowest value from which an axis is logarithmic."""
GOOD, BEST, FAILED = "#7a9cc6", "#1b3a5c", "#c0392b"


class Lane(NamedTuple):
    """The evaluations of one worker, and of the processes that replaced it."""

    name: str
    processes: int
    rows: Array


def text(value: Any) -> str:
    """Return text for a chart or a page: what users put in names and messages is never markup."""
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))


def convergence(data: JournalData) -> Any:
    """Return the values over the evaluations, the best so far, and where evaluations failed."""
    good = data.succeeded
    if not good.any():
        return None
    values, shown = data.evaluations["value"], _drawn(data)
    best = values[_best_so_far(data)]
    best[: int(np.argmax(good))] = np.nan
    kept, failed = shown[good[shown]], shown[data.failed[shown]]
    figure = _figure(data, 380, xaxis_title="evaluation", yaxis_title="value")
    _dots(figure, kept + 1, values[kept], GOOD, "value")
    figure.add_scatter(x=shown + 1, y=best[shown], mode="lines", name="best so far", line={"color": BEST})
    why = [text(error) for error in data.evaluations["error"][failed]]
    _dots(figure, failed + 1, best[failed], FAILED, "failed", symbol="x", hovertext=why)
    if _spans_decades(values[good]):
        figure.update_yaxes(type="log", exponentformat="power")
    return figure


def parameters(data: JournalData) -> Any:
    """Return a row per parameter: its values over the evaluations, and that of the best so far."""
    good = data.succeeded
    if data.points is None or not good.any():
        return None
    names = data.names[:MOST_PARAMETERS]
    shown, best = _drawn(data, len(names)), _best_so_far(data)
    kept, failed = shown[good[shown]], shown[data.failed[shown]]
    figure = _rows(data, len(names))
    params, later = data.params, shown[shown >= int(np.argmax(good))]
    for row, name in enumerate(names, start=1):
        column = [_drawable(p.get(name)) for p in params]
        for rows, color, label in ((kept, GOOD, "evaluated"), (failed, FAILED, "failed")):
            y = [column[i] for i in rows]
            _dots(figure, rows + 1, y, color, label, size=4, row=row, col=1, showlegend=row == 1)
        y, line = [column[i] for i in best[later]], {"color": BEST, "width": 1.5, "shape": "hv"}
        figure.add_scatter(
            x=later + 1, y=y, mode="lines", name="best so far", line=line, row=row, col=1, showlegend=row == 1
        )
        figure.update_yaxes(title_text=text(name), row=row, col=1, **_axis(data, name))
    figure.update_xaxes(title_text="evaluation", row=len(names), col=1)
    return figure


def parallel(data: JournalData) -> Any:
    """Return a line per evaluation through its parameters and its value; the darker, the lower the value."""
    import plotly.graph_objects as go

    good = data.succeeded
    if data.points is None or not good.any():
        return None
    names, value = data.names[:MOST_PARAMETERS], data.evaluations["value"]
    kept = np.array([i for i in _drawn(data, len(names)) if good[i] and not np.isnan(data.points[i]).any()], dtype=int)
    if not len(kept):
        return None
    kept = kept[np.argsort(-value[kept], kind="stable")]
    params = data.params
    dimensions = [
        _dimension(text(name), [_drawable(params[i].get(name)) for i in kept], _axis(data, name).get("type") == "log")
        for name in names
    ]
    dimensions.append(_dimension("value", value[kept].tolist(), _spans_decades(value[kept])))
    line = {"color": np.arange(len(kept)), "colorscale": "Viridis", "reversescale": True}  # the highest are on top
    layout = {"height": 420, "margin": {"l": 80, "r": 80, "t": 60, "b": 30}}
    return go.Figure(go.Parcoords(dimensions=dimensions, line=line), layout=layout)


def timing(data: JournalData, found: list[Lane]) -> Any:
    """Return when each worker evaluated, as bars over time."""
    if not found:
        return None
    end, elapsed = data.evaluations["at"], data.evaluations["elapsed"]
    start = float((end - elapsed).min())
    unit, seconds = _unit(float(end.max()) - start)
    figure = _figure(data, 120 + 34 * len(found), xaxis_title=unit)
    drawn = set(_drawn(data).tolist())
    for color, label, failed in ((GOOD, "succeeded", False), (FAILED, "failed", True)):
        x: list[float | None] = []
        y: list[str | None] = []
        for lane in found:
            for i in lane.rows:
                if i in drawn and data.failed[i] == failed:
                    x += [(end[i] - elapsed[i] - start) / seconds, (end[i] - start) / seconds, None]
                    y += [text(lane.name)] * 2 + [None]
        if x:
            figure.add_scatter(x=x, y=y, mode="lines", name=label, line={"color": color, "width": 10})
    order = [text(lane.name) for lane in found]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=order, autorange="reversed")
    return figure


def lanes(data: JournalData) -> list[Lane]:
    """Return who evaluated what; a process that began after another one had ended has taken its place."""
    end, names = data.evaluations["at"], data.evaluations["worker"]
    begin = end - data.evaluations["elapsed"]
    rows = {name: np.flatnonzero(names == name) for name in dict.fromkeys(names)}
    found: list[list[Array]] = []
    members: list[list[str]] = []
    for name in sorted(rows, key=lambda name: float(begin[rows[name]].min())):
        mine = rows[name]
        free = (k for k, lane in enumerate(found) if end[lane[-1]].max() <= begin[mine].min())
        k = next(free, len(found))
        if k == len(found):
            found.append([])
            members.append([])
        found[k].append(mine)
        members[k].append(name or "this process")
    many = any(len(m) > 1 for m in members)
    labels = [f"worker {k + 1}" if many else m[0] for k, m in enumerate(members)]
    return [Lane(label, len(m), np.concatenate(parts)) for label, m, parts in zip(labels, members, found, strict=True)]


def _figure(data: JournalData, height: int, **layout: Any) -> Any:
    import plotly.graph_objects as go

    return go.Figure(layout={"height": height, "template": "plotly_white", **_LAYOUT, **layout})


_LAYOUT: dict[str, Any] = {
    "margin": {"l": 80, "r": 20, "t": 30, "b": 50},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0},
}


def _rows(data: JournalData, count: int) -> Any:
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=count, cols=1, shared_xaxes=True, vertical_spacing=min(0.02, 0.5 / count))
    figure.update_layout(height=110 + count * (110 if count <= 8 else 70), template="plotly_white", **_LAYOUT)
    return figure


def _dots(figure: Any, x: Array, y: Any, color: str, name: str, **more: Any) -> None:
    if not len(x):
        return
    marker = {"size": more.pop("size", 5), "color": color, "symbol": more.pop("symbol", "circle")}
    add = figure.add_scatter if len(x) <= VECTOR else figure.add_scattergl
    add(x=x, y=y, mode="markers", name=name, marker=marker, **more)


def _drawn(data: JournalData, each: int = 1) -> Array:
    """Return which evaluations are drawn, where each is so many points."""
    count = len(data.evaluations["value"])
    return np.arange(0, count, max(1, -(-count * each // MOST_POINTS)))


def _best_so_far(data: JournalData) -> Array:
    """Return for every evaluation which one was the best by then."""
    values = np.where(data.succeeded, data.evaluations["value"], np.inf)
    lowest = np.minimum.accumulate(values)
    fresh = np.concatenate([[True], lowest[1:] < lowest[:-1]])
    return np.maximum.accumulate(np.where(fresh, np.arange(len(values)), 0))


def _spans_decades(values: Array) -> bool:
    low, high = float(values.min()), float(values.max())
    return low > 0.0 and high > DECADES * low


def _axis(data: JournalData, name: str) -> dict[str, Any]:
    """Return the kind of axis that a parameter has."""
    parameter = None if data.space is None else data.space.parameter(name)
    if isinstance(parameter, Choice):
        return {"type": "category"}
    return {"type": "log", "exponentformat": "power"} if getattr(parameter, "log", False) else {}


def _drawable(value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text(value)


def _dimension(name: str, column: list[Any], log: bool) -> dict[str, Any]:
    """Return an axis of the parallel coordinates; options of a Choice are numbered, and their names are ticks."""
    if not all(isinstance(v, (int, float)) for v in column):
        options = list(dict.fromkeys(column))
        numbers = [options.index(v) for v in column]
        return {"label": name, "values": numbers, "tickvals": list(range(len(options))), "ticktext": options}
    if not log:
        return {"label": name, "values": column}
    powers = [math.log10(v) for v in column]
    low, high = math.floor(min(powers)), math.ceil(max(powers))
    ticks = list(range(low, high + 1, max(1, (high - low) // 6)))
    return {"label": name, "values": powers, "tickvals": ticks, "ticktext": [f"1e{t}" for t in ticks]}


def _unit(seconds: float) -> tuple[str, float]:
    """Return a unit of time that suits a run of so many seconds."""
    for name, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds > 3 * size:
            return name, size
    return "seconds", 1.0
