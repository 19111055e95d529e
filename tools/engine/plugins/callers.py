"""Who calls a plugin. It listens on loopback, where every user of this machine can connect."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from typing_extensions import override

LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F")
"""127.0.0.1 in the kernel's tables of TCP and TCP 6."""
ESTABLISHED = "01"

Behavior = Callable[[Any, grpc.ServicerContext], Any]


class SameUserOnly(grpc.ServerInterceptor):
    """Refuses calls of other users, who could run commands as this one.

    Attributes:
        port: the server's, once it is known.
    """

    port = 0

    @override
    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler: Any = continuation(handler_call_details)
        if handler is None or handler.request_streaming:  # no method of a plugin
            return None
        formats = handler.request_deserializer, handler.response_serializer
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._checked(handler.unary_stream), *formats)
        return grpc.unary_unary_rpc_method_handler(self._checked(handler.unary_unary), *formats)

    def _checked(self, behavior: Behavior) -> Behavior:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            user = self._user(context.peer())
            if user != os.geteuid():
                message = f"refused a call of {'an unknown user' if user is None else f'user {user}'}"
                print(message, file=sys.stderr, flush=True)
                context.abort(grpc.StatusCode.PERMISSION_DENIED, message)
            return behavior(request, context)

        return call

    def _user(self, peer: str) -> int | None:
        """Return the user ID that owns the other end of a connection, given as `ipv4:127.0.0.1:PORT`."""
        ports = f"{int(peer.rpartition(':')[2]):04X}", f"{self.port:04X}"
        for table in ("tcp", "tcp6"):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, remote, state, _, _, _, user, *_ = line.split()
                ends = [end.split(":") for end in (local, remote)]
                if state == ESTABLISHED and all(
                    address in LOOPBACK and port == expected
                    for (address, port), expected in zip(ends, ports, strict=True)
                ):
                    return int(user)
        return None
