"""Stand-in for `ssh HOST docker system dial-stdio`: a Docker daemon with scripted answers.

FAKE_DOCKER is a folder. `answers.json` maps `METHOD /path` to a list of [status, body]; each request takes the next
one, and the last one repeats. The command line is written to `arguments.json`, requests to `requests.jsonl`.
"""

import io
import json
import os
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

FOLDER = Path(os.environ["FAKE_DOCKER"])


class Daemon(BaseHTTPRequestHandler):
    """Answers on the standard streams until they are closed."""

    protocol_version = "HTTP/1.1"
    answers: dict[str, list[tuple[int, Any]]]

    def __init__(self) -> None:
        self.answers = json.loads((FOLDER / "answers.json").read_text())
        self.rfile, self.wfile = io.BufferedReader(io.FileIO(0)), io.BufferedWriter(io.FileIO(1, "w"))
        self.client_address = ("stdio", 0)
        self.handle()

    def answer(self) -> None:
        """Records a request and sends its next answer."""
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = {"is": f"{self.command} {url.path}", "query": parse_qs(url.query), "body": json.loads(body or "null")}
        with (FOLDER / "requests.jsonl").open("a") as log:
            log.write(json.dumps(request) + "\n")
        answers = self.answers[request["is"]]
        status, content = answers.pop(0) if len(answers) > 1 else answers[0]
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.wfile.flush()

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names that http.server looks up

    def log_message(self, *_: Any) -> None:
        """Logs nothing: standard error would be taken for ssh's."""


if __name__ == "__main__":
    (FOLDER / "arguments.json").write_text(json.dumps(sys.argv[1:]))
    Daemon()
