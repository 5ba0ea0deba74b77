"""What keeps Noctile's own processes from importing in vain; not those of others that use it as a library."""

import sys
from importlib.abc import MetaPathFinder


class _NoPandas(MetaPathFinder):
    """Finds no pandas. None in `sys.modules` would not do: compiled code takes that for the module."""

    @staticmethod
    def find_spec(fullname: str, _path: object, _target: object = None) -> None:
        """See `importlib.abc.MetaPathFinder`."""
        if fullname == "pandas":
            raise ModuleNotFoundError(f"pyarrow needs no {fullname}", name=fullname)


def arrow_without_pandas() -> None:
    """Let pyarrow make its first array while there is no pandas: it would import that, if it is installed, in 0.2 s.

    It looks for it this once. Nobody else misses it.
    """
    import pyarrow  # noqa: PLC0415 - whoever calls this has said when imports are to be made

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pyarrow.array([0])
    finally:
        sys.meta_path.remove(finder)
