"""Routes for load balancers, orchestrators and Prometheus.

The first two need none of the threads that answer other requests: a server with much to do is not taken for a dead one.
"""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ramq.readiness import is_ok
from ramq.web.callers import caller_in
from ramq.web.deps import ServicesDep

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Return `ok` if the process is alive."""
    return "ok"


@router.get("/readyz", responses={503: {"description": "a required service is unavailable"}})
async def readyz(request: Request, services: ServicesDep) -> JSONResponse:
    """Return each required service with `ok`, or with its error. The status is 503 unless all are `ok`.

    `search` is only there with a standby. While searches read the database instead, it says `ok:` and why.
    """
    states = await request.app.state.readiness.run(services.ready)
    is_ready = all(map(is_ok, states.values()))
    caller = caller_in(request)
    if caller.token is None and caller.needs_token:
        # Without a token, do not send the errors, because they contain host and user names.
        states = {name: "ok" if is_ok(state) else "not ready" for name, state in states.items()}
    return JSONResponse(states, status_code=200 if is_ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Return the metrics in the text format of Prometheus.

    While the database is away, a user's token cannot be checked. Then only `ramq_service_up` is returned.
    """
    found = request.app.state.metrics
    is_unsure = caller_in(request).is_unsure
    return Response(found.text_of_services() if is_unsure else found.text(), media_type=CONTENT_TYPE_LATEST)
