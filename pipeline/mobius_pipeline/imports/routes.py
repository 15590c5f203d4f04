"""Which production endpoint a test's request name or URL means.

In this order: the rules file; a production template that equals the name once brackets are alike; a
production template that fits the path. Where production has no template yet, the tool's own name tag
stands. What stays unmatched keeps its own name as route, is counted, and is listed with the nearest template.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote

from mobius_pipeline.errors import UsageError

__all__ = ["Match", "Reason", "RouteMatcher", "Rule", "Template", "clean_name", "load_rules"]

Reason = Literal["no_template_fits", "ambiguous", "no_production_template"]
"""Why a name is unmatched: none of production's templates fits; several do; production has none yet and the
name is a plain URL."""

_METHODS: Final = r"GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT|QUERY"
_PREFIX: Final = re.compile(rf"({_METHODS})\s+(\S.*)", re.IGNORECASE | re.DOTALL)
_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*([^?#]*)")
# {id}, {id:path}, [id], :id, <id>, <int:id>, <path:id>; k6 and Locust people also write ${id}.
_PARAMETER: Final = re.compile(
    r"\$?\{(?P<a>[^{}/:]*)(?::(?P<ak>[^{}/]*))?\}|\[(?P<b>[^\[\]/]*)\]|(?<=/):(?P<c>[A-Za-z_]\w*)"
    r"|<(?:(?P<dk>[^<>/:]*):)?(?P<d>[^<>/]*)>"
)


@dataclass(frozen=True, slots=True)
class Template:
    """One endpoint as production's spans name it."""

    service: str
    method: str
    route: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of the rules file: names that match go to ``route`` (and ``service``)."""

    pattern: re.Pattern[str]
    method: str | None
    route: str
    service: str | None


@dataclass(frozen=True, slots=True)
class Match:
    """What a name means. ``reason`` is None when it was matched; ``service`` None when it is not known."""

    method: str
    route: str
    service: str | None = None
    reason: Reason | None = None
    closest: str | None = None


def clean_name(method: str, name: str) -> tuple[str, str, bool]:
    """Return method, path or name without method prefix, host and query, and whether it was a full URL."""
    text = name.strip()
    if (prefix := _PREFIX.fullmatch(text)) and (not method or method.upper() == prefix[1].upper()):
        method, text = prefix[1], prefix[2].strip()
    url = _URL.match(text)
    if url:
        text = url[1] or "/"
    elif text.startswith("/"):
        text = re.split(r"[?#]", text, maxsplit=1)[0]
    return method.upper(), text, url is not None


class RouteMatcher:
    """Matches names of requests to production's templates."""

    def __init__(self, templates: Iterable[Template], rules: Sequence[Rule] = ()) -> None:
        self._templates = sorted(set(templates), key=lambda t: (t.service, t.method, t.route))
        self._rules = rules
        self._by_form: dict[tuple[str, str], list[Template]] = {}
        self._by_loose_form: dict[tuple[str, str], list[Template]] = {}
        for template in self._templates:
            key = (template.method.upper(), _form(template.route))
            self._by_form.setdefault(key, []).append(template)
            if _loose(key[1]) != key[1]:
                self._by_loose_form.setdefault((key[0], _loose(key[1])), []).append(template)
        self._patterns = [
            (t, _pattern(t.route)) for t in self._templates if t.route.startswith("/")
        ]

    def match(self, method: str, name: str) -> Match:
        """Find the endpoint that ``name`` means, see the module's text."""
        method, text, was_url = clean_name(method, name)
        for rule in self._rules:
            if (not method or rule.method in (None, method)) and rule.pattern.fullmatch(text):
                return self._by_rule(rule, method or rule.method or "")
        own = _braces(text)
        if not self._templates:
            return Match(method, own, reason="no_production_template" if was_url else None)
        found = self._of_form(method, text) or self._fitting(method, text)
        endpoints = {(template.method.upper(), template.route) for template in found}
        if len(endpoints) == 1:
            services = {template.service for template in found}
            ((found_method, route),) = endpoints
            if len(services) == 1:
                return Match(found_method, route, services.pop())
            return Match(found_method, route, reason="ambiguous", closest=_listed(found))
        if endpoints:
            return Match(method, own, reason="ambiguous", closest=_listed(found))
        return Match(method, own, reason="no_template_fits", closest=self._closest(method, own))

    def _by_rule(self, rule: Rule, method: str) -> Match:
        """The endpoint that a rule names; what it leaves open is production's, where that has one only."""
        found = self._of_form(method, rule.route)
        methods = {template.method.upper() for template in found}
        method = method or (methods.pop() if len(methods) == 1 else "")
        services = {template.service for template in found}
        service = rule.service or (services.pop() if len(services) == 1 else None)
        return Match(method, rule.route, service)

    def _of_form(self, method: str, text: str) -> list[Template]:
        """Templates that equal ``text`` once brackets are alike; of any method where the tool names none.

        A tool's ``{name}`` means production's ``{name:path}`` too where no template has a plain parameter there:
        tools' names don't have converters.
        """
        for forms, form in ((self._by_form, _form(text)), (self._by_loose_form, _form(text))):
            found = (
                forms.get((method, form), [])
                if method
                else [t for (_, known), each in forms.items() if known == form for t in each]
            )
            if found:
                return found
        return []

    def _fitting(self, method: str, path: str) -> list[Template]:
        """Templates whose pattern fits ``path``: those with the fewest parameters, as routers choose."""
        if _PARAMETER.search(path) or not path.startswith("/"):
            return []  # a template of its own, which must equal one of production's
        paths = {path, unquote(path)}
        fitting = [
            template
            for template, pattern in self._patterns
            if method in {"", template.method.upper()} and any(map(pattern.fullmatch, paths))
        ]
        fewest = min((_freedom(t.route) for t in fitting), default=(0, 0))
        return [template for template in fitting if _freedom(template.route) == fewest]

    def _closest(self, method: str, own: str) -> str | None:
        """Name the template most like ``own``: the same path by another method, or a like path."""
        wanted = own if own.startswith("/") else f"/{own}"
        near = [t for t in self._templates if _form(t.route) == _form(wanted)]
        if not near:
            routes = [t.route for t in self._templates]
            alike = difflib.get_close_matches(wanted, routes, n=1, cutoff=0.7)
            near = [t for t in self._templates if t.route in alike]
        near.sort(key=lambda t: t.method.upper() != method)
        return f"{near[0].method} {near[0].route}" if near else None


def load_rules(path: Path | None) -> tuple[Rule, ...]:
    """Read a rules file: TOML with tables ``[[route]]`` of name or pattern, route, and maybe method, service.

    Raises
    ------
    UsageError
        It cannot be read; names file and field.
    """
    if path is None:
        return ()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", file=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"is not TOML ({error})", file=str(path)) from error
    tables = document.get("route")
    if not isinstance(tables, list) or not tables or set(document) != {"route"}:
        raise UsageError("needs tables [[route]], and nothing else", file=str(path))
    return tuple(_rule(path, number, table) for number, table in enumerate(tables, 1))


def _rule(path: Path, number: int, table: Any) -> Rule:
    def wrong(problem: str) -> UsageError:
        return UsageError(problem, file=str(path), field=f"route {number}")

    known = {"name", "pattern", "method", "route", "service"}
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise wrong("must be a table of texts")
    if unknown := sorted(set(table) - known):
        raise wrong(f"unknown key {unknown[0][:40]!r}; known: {', '.join(sorted(known))}")
    if bool(table.get("name")) == bool(table.get("pattern")) or not table.get("route"):
        raise wrong("needs route, and either name (exact) or pattern (regular expression)")
    try:
        pattern = re.compile(table.get("pattern") or re.escape(table["name"]))
    except (re.error, OverflowError, RecursionError) as error:
        raise wrong(f"pattern is no regular expression ({error})") from error
    method = table.get("method")
    return Rule(pattern, method.upper() if method else None, table["route"], table.get("service"))


def _braces(text: str) -> str:
    """Write every parameter of a path as {name}; other names stay as they are."""
    if not text.startswith("/"):
        return text
    return _PARAMETER.sub(lambda m: "{" + (m["a"] or m["b"] or m["c"] or m["d"] or "") + "}", text)


def _form(text: str) -> str:
    """Write a template so that it no longer says how its parameters are called or bracketed."""
    if not text.startswith("/"):
        return text
    form = _PARAMETER.sub(lambda m: "{*}" if "path" in (m["ak"], m["dk"]) else "{}", text)
    return form.rstrip("/") or "/"


def _loose(form: str) -> str:
    """The form of a template as a tool writes it that knows no parameters of several segments."""
    return form.replace("{*}", "{}")


def _pattern(route: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\*?\})", _form(route))
    kinds = {"{}": "[^/]+", "{*}": ".+"}
    return re.compile("".join(kinds.get(part) or re.escape(part) for part in parts) + "/?")


def _freedom(route: str) -> tuple[int, int]:
    form = _form(route)
    return form.count("{*}"), form.count("{}")


def _listed(templates: Sequence[Template]) -> str:
    return " | ".join(f"{t.service}: {t.method} {t.route}" for t in templates[:5])
