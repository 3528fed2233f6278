"""The template environment: loaders, escaping, and the functions that templates may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.report import summary, text, views
from bench.report.figures import inline
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
    views.groups,
    views.published_text,
    views.place,
    views.ran,
    views.idle,
    views.heading,
    views.short,
    views.label,
    views.measured,
    views.missing,
    views.by_reason,
    views.earlier,
    views.picture,
    views.settings,
    views.notes,
    views.records,
    views.at_points,
    views.timing_settings,
    views.untold,
    views.by_subject,
    views.clocked,
    views.point_settings,
    views.judging,
    views.most_seeds,
    views.method_of,
    views.place_of,
    views.places,
    views.machines_in,
    views.machines_of,
    views.costs_of,
    summary.counts,
    views.agreements,
    views.reproduced,
    views.named,
    views.unmeasured,
    views.without,
    views.networks,
    views.scale,
    views.best_floors,
    text.cost_unit,
    text.costed,
    views.anchor,
    views.compared,
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
