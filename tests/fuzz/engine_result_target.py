"""A whole import of a test's results into a real store: all of it, or nothing and an error made for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.synthetic import import_synthetic
from tests.fuzz.engine import close_engine, engine
from tests.fuzz.file_input import check_error, fresh_folder
from tests.fuzz.result_file_target import GIVEN, files_of
from tests.fuzz.result_file_target import seeds as file_seeds
from tests.fuzz.target import Target

__all__ = ["TARGET"]


def check(data: bytes) -> bool:
    """The store holds what the import says, also after a second import; a refused file leaves no row."""
    running = engine()
    running.clear()
    folder = fresh_folder()
    files = files_of(data)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    paths = [folder / next(iter(files))]
    try:
        result = import_synthetic(running.zone, paths, region="eu-west-1", test="t", given=GIVEN)
    except UsageError as error:
        check_error(error, *files)
        assert running.rows("SELECT count() FROM synthetic_results") == [(0,)]
        assert running.rows("SELECT count() FROM synthetic_runs") == [(0,)]
        return False
    result.document()
    again = import_synthetic(running.zone, paths, region="eu-west-1", test="t", given=GIVEN)
    assert again.already_imported
    assert running.rows("SELECT requests, failed FROM synthetic_runs") == [
        (result.requests, result.failed)
    ]
    # A tool's own figures are no requests: nothing of them goes into the rollup.
    counted = [(0, 0) if result.percentiles == "as_reported" else (result.requests, result.failed)]
    assert (
        running.rows("SELECT sum(requests), sumIf(requests, failed) FROM synthetic_results")
        == counted
    )
    assert running.rows("SELECT sum(requests), sum(errors) FROM latency_minute") == counted
    return True


def seeds() -> Sequence[bytes]:
    """Those of the files by themselves."""
    return file_seeds()


TARGET: Final = Target(check, seeds, close_engine)
