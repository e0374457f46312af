"""Every route and page has one role."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from ramq.settings import Settings
from ramq.web.app import create_app
from ramq.web.render import WEB
from ramq.web.roles import ANYBODY, ROLE_OF, Roles, Route
from ramq.wiring import Services
from storage.accounts import ROLES
from storage.database import make_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    engine = make_engine("postgresql+psycopg://")
    yield create_app(Services(Settings(), engine, None, is_reachable=False))
    engine.dispose()


def routes_of(app: FastAPI) -> Iterator[str]:
    """What the application itself answers, found without our table."""
    for route in app.routes:
        for one in getattr(getattr(route, "original_router", None), "routes", [route]):
            for method in set(getattr(one, "methods", None) or ()) - {"HEAD"}:
                yield Route(method, one.path).name


def test_every_route_has_exactly_one_role_and_every_role_a_route(app: FastAPI) -> None:
    routes = set(routes_of(app))
    assert len(routes) > 100
    without = sorted(routes - set(ROLE_OF) - ANYBODY)
    assert without == [], "add them to the table in ramq/web/roles.py"
    assert sorted((set(ROLE_OF) | ANYBODY) - routes) == [], "they are no routes"
    table = (WEB / "roles.py").read_text()
    counted = Counter(re.findall(r"^(?:GET|POST|PUT|PATCH|DELETE) /.*$", table, re.MULTILINE))
    assert set(counted) == set(ROLE_OF)
    assert set(counted.values()) == {1}


def test_the_role_is_that_of_the_route_which_answers(app: FastAPI) -> None:
    roles: Roles = app.state.roles
    assert {route.name for route in roles.routes} == set(routes_of(app))
    for route in roles.routes:
        path = re.sub(r"{\w+:path}", "a/b", route.path)
        path = re.sub(r"{\w+}", "7", path)
        assert roles.needed(route.method, path) == ROLE_OF.get(route.name), path


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/v1/jobs", "look"),
        ("HEAD", "/", "look"),
        ("OPTIONS", "/v1/jobs", "look"),
        ("GET", "/nothing/here", "look"),
        ("GET", "/healthz", None),
        ("HEAD", "/healthz", None),
        ("POST", "/login", None),
        ("POST", "/v1/search/image", "look"),
        ("POST", "/logout", "look"),
        ("POST", "/v1/jobs", "run"),
        ("POST", "/v1/jobs/", "run"),
        ("POST", "/v1/stages/locate/estimate", "run"),
        ("POST", "/v1/stages/generations/3/use", "admin"),
        ("GET", "/v1/datasets", "look"),
        ("POST", "/v1/datasets", "run"),
        ("POST", "/v1/datasets/pets/correct", "run"),
        ("POST", "/v1/datasets/pets/cancel", "run"),
        ("DELETE", "/v1/datasets/pets", "admin"),
        ("POST", "/datasets/pets/review", "correct"),
        ("POST", "/datasets/pets/pause", "run"),
        ("DELETE", "/v1/images/3", "admin"),
        ("DELETE", "/v1/jobs/7", "admin"),
        ("POST", "/v1/jobs/../images/3", "admin"),
        ("POST", "/v1/something/new", "admin"),
        ("PUT", "/v1/jobs", "admin"),
        ("SPELL", "/v1/jobs", "admin"),
        ("PUT", "/v1/images/3/tags/a/b", "correct"),
        ("DELETE", "/v1/images/3/text/corrections/", "admin"),
        ("DELETE", "/v1/images/3/text", "admin"),
        ("GET", "/users", "admin"),
        ("HEAD", "/v1/tokens", "admin"),
        ("GET", "/users/", "admin"),
    ],
)
def test_what_changes_more_needs_more(app: FastAPI, method: str, path: str, role: str | None) -> None:
    roles: Roles = app.state.roles
    assert roles.needed(method, path) == role


def test_a_route_that_is_not_in_the_table_is_for_admins() -> None:
    roles = Roles([Route("GET", "/new"), Route("POST", "/new")])
    assert roles.needed("GET", "/new") == roles.needed("POST", "/new") == "admin"


def test_the_openapi_document_names_the_role_of_each_operation(app: FastAPI) -> None:
    document: dict[str, Any] = app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = Route(method.upper(), path).name
            if name in ANYBODY:
                assert operation["security"] == []
            else:
                assert operation["security"][0] == {"token": [ROLE_OF[name]]}
                assert operation["description"].endswith(f"Role: `{ROLE_OF[name]}`.")


def test_templates_ask_for_roles_that_there_are() -> None:
    asked = {
        (file.name, role)
        for file in (WEB / "templates").iterdir()
        for role in re.findall(r"""may\(["'](\w+)["']\)""", file.read_text())
    }
    assert asked
    assert {(name, role) for name, role in asked if role not in ROLES} == set(), f"the roles are {', '.join(ROLES)}"
