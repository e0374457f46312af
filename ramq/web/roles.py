"""Which role each route and page needs. A route that is not in this table needs ``admin``, and a test names it.

Each role includes those before it:

* ``look`` searches, and sees images, jobs and data sets.
* ``correct`` also says what is right: tags, text, regions, reviews.
* ``run`` also starts and controls jobs and steps of data sets, and teaches tags.
* ``admin`` also erases, sets tag rules, chooses the generation in use, renames archives, and manages users
  and their quotas.

``ANYBODY`` is for what is needed without a token, or before there is one. Events of watches come with a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi.routing import APIRoute
from starlette.routing import compile_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastapi import APIRouter

    from storage.accounts import Role

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}

ANYBODY = frozenset({"GET /healthz", "GET /readyz", "GET /login", "POST /login", "POST /v1/watches/{watch_id}/events"})

_LOOK = """
GET /v1/openapi.json
GET /v1/jobs
GET /v1/jobs/{job_id}
GET /v1/jobs/{job_id}/failures
GET /v1/jobs/{job_id}/report
GET /v1/jobs/{job_id}/report/lines
GET /v1/jobs/{job_id}/events
GET /v1/workers
GET /v1/quotas/mine
GET /v1/backlog
GET /v1/watches
GET /v1/watches/{watch_id}
GET /v1/search
POST /v1/search/image
GET /v1/tags
GET /v1/export
GET /v1/images/{image_id}
GET /v1/images/{image_id}/thumbnail
GET /v1/images/{image_id}/original
GET /v1/images/{image_id}/text
GET /v1/images/{image_id}/regions
GET /v1/images/{image_id}/regions/{number}/crop
GET /v1/duplicates
GET /v1/duplicates/near
GET /v1/duplicates/near/state
GET /v1/duplicates/near/export
GET /v1/missing
GET /v1/keywords
GET /v1/keywords/acts
GET /v1/keywords/acts/{act_id}
GET /v1/archives
GET /v1/policies
GET /v1/index
GET /v1/generations
GET /v1/generations/compare
GET /v1/stages
GET /v1/training
GET /v1/training/{name}
GET /v1/datasets
GET /v1/datasets/{name}
GET /v1/datasets/{name}/versions
GET /v1/datasets/{name}/compare
GET /v1/datasets/{name}/cleaned
GET /v1/datasets/{name}/images/{image_id}
GET /v1/datasets/{name}/review
GET /v1/datasets/{name}/review/tags/{tag}
GET /v1/datasets/{name}/review/images/{image_id}/crop/{tag}
GET /v1/teach
GET /metrics
GET /
POST /search/image
GET /pictures/{name}
GET /suggest
GET /suggest/tags
GET /images/{image_id}
GET /jobs
GET /jobs/{job_id}
GET /jobs/{job_id}/failures
GET /generations
GET /training
GET /archives
GET /archives/policies
GET /duplicates
GET /missing
GET /keywords
GET /keywords/acts/{act_id}
GET /datasets
GET /datasets/{name}
GET /datasets/{name}/review
GET /teach
GET /docs
POST /logout
"""

_CORRECT = """
PUT /v1/images/{image_id}/tags/{tag}
DELETE /v1/images/{image_id}/tags/{tag}
POST /v1/images/{image_id}/text/corrections
DELETE /v1/images/{image_id}/text/corrections/{correction_id}
POST /v1/images/{image_id}/regions/corrections
DELETE /v1/images/{image_id}/regions/corrections/{correction_id}
POST /v1/datasets/{name}/review/tags/{tag}
POST /v1/keywords/acts
POST /v1/keywords/acts/{act_id}/continue
POST /v1/keywords/acts/{act_id}/undo
POST /v1/keywords/acts/{act_id}/redo
POST /v1/keywords/rename
PUT /v1/images/{image_id}/keywords/{word}
DELETE /v1/images/{image_id}/keywords/{word}
POST /keywords
POST /keywords/rename
POST /keywords/acts/{act_id}/{step}
POST /images/{image_id}/keywords
POST /images/{image_id}/tags
POST /images/{image_id}/text
POST /images/{image_id}/regions
POST /datasets/{name}/review
POST /v1/images/{image_id}/continue
POST /missing/{image_id}
"""

_RUN = """
POST /v1/watches
DELETE /v1/watches/{watch_id}
POST /v1/watches/{watch_id}/pause
POST /v1/watches/{watch_id}/resume
POST /v1/watches/{watch_id}/secret
POST /archives/watches
POST /archives/watches/{watch_id}/{action}
POST /v1/jobs
POST /v1/estimates
POST /v1/jobs/{job_id}/pause
POST /v1/jobs/{job_id}/resume
POST /v1/jobs/{job_id}/cancel
POST /v1/jobs/{job_id}/retry
POST /v1/stages/{stage}/jobs
POST /v1/duplicates/near/search
POST /duplicates/search
POST /v1/stages/{stage}/estimate
POST /v1/datasets
POST /v1/datasets/{name}/generate
POST /v1/datasets/{name}/clean
POST /v1/datasets/{name}/correct
POST /v1/datasets/{name}/{action}
POST /v1/teach
POST /v1/teach/suggestions
POST /jobs
POST /jobs/{job_id}/{action}
POST /datasets/{name}/{action}
POST /teach
"""

_ADMIN = """
DELETE /v1/images/{image_id}
GET /v1/erasures
POST /v1/erasures/{deletion_id}/resume
POST /v1/erasures/{deletion_id}/withdraw
PATCH /v1/archives/{archive_id}
DELETE /v1/archives/{archive_id}
PUT /v1/policies/{tag}
DELETE /v1/policies/{tag}
POST /v1/generations/{generation_id}/use
POST /v1/generations/rollback
DELETE /v1/generations/{generation_id}
POST /v1/stages/generations/{generation_id}/use
DELETE /v1/stages/generations/{generation_id}
DELETE /v1/datasets/{name}
GET /v1/users
POST /v1/users
PATCH /v1/users/{name}
DELETE /v1/users/{name}
GET /v1/users/history
GET /v1/tokens
POST /v1/users/{name}/tokens
DELETE /v1/tokens/{token_id}
POST /images/{image_id}/delete
POST /archives/{archive_id}/rename
POST /archives/{archive_id}/remove
POST /archives/policies
POST /generations/{generation_id}/use
POST /generations/rollback
POST /generations/{generation_id}/drop
POST /generations/stages/{generation_id}/use
POST /generations/stages/{generation_id}/drop
GET /v1/quotas
GET /v1/quotas/use
PUT /v1/quotas/{kind}
DELETE /v1/quotas/{kind}
GET /users
POST /users
GET /users/history
POST /users/quotas
POST /users/{name}
POST /users/{name}/tokens
POST /tokens/{token_id}/revoke
"""

_TABLE: tuple[tuple[Role, str], ...] = (("look", _LOOK), ("correct", _CORRECT), ("run", _RUN), ("admin", _ADMIN))
ROLE_OF: Mapping[str, Role] = {route: role for role, routes in _TABLE for route in routes.split("\n") if route}
"""The role of each route, which is its method and its path with the names of its parameters."""


class Route(NamedTuple):
    """A method and a path, such as ``/v1/images/{image_id}/tags/{tag:path}``."""

    method: str
    path: str

    @property
    def name(self) -> str:
        """The name in the table: without the types of the parameters."""
        return f"{self.method} {re.sub(r':[a-z]+}', '}', self.path)}"


class Roles:
    """The role that a request needs, by the route that will answer it: the first one that matches, as in the router.

    Args:
        routes: those that are in no router.
    """

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.routes = list(routes)
        self._of: dict[str, tuple[re.Pattern[str], list[str]]] = {}

    def add(self, router: APIRouter) -> None:
        """Add the routes of a router. The order is that in which the application includes the routers."""
        for route in router.routes:
            assert isinstance(route, APIRoute)
            self.routes += (Route(method, route.path) for method in sorted(route.methods or ()))
        self._of = {}

    def needed(self, method: str, path: str) -> Role | None:
        """Return the role that a request needs; None: it needs no token.

        Args:
            method: of the request.
            path: decoded, as the router gets it.
        """
        if method not in _METHODS:
            return "admin"
        method = "GET" if method == "HEAD" else method
        name = self._name(method, path) or self._name(method, path.rstrip("/"))
        if name is None:
            # No route answers it: it leads to an error, or to the static files.
            return "look" if method in SAFE_METHODS else "admin"
        return None if name in ANYBODY else ROLE_OF.get(name, "admin")

    def _name(self, method: str, path: str) -> str | None:
        if method not in self._of:
            routes = [route for route in self.routes if route.method == method]
            # One expression for all of them, since it is matched with every request.
            either = "|".join(f"(?P<_{at}>{_pattern(route.path)})" for at, route in enumerate(routes))
            self._of[method] = (re.compile(either or "(?!)"), [route.name for route in routes])
        pattern, names = self._of[method]
        found = pattern.match(path)
        return None if found is None or found.lastgroup is None else names[int(found.lastgroup[1:])]


def _pattern(path: str) -> str:
    """Return the router's own regular expression for a path, without the names of its groups."""
    return re.sub(r"\(\?P<\w+>", "(?:", compile_path(path)[0].pattern)


def describe(document: dict[str, Any], *, needs_tokens: bool) -> None:
    """Write into an OpenAPI document which role each operation needs.

    Args:
        document: of the application.
        needs_tokens: False: requests may need none, since no user has one yet.
    """
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = Route(method.upper(), path).name
            if name in ANYBODY:
                operation["security"] = []
                continue
            role = ROLE_OF.get(name, "admin")
            operation["security"] = [{"token": [role]}, *([] if needs_tokens else [{}])]
            operation["description"] = f"{operation.get('description', '')}\n\nRole: `{role}`.".strip()
