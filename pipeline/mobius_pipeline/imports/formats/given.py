"""What the caller says of a run because its file does not: when it began, what it asked for, how many requests."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from mobius_pipeline.errors import UsageError
    from mobius_pipeline.imports.content import Content

__all__ = ["METHODS", "Given", "Option"]

Option = Literal["started", "url", "method", "name", "target", "requests", "generator"]
METHODS: Final = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT|QUERY"
_PREFIXED: Final = re.compile(rf"({METHODS})\s+(\S.*)", re.IGNORECASE)
_WHAT: Final[dict[Option, str]] = {
    "started": "when it began (--started, such as 2026-11-23T17:00:00Z)",
    "url": "what it asked for (--url, or --name)",
    "method": "by which method (--method)",
    "target": "of which target (--target)",
    "requests": "how many requests were made (--requests, or the text that the tool printed beside it)",
    "generator": "which service sent the requests (--generator)",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller said; None where nothing. ``started`` is microseconds since 1970."""

    started: int | None = None
    url: str | None = None
    method: str | None = None
    name: str | None = None
    target: str | None = None
    requests: int | None = None
    generator: str | None = None

    def options(self) -> frozenset[Option]:
        """Return the options that were given."""
        return frozenset(
            option.name  # type: ignore[misc]  # the fields are the options
            for option in fields(self)
            if getattr(self, option.name) is not None
        )

    def start(self, content: Content, tool: str) -> int:
        """Return when the run began, in microseconds since 1970.

        Raises
        ------
        UsageError
            The caller did not say so.
        """
        if self.started is None:
            raise self._lacking(content, tool, ["started"])
        return self.started

    def start_and_endpoint(
        self, content: Content, tool: str, url: str | None = None
    ) -> tuple[int, tuple[str, str]]:
        """Return when the run began, and its method and name as :meth:`endpoint` does.

        Raises
        ------
        UsageError
            Something is missing (the error asks for all of it at once), or the file says another URL.
        """
        if self.started is None:
            raise self._lacking(content, tool, ["started", *self._missing(url)])
        return self.started, self.endpoint(content, tool, url)

    def endpoint(self, content: Content, tool: str, url: str | None = None) -> tuple[str, str]:
        """Return method and name of the requests of a file that is about one URL.

        ``url`` is what the file itself says of it. A name that was given stands for whatever the file was
        about, so its method may stay open; a URL needs one.

        Raises
        ------
        UsageError
            Something is missing, or the file says another URL than the caller.
        """
        if url and self.url and _bare(url) != _bare(self.url):
            problem = f"the file is about {url[:200]}, not about {self.url[:200]}: leave --url out"
            raise self._wrong(content, problem, "url")
        if missing := self._missing(url):
            raise self._lacking(content, tool, missing)
        named = self.name or self.url or url or ""
        prefixed = _PREFIXED.fullmatch(named)
        if prefixed and self.method and prefixed[1].upper() != self.method.upper():
            problem = f"{named[:200]!r} names another method than {self.method}"
            raise self._wrong(content, problem, "method")
        if prefixed:
            return prefixed[1].upper(), prefixed[2]
        return (self.method or "").upper(), named

    def _missing(self, url: str | None) -> list[Option]:
        if self.name:
            return []
        stated = self.url or url
        missing: list[Option] = [] if stated else ["url"]
        if not self.method and not (stated and _PREFIXED.fullmatch(stated)):
            missing.append("method")
        return missing

    def _lacking(self, content: Content, tool: str, missing: list[Option]) -> UsageError:
        wanted = ", ".join(_WHAT[option] for option in missing)
        return self._wrong(content, f"{tool} does not say {wanted}", missing[0])

    def start_and_target(self, content: Content, tool: str) -> tuple[int, str]:
        """Return when the run began and which target was probed.

        Raises
        ------
        UsageError
            The caller did not say so; asks for both at once.
        """
        if self.started is None or self.target is None:
            missing: list[Option] = [] if self.started is not None else ["started"]
            missing += [] if self.target is not None else ["target"]
            raise self._lacking(content, tool, missing)
        return self.started, self.target

    def need_requests(self, content: Content, tool: str) -> int:
        """Return how many requests were made.

        Raises
        ------
        UsageError
            The caller did not say so.
        """
        if self.requests is None:
            raise self._lacking(content, tool, ["requests"])
        return self.requests

    def _wrong(self, content: Content, problem: str, option: Option) -> UsageError:
        error = content.wrong(problem)
        return type(error)(problem, file=error.file, field=f"--{option}")


def _bare(url: str) -> str:
    """Return a URL without method and without the slash at its end, so that like ones are equal."""
    prefixed = _PREFIXED.fullmatch(url.strip())
    return (prefixed[2] if prefixed else url.strip()).rstrip("/")
