"""Where the published tables are: in a checkout, or inside an installed wheel."""

from pathlib import Path

import bench


def published() -> Path:
    """The folder of published tables: shipped in the package, or results/published of the checkout."""
    package = Path(bench.__file__).parent
    shipped = package / "_shipped" / "published"
    return shipped if shipped.is_dir() else package.parent / "results" / "published"
