"""The template environment: loaders, escaping, and the functions that templates may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.report import summary, text
from bench.report.figures import inline
from bench.report.views import counted, floors, judged, printed, recorded, timed
from bench.tables.comparison import accuracies, described
from bench.tables.newcomer import is_new
from bench.tables.speeds import interval, joules, throttled

FILTERS: tuple[Callable[..., Any], ...] = (
    text.significant,
    text.percent,
    text.points,
    text.span,
    text.figure,
    text.ends,
    text.statistic,
    text.with_unit,
    text.margin,
    text.bounds,
    text.fixed,
    text.between,
    text.policy,
    text.seeds,
    interval,
    throttled,
    joules,
)
HELPERS: tuple[Callable[..., Any], ...] = (
    printed.groups,
    printed.published_text,
    printed.place,
    judged.ran,
    judged.idle,
    printed.heading,
    printed.short,
    printed.label,
    judged.measured,
    judged.missing,
    judged.by_reason,
    judged.earlier,
    judged.picture,
    judged.intervals,
    judged.single_classes,
    recorded.settings,
    recorded.notes,
    recorded.records,
    recorded.own_records,
    recorded.sharing,
    timed.at_points,
    timed.timing_settings,
    timed.untold,
    timed.unsettled,
    timed.by_subject,
    judged.clocked,
    judged.point_settings,
    judged.judging,
    recorded.most_seeds,
    printed.method_of,
    timed.place_of,
    timed.places,
    timed.machines_in,
    timed.machines_of,
    recorded.costs_of,
    summary.counts,
    summary.superseded,
    counted.agreements,
    counted.reproduced,
    floors.named,
    floors.unmeasured,
    floors.without,
    recorded.networks,
    recorded.scale,
    floors.best_floors,
    text.cost_unit,
    text.costed,
    printed.anchor,
    printed.compared,
    is_new,
    inline,
    described,
    accuracies,
)


def environment(escape: bool) -> Environment:
    """The environment of a page; escape: whether values are escaped for HTML (Markdown templates say `md` themselves).

    An undefined name is an error, never an empty text.
    """
    found = Environment(
        loader=PackageLoader("bench.report"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update({function.__name__: function for function in FILTERS}, md=text.markdown)
    found.globals.update({function.__name__: function for function in HELPERS})
    return found
