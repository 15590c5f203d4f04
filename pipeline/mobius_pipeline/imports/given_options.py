"""What the options of an import of results say of a run in place of its file."""

from __future__ import annotations

from datetime import UTC, datetime

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.formats.given import Given
from mobius_pipeline.imports.formats.model import possible_time
from mobius_pipeline.options import parse_time

__all__ = ["given_of"]


def given_of(
    *,
    started: str | None,
    url: str | None,
    method: str | None,
    name: str | None,
    target: str | None,
    requests: int | None,
    generator: str | None,
) -> Given:
    """Read the options; ``started`` is ISO 8601, to the microsecond.

    Raises
    ------
    UsageError
        ``started`` is no time, or none that can be stored.
    """
    begin = None
    if started is not None:
        moment = parse_time(started, datetime.now(UTC), field="--started")
        try:
            begin = possible_time(round(moment.timestamp() * 1e6))
        except ValueError as error:
            raise UsageError(str(error), field="--started") from error
    return Given(
        started=begin,
        url=url,
        method=None if method is None else method.upper(),
        name=name,
        target=target,
        requests=requests,
        generator=generator,
    )
