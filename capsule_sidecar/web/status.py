"""For operators: liveness, readiness, metrics."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from capsule_sidecar.identity.tokens import Tokens
from capsule_sidecar.model.errors import PermissionDenied
from capsule_sidecar.web.metrics import CONTENT_TYPE, Metrics
from capsule_sidecar.web.operations import Operation
from capsule_sidecar.web.requests import JSON

_STATUS = {
    "type": "object",
    "properties": {"status": {"type": "string"}, "handlers": {"type": "integer"}},
    "required": ["status"],
}
_FORWARDED = ("x-forwarded-", "forwarded", "x-real-ip", "via")


@dataclass(frozen=True)
class State:
    """How the sidecar is: whether it takes work, and how many handler processes are attached."""

    ready: bool
    handlers: int


class StatusApi:
    """Answers operators and the tools that watch for them.

    Args:
        state: Returns how the sidecar is.
        metrics: The figures.
        tokens: The operator's token, for metrics from elsewhere.
    """

    def __init__(self, state: Callable[[], State], metrics: Metrics, tokens: Tokens) -> None:
        self._state = state
        self._metrics = metrics
        self._tokens = tokens

    @property
    def operations(self) -> list[Operation]:
        """What there is."""
        return [
            Operation("GET", "/healthz", "getHealth", "Whether the process is alive.",
                      self.health, answer=_STATUS, signed_in=False),
            Operation("GET", "/readyz", "getReadiness",
                      "Whether storage is written; how many handlers are attached.",
                      self.ready, answer=_STATUS, errors=(503,), signed_in=False),
            Operation("GET", "/metrics", "getMetrics", "Figures for Prometheus.",
                      self.metrics, media="text/plain", errors=(401, 403), signed_in=False),
        ]  # fmt: skip

    async def health(self, request: Request) -> Response:
        """Tell that the process answers."""
        return JSON({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Tell whether work is taken."""
        state = self._state()
        body = {"status": "ready" if state.ready else "not ready", "handlers": state.handlers}
        return JSON(body, 200 if state.ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Show the figures to this machine, or to the operator.

        Raises:
            PermissionDenied: Whoever asks is neither.
        """
        authorization = request.headers.get("authorization", "")
        if authorization:
            self._tokens.principal(authorization, "").require_operator()
        elif not _on_this_machine(request):
            raise PermissionDenied("metrics are for this machine, or with the operator's token")
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)


def _on_this_machine(request: Request) -> bool:
    """Whether a request comes from this machine itself, and not through a proxy on it."""
    if any(name.startswith(_FORWARDED) for name in request.headers):
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
