from tables.conftest import write

__all__ = ["write"]
