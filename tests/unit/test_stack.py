"""How the tools read a stack's state on this machine, and select from it."""

import http.server
import threading
import urllib.request

import pytest

from components.contract import Step
from tests.listener import EXCEPTIONS, listener
from tests.unit.state import command, outputs, service, state
from tools import observe, stack, up


class Page(http.server.BaseHTTPRequestHandler):
    """A stand-in for a proxy of the stack."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_the_stacks_own_addresses_are_never_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)
    for name in EXCEPTIONS:
        monkeypatch.delenv(name, raising=False)
    with listener() as proxy, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        up.show_page([url])
        assert observe.page_fault(url) == ""
        server.shutdown()
    assert f"{url} answers" in capsys.readouterr().out
    assert proxy.heard == []


def test_commands_are_chosen_by_step_and_node_and_never_by_name() -> None:
    images = [command(Step.IMAGE_DELIVERY, f"{name}-image-core-01", "core-01") for name in ("nginx", "docs")]
    other = command(Step.IMAGE_DELIVERY, "nginx-image-core-02", "core-02")
    content = command(Step.CONTENT_DELIVERY, "content-core-01", "core-01")
    cluster = command(Step.CLUSTER, "swarm-cluster")
    known = state(*images, other, content, cluster, service("image-core-01", {}), outputs(url="http://192.0.2.1/"))
    assert stack.commands(known, Step.IMAGE_DELIVERY, "core-01") == images
    assert stack.commands(known, Step.IMAGE_DELIVERY) == [*images, other]
    assert stack.commands(known, node="core-01") == [*images, content]
    assert stack.commands(known) == [*images, other, content, cluster]
    assert stack.outputs(known) == {"url": "http://192.0.2.1/"}
    assert [stack.name_of(found) for found in stack.services(known)] == ["image-core-01-service"]


def test_a_command_of_an_earlier_version_does_no_known_step() -> None:
    old = command(Step.MACHINE, "machines-core-01", "core-01")
    del old["inputs"]["environment"]["STEP"]
    assert stack.commands(state(old), Step.MACHINE) == []
    assert stack.commands(state(old), node="core-01") == [old]
