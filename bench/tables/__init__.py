"""Published tables and their claims, joined with the records that measure them.

Reads results/published and folders of records; writes nothing, runs no model and never imports torch.
It knows methods only by the names that tables and records carry.
"""

from bench.tables.paths import published
from bench.tables.schema import Table, TableError, ids, load

__all__ = ["Table", "TableError", "ids", "load", "published"]
