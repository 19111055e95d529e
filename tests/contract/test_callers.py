"""The bundled plugins answer the user who runs them, and nobody else."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
import pytest
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from tests.contract.plugin import Plugin, struct, urn

NOBODY = 65534
SECONDS = 20
COMMAND = provider_pb2.CreateRequest(urn=urn("command:local:Command"), properties=struct({"create": "id -u"}))


@contextmanager
def channel_of(user: int, port: int) -> Iterator[grpc.Channel]:
    """A channel to a port through a connection of this user: the kernel notes who makes a socket."""
    mine = os.geteuid()
    os.seteuid(user)
    try:
        far = socket.create_connection(("127.0.0.1", port), SECONDS)
    finally:
        os.seteuid(mine)
    with far, socket.create_server(("127.0.0.1", 0)) as listening:

        def relay() -> None:
            near, _ = listening.accept()
            with near:
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=forward, args=(source, target), daemon=True).start()
                ended.wait()

        def forward(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):  # the end of the test closes both
                while data := source.recv(65536):
                    target.sendall(data)

        ended = threading.Event()
        threading.Thread(target=relay, daemon=True).start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{listening.getsockname()[1]}") as channel:
                yield channel
        finally:
            ended.set()
            far.shutdown(socket.SHUT_RDWR)


def test_the_same_user_is_answered(command_plugin: Plugin) -> None:
    with channel_of(os.geteuid(), command_plugin.port) as channel:
        created = provider_pb2_grpc.ResourceProviderStub(channel).Create(COMMAND, timeout=SECONDS)
    assert created.properties["stdout"] == str(os.getuid())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can connect as another user")
@pytest.mark.parametrize(
    ("method", "request_"),
    [("Create", COMMAND), ("GetSchema", provider_pb2.GetSchemaRequest()), ("Cancel", empty_pb2.Empty())],
)
def test_another_user_is_refused(command_plugin: Plugin, method: str, request_: Message) -> None:
    with channel_of(NOBODY, command_plugin.port) as channel, pytest.raises(grpc.RpcError) as caught:
        getattr(provider_pb2_grpc.ResourceProviderStub(channel), method)(request_, timeout=SECONDS)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details() == f"refused a call of user {NOBODY}"
