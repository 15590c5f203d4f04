"""Import the generated test runs through the product's own importer, one run a file."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mobius_infra.demo import shop
from mobius_infra.demo.history_runs import RunFile
from mobius_instrumentation.zones import Zone

__all__ = ["import_runs"]

_AT_ONCE: Final = 4  # an import mostly waits for its store


def import_runs(files: Sequence[tuple[Zone, RunFile]]) -> int:
    """Import each file into its zone and return how many runs they were.

    Raises
    ------
    UsageError
        The importer refused a file.
    DependencyError
        A store does not answer.
    """
    # The zones' files take turns, so that their stores share the work.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        work = [pool.submit(_import, zone, file) for zone, file in _mixed(files)]
        try:
            return sum(done.result() for done in work)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _mixed(files: Sequence[tuple[Zone, RunFile]]) -> list[tuple[Zone, RunFile]]:
    return sorted(files, key=lambda item: item[1].run.start_ns)


def _import(zone: Zone, file: RunFile) -> int:
    from mobius_pipeline.imports.synthetic import import_synthetic

    import_synthetic(
        zone,
        [file.file],
        region=file.run.region,
        test=shop.TEST_NAME,
        service=shop.SERVICE_STOREFRONT,
        release=file.run.version,
        environment=shop.ENVIRONMENT,
        generated=True,
    )
    return 1
