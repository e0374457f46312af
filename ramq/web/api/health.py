"""What load balancers, orchestrators and Prometheus ask."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ramq.web.deps import ServicesDep

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    """The process lives and answers."""
    return "ok"


@router.get("/readyz", responses={503: {"description": "a service that is needed does not answer"}})
def readyz(request: Request, services: ServicesDep) -> JSONResponse:
    """Every service that is needed answers: name and `ok`, or what is wrong."""
    states = services.ready()
    is_ready = all(state == "ok" for state in states.values())
    if request.app.state.tokens.of(request) is None and request.app.state.tokens.are_set:
        # Without a token only the outline is told: reasons name hosts and users.
        states = {name: "ok" if state == "ok" else "not ready" for name, state in states.items()}
    return JSONResponse(states, status_code=200 if is_ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
