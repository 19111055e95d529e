"""A client that talks to a bundled plugin as the engine does."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

PLUGINS = Path(__file__).parents[2] / "tools" / "engine" / "plugins"
VERSIONS = {"command": "1.2.1", "docker": "5.2.0"}
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# An address without an engine: log lines are lost.
NO_ENGINE = "127.0.0.1:1"
END_SECONDS = 10


@dataclass(frozen=True)
class Plugin:
    """A running plugin and its port."""

    stub: provider_pb2_grpc.ResourceProviderStub
    port: int

    @classmethod
    @contextmanager
    def running(cls, name: str, environment: Mapping[str, str] | None = None) -> Iterator["Plugin"]:
        """Runs a plugin for the duration of the block."""
        arguments = [sys.executable, "-E", "-s", str(PLUGINS / "start.py"), name, NO_ENGINE]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment or os.environ, text=True) as process:
            try:
                assert process.stdout
                port = int(process.stdout.readline())
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    stub = provider_pb2_grpc.ResourceProviderStub(channel)
                    stub.Handshake(provider_pb2.ProviderHandshakeRequest())
                    yield cls(stub, port)
                    stub.Cancel(empty_pb2.Empty())
            finally:
                process.terminate()
                assert process.wait(END_SECONDS) == 0

    def check_settings(self, settings: Mapping[str, Any]) -> list[str]:
        """Returns the plugin's errors for a provider's settings."""
        request = provider_pb2.CheckRequest(urn=urn("pulumi:providers:any"), news=struct(settings))
        return [failure.reason for failure in self.stub.CheckConfig(request).failures]

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Sends the provider's settings to the plugin."""
        self.stub.Configure(provider_pb2.ConfigureRequest(args=struct(settings)))

    def check(self, token: str, inputs: Mapping[str, Any]) -> list[str]:
        """Returns the plugin's errors for a resource's inputs."""
        request = provider_pb2.CheckRequest(urn=urn(token), news=struct(inputs))
        return [failure.reason for failure in self.stub.Check(request).failures]

    def diff(self, token: str, olds: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, str]:
        """Returns the kind of change by changed path."""
        response = self.stub.Diff(provider_pb2.DiffRequest(urn=urn(token), olds=struct(olds), news=struct(news)))
        kinds = provider_pb2.PropertyDiff.Kind
        return {path: kinds.Name(change.kind) for path, change in response.detailedDiff.items()}

    def preview(self, token: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the outputs that a create would return."""
        request = provider_pb2.CreateRequest(urn=urn(token), properties=struct(inputs), preview=True)
        return plain(self.stub.Create(request).properties)

    def create(self, token: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Creates a resource; returns its id and outputs."""
        response = self.stub.Create(provider_pb2.CreateRequest(urn=urn(token), properties=struct(inputs)))
        return response.id, plain(response.properties)

    def update(self, token: str, identity: str, olds: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
        """Updates a resource; returns its outputs."""
        request = provider_pb2.UpdateRequest(urn=urn(token), id=identity, olds=struct(olds), news=struct(news))
        return plain(self.stub.Update(request).properties)

    def read(self, token: str, identity: str, olds: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Reads a resource; returns its id, empty if it is gone, and its outputs."""
        request = provider_pb2.ReadRequest(urn=urn(token), id=identity, properties=struct(olds), inputs=struct(olds))
        response = self.stub.Read(request)
        return response.id, plain(response.properties)

    def delete(self, token: str, identity: str, olds: Mapping[str, Any]) -> None:
        """Deletes a resource."""
        self.stub.Delete(provider_pb2.DeleteRequest(urn=urn(token), id=identity, properties=struct(olds)))


def urn(token: str) -> str:
    """Returns the URN of a resource named `a`."""
    return f"urn:pulumi:s::p::{token}::a"


def struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Converts plain values to the engine's format."""
    return json_format.ParseDict(dict(values), struct_pb2.Struct())


def plain(values: struct_pb2.Struct) -> dict[str, Any]:
    """Converts the engine's format to plain values; numbers become floats."""
    result: dict[str, Any] = json_format.MessageToDict(values)
    return result
