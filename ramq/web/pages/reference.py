"""The page with the API reference."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from ramq.web.deps import templates_of

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def show_reference(request: Request) -> HTMLResponse:
    """Show the API reference, generated from the OpenAPI document."""
    return templates_of(request).show(request, "reference.html", openapi=request.app.openapi())
