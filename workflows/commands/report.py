"""Report of a folder of results, written anew."""

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.commands.opened import open_results
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.report import write_report


def report_results(path: Path) -> Mapping[str, int]:
    """Write ``index.html`` and ``index_files/`` of a folder of results.

    A run may be at work in the folder.

    Args:
        path: folder of results.

    Returns:
        Number of slides by status.

    Raises:
        UsageError: if the folder holds no results, or the page cannot be written.
    """
    results = ResultsFolder(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a table that is made from the results is as good
        opened = open_results(path)
        table, regions = opened.table(), opened.region_table()
    try:
        write_report(results, table, regions, at_work=results.lease.exists())
    except (StoreError, OSError) as error:
        raise UsageError(str(error)) from error
    return Counter(table["status"].to_pylist())
