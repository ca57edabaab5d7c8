"""A local server that answers the few calls of the hub's API that ``dcpt push`` makes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Hub:
    """What the server holds, and what it was asked.

    Args:
        address: Where it listens.
        repos: Content of each file, by path, by repository.
        private: Repositories that are private.
        refuses: HTTP status of refused calls, by the start of their path.
        asked: Method and path of every call.
    """

    address: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    refuses: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def answer(hub: Hub, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """Answer a call: status and JSON."""
    status = next((code for start, code in hub.refuses.items() if path.startswith(start)), None)
    if status is not None:
        return status, {"error": "refused by the test"}
    if path == "/api/validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        hub.repos[name] = {".gitattributes": b""}
        if asked.get("visibility") == "private" or asked.get("private"):
            hub.private.add(name)
        return 200, {"url": f"{hub.address}/{name}"}
    if not path.startswith(("/api/models/", "/api/datasets/")):
        return 404, {"error": "no such call"}
    _, _, _, owner, rest = path.split("/", 4)
    repo, _, action = rest.partition("/")
    name = f"{owner}/{repo}"
    if name not in hub.repos:
        return 404, {"error": "Repository not found"}
    if method == "GET":
        siblings = [{"rfilename": path} for path in hub.repos[name]]
        return 200, {"id": name, "private": name in hub.private, "siblings": siblings}
    if action.startswith("preupload"):
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
        return 200, {"files": modes}
    assert action.startswith("commit"), path
    for line in body.splitlines():
        record = json.loads(line)
        if record["key"] == "file":
            content = base64.b64decode(record["value"]["content"])
            hub.repos[name][record["value"]["path"]] = content
    return 200, {"commitUrl": f"{hub.address}/{name}/commit/1", "commitOid": "1"}


@contextmanager
def serve() -> Iterator[Hub]:
    """Run the server in a thread."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            status, content = answer(hub, self.command, path, body)
            text = json.dumps(content).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = respond

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
