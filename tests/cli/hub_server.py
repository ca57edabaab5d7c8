"""A local server that answers the few calls of the hub's API that ``dcpt push`` makes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
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
        objects: Content of large and binary files by SHA-256, as they were uploaded.
    """

    address: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    refuses: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)


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
    if path.endswith("/info/lfs/objects/batch"):
        return 200, {"objects": [offer(hub, asked) for asked in json.loads(body)["objects"]]}
    if path.startswith("/lfs/"):
        hub.objects[path.removeprefix("/lfs/")] = body
        return 200, {}
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
        return 200, {"files": [choose_mode(file) for file in json.loads(body)["files"]]}
    assert action.startswith("commit"), path
    for line in body.splitlines():
        record = json.loads(line)
        if record["key"] == "file":
            content = base64.b64decode(record["value"]["content"])
            hub.repos[name][record["value"]["path"]] = content
        elif record["key"] == "lfsFile":
            content = hub.objects[record["value"]["oid"]]
            assert sha256(content).hexdigest() == record["value"]["oid"]
            hub.repos[name][record["value"]["path"]] = content
    return 200, {"commitUrl": f"{hub.address}/{name}/commit/1", "commitOid": "1"}


def choose_mode(file: dict[str, Any]) -> dict[str, Any]:
    """As the hub does: arrays and files above 10 MB are not kept in git itself."""
    is_large = file["path"].endswith(".npz") or file["size"] > 10_000_000
    mode = "lfs" if is_large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def offer(hub: Hub, asked: dict[str, Any]) -> dict[str, Any]:
    """Where an object is to be uploaded; nowhere if it is there."""
    if asked["oid"] in hub.objects:
        return asked
    return {**asked, "actions": {"upload": {"href": f"{hub.address}/lfs/{asked['oid']}"}}}


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

        do_GET = do_POST = do_PUT = respond

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
