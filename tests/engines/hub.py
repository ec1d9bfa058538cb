"""A model hub on loopback: as much of Hugging Face's and ModelScope's APIs as a download needs, over real sockets."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

COMMIT = "c0ffee" + "0" * 34
LARGE = 2**20
"""Files from this size on are kept as Hugging Face keeps large ones, by their SHA-256."""


@dataclass
class Hub:
    """`models` are files by model and path. `gated` ones show their files but give none. `hold` is a file's path and
    how many of its bytes are sent before the rest waits for `go`; `held` is set when it does."""

    address: str = ""
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    hold: tuple[str, int] = ("", 0)
    held: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    sent: list[tuple[str, str]] = field(default_factory=list)
    """Each GET of a file's content: its path and its `Range`."""

    @property
    def env(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.address, "MODEL_ENDPOINT": self.address, "MODELSCOPE_ENDPOINT": self.address}

    def ranges(self, path: str) -> list[str]:
        return [given for sent, given in self.sent if sent == path]


def oid(content: bytes) -> str:
    """What Hugging Face names a small file's content by: git's own digest."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if len(content) >= LARGE else oid(content)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree|refs)(?:/([^/]+))?(/.+)?", url.path):
            self._api(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", url.path):
            self._resolve(*match.groups())
        elif match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", url.path):
            self._modelscope(match[1], query, listing=bool(match[2]))
        else:
            self._answer(404, {})

    def _api(self, model: str, what: str, revision: str | None, folder: str | None) -> None:
        files = self.hub.models.get(model)
        if files is None:
            return self._refuse("RepoNotFound", "Repository not found")
        if what == "refs":
            return self._answer(200, {"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}]})
        if revision not in ("main", COMMIT):
            return self._answer(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
        if folder:  # none has any
            return self._answer(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
        if what == "tree":
            return self._answer(200, [self._entry(path, content) for path, content in files.items()])
        siblings = [
            {"rfilename": path, "size": len(content), "blobId": oid(content), **self._lfs(content, "sha256")}
            for path, content in files.items()
        ]
        return self._answer(200, {"id": model, "modelId": model, "sha": COMMIT, "siblings": siblings})

    def _entry(self, path: str, content: bytes) -> dict[str, object]:
        whole = {"type": "file", "path": path, "size": len(content), "oid": oid(content)}
        return whole | self._lfs(content, "oid")

    def _lfs(self, content: bytes, name: str) -> dict[str, object]:
        if len(content) < LARGE:
            return {}
        return {"lfs": {name: etag(content), "size": len(content), "pointerSize": 134}}

    def _resolve(self, model: str, revision: str, path: str) -> None:
        files = self.hub.models.get(model, {})
        if model in self.hub.gated:
            return self._refuse("GatedRepo", f"Access to model {model} is restricted.")
        if path not in files or revision not in ("main", COMMIT):
            return self._answer(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        return self._send(path, files[path], {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(files[path])}"'})

    def _modelscope(self, model: str, query: dict[str, str], *, listing: bool) -> None:
        files = self.hub.models.get(model)
        if files is None or query["Revision"] != "master":
            return self._answer(404, {"Code": 10010205001, "Message": "not found", "Success": False})
        if not listing:
            return self._send(query["FilePath"], files[query["FilePath"]], {})
        found = [
            {"Path": path, "Type": "blob", "Size": len(content), "Sha256": hashlib.sha256(content).hexdigest()}
            for path, content in files.items()
        ]
        return self._answer(200, {"Code": 200, "Success": True, "Data": {"Files": found}})

    def _refuse(self, code: str, message: str) -> None:
        self._answer(401, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self._head(status, len(content), {"Content-Type": "application/json", **(headers or {})})
        if self.command == "GET":
            self.wfile.write(content)

    def _send(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        given = self.headers.get("Range", "")
        begin = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", given)) else 0
        if match:
            headers = {**headers, "Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        self._head(206 if match else 200, len(content) - begin, {**headers, "Accept-Ranges": "bytes"})
        if self.command == "HEAD":
            return
        self.hub.sent.append((path, given))
        held, until = self.hub.hold
        if path == held and begin < until:
            self.wfile.write(content[begin:until])
            self.hub.held.set()
            self.hub.go.wait()
            begin = until
        self.wfile.write(content[begin:])

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no fault of the server's."""


@contextmanager
def serve(models: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    hub = Hub(models=models)
    server = Server(("127.0.0.1", 0), type("OfHub", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.go.set()
        server.shutdown()
        thread.join()
        server.server_close()
