"""Import the generated test runs through the product's own importer, one run a file."""

from __future__ import annotations

from mobius_infra.demo import shop
from mobius_infra.demo.history_runs import RunFile
from mobius_instrumentation.zones import Zone

__all__ = ["import_runs"]


def import_runs(zone: Zone, files: list[RunFile]) -> int:
    """Import the files and return how many runs they were.

    Raises
    ------
    UsageError
        The importer refused a file.
    DependencyError
        A store does not answer.
    """
    from mobius_pipeline.imports.synthetic import import_synthetic

    for one in files:
        import_synthetic(
            zone,
            [one.file],
            region=one.run.region,
            test=shop.TEST_NAME,
            service=shop.SERVICE_STOREFRONT,
            release=one.run.version,
            environment=shop.ENVIRONMENT,
            generated=True,
        )
    return len(files)
