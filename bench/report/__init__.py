"""Rendering: published tables and stored records to Markdown and one self-contained page.

A pure function of files: no clock, no model, no accelerator, and never torch.
It decides nothing: figures come from bench.tables.join, wording and layout from the templates.
"""

from bench.report.render import render

__all__ = ["render"]
