"""What keeps Noctile's own processes from importing in vain; not those of others that use it as a library."""

import sys
from importlib.abc import MetaPathFinder

_UNUSED = "pandas"


class _Nowhere(MetaPathFinder):
    """Finds no pandas. pyarrow imports it for the first array that it makes, if it is installed, which takes 0.2 s.

    None in `sys.modules` would not do: compiled code takes that for the module.
    """

    @staticmethod
    def find_spec(fullname: str, _path: object, _target: object = None) -> None:
        """See `importlib.abc.MetaPathFinder`."""
        if fullname == _UNUSED:
            raise ModuleNotFoundError(f"Noctile has no use for {fullname}", name=fullname)


def import_nothing_in_vain() -> None:
    """From now on, in this process."""
    sys.meta_path.insert(0, _Nowhere())
