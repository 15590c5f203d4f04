"""A test's names go to production's endpoints, and what does not is listed, never dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobius_pipeline.errors import UsageError
from mobius_pipeline.imports.routes import Match, RouteMatcher, Template, clean_name, load_rules

SHOP = [
    Template("shop", "GET", "/catalog/{item_id}"),
    Template("shop", "GET", "/catalog/new"),
    Template("shop", "GET", "/files/{path:path}"),
    Template("shop", "GET", "/search"),
    Template("shop", "POST", "/checkout"),
    Template("shop", "GET", "/a/{x}/c"),
    Template("shop", "GET", "/a/b/{y}"),
    Template("stock", "GET", "/levels/{sku}"),
    Template("shop", "GET", "/health"),
    Template("stock", "GET", "/health"),
    Template("pay", "grpc", "pay.Payment/Charge"),
]


@pytest.mark.parametrize(
    ("method", "name", "route", "service"),
    [
        ("GET", "GET /catalog/{item_id}", "/catalog/{item_id}", "shop"),
        ("GET", "/catalog/[id]", "/catalog/{item_id}", "shop"),
        ("GET", "/catalog/:id", "/catalog/{item_id}", "shop"),
        ("GET", "/catalog/<int:id>", "/catalog/{item_id}", "shop"),
        ("GET", "/catalog/${}", "/catalog/{item_id}", "shop"),
        ("GET", "http://127.0.0.1:8077/catalog/5?ref=a#top", "/catalog/{item_id}", "shop"),
        ("get", "/catalog/5/", "/catalog/{item_id}", "shop"),
        ("GET", "/catalog/new", "/catalog/new", "shop"),
        ("", "POST /checkout", "/checkout", "shop"),
        ("GET", "https://h/files/a/b/c.txt", "/files/{path:path}", "shop"),
        ("GET", "/files/{name}", "/files/{path:path}", "shop"),
        ("", "GET /files/:name", "/files/{path:path}", "shop"),
        ("GET", "/levels/7", "/levels/{sku}", "stock"),
        ("grpc", "pay.Payment/Charge", "pay.Payment/Charge", "pay"),
    ],
)
def test_names_and_urls_find_their_template(
    method: str, name: str, route: str, service: str
) -> None:
    match = RouteMatcher(SHOP).match(method, name)
    assert (match.route, match.service, match.reason) == (route, service, None)


@pytest.mark.parametrize(
    ("method", "name", "route", "reason", "closest"),
    [
        ("GET", "search", "search", "no_template_fits", "GET /search"),
        ("GET", "/serch", "/serch", "no_template_fits", "GET /search"),
        ("GET", "/checkout", "/checkout", "no_template_fits", "POST /checkout"),
        ("GET", "/x/[id]", "/x/{id}", "no_template_fits", None),
        ("GET", "/a/b/c", "/a/b/c", "ambiguous", "shop: GET /a/b/{y} | shop: GET /a/{x}/c"),
        ("GET", "/health", "/health", "ambiguous", "shop: GET /health | stock: GET /health"),
    ],
)
def test_what_does_not_fit_keeps_its_name_and_says_why(
    method: str, name: str, route: str, reason: str, closest: str | None
) -> None:
    match = RouteMatcher(SHOP).match(method, name)
    assert match == Match(method, route, None, reason, closest)  # type: ignore[arg-type]  # reason is its literal


def test_without_production_the_tools_template_stands_and_a_url_does_not() -> None:
    matcher = RouteMatcher([])
    assert matcher.match("GET", "GET /catalog/[id]") == Match("GET", "/catalog/{id}")
    assert matcher.match("GET", "search") == Match("GET", "search")
    url = matcher.match("GET", "http://h/nope?a=1")
    assert url == Match("GET", "/nope", reason="no_production_template")


def test_names_lose_host_query_and_method() -> None:
    assert clean_name("GET", "https://u:p@h:1/a/b?token=s#f") == ("GET", "/a/b", True)
    assert clean_name("GET", "http://h") == ("GET", "/", True)
    assert clean_name("POST", "GET /a") == ("POST", "GET /a", False)
    assert clean_name("GET", "/a?q=1") == ("GET", "/a", False)


def test_rules_come_first(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        '[[route]]\nname = "search"\nroute = "/search"\n'
        '[[route]]\npattern = "/old/.*"\nmethod = "get"\nroute = "/catalog/{item_id}"\nservice = "legacy"\n'
    )
    matcher = RouteMatcher(SHOP, load_rules(path))
    assert matcher.match("GET", "search") == Match("GET", "/search", "shop")
    assert matcher.match("GET", "http://h/old/7") == Match("GET", "/catalog/{item_id}", "legacy")
    assert matcher.match("POST", "/old/7").reason == "no_template_fits"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "is not TOML"),
        ("", "needs tables"),
        ("[[route]]\nname = 'a'\n", "needs route"),
        ("[[route]]\nname = 'a'\npattern = 'b'\nroute = '/c'\n", "either name"),
        ("[[route]]\npattern = '('\nroute = '/c'\n", "no regular expression"),
        ("[[route]]\nname = 'a'\nroute = '/c'\nverb = 'x'\n", "unknown key 'verb'"),
        ("[[route]]\nname = 1\nroute = '/c'\n", "table of texts"),
        ("a = " + "9" * 5_000, "is not TOML"),
        ("a = " + "[" * 5_000 + "]" * 5_000, "is not TOML"),
        ("[[route]]\npattern = ''\nroute = '/c'\n", "either name"),
        ("[[route]]\nname = ''\nroute = '/c'\n", "either name"),
        ("[[route]]\npattern = 'a{99999999999}'\nroute = '/c'\n", "no regular expression"),
        ("[[route]]\npattern = '" + "(" * 5_000 + "'\nroute = '/c'\n", "no regular expression"),
    ],
)
def test_wrong_rules_are_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=problem):
        load_rules(path)
