"""A web server."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


async def greet(request: Request) -> Response:
    return JSONResponse({"hello": request.query_params.get("name", "world")})


async def health(request: Request) -> Response:
    return PlainTextResponse("ok\n")


app = Starlette(routes=[Route("/", greet), Route("/health", health)])
