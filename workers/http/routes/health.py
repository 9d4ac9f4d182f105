"""Health and metrics: whether the process is alive, whether it can take commands, and its metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from domain.errors import TryAgain
from workers.http.document.responses import problem_responses
from workers.http.execution import Executor
from workers.http.shapes import answers

router = APIRouter(tags=["operation"])


@router.get("/healthz", responses={200: {"model": answers.Health}})
def healthz() -> JSONResponse:
    """Say that the process is alive."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", responses={200: {"model": answers.Health}, **problem_responses([TryAgain])})
def readyz(request: Request) -> JSONResponse:
    """Say whether commands can be taken: the database must answer."""
    executor: Executor = request.app.state.executor
    executor.reach_database()
    return JSONResponse({"status": "ready"})


@router.get("/metrics", response_class=Response)
def metrics() -> Response:
    """Return the metrics in Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
