"""A web server on this machine whose answers can be made to fail, by script."""

import base64
import hashlib
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class FaultyServer(ThreadingHTTPServer):
    """Serves `files` (name → bytes); each GET of a name takes the next fault of its `script`.

    Faults: "drop" (half the body, then the connection breaks), "truncate" (half, with a
    Content-Length to match), "wrong" (other bytes of the same length), "norange" (no Range is
    honoured), "hang" (no answer), "change" (the file is another from now on), "elsewhere" (302),
    or a status. `always` holds faults that never end. Faults of HEAD are in `heads`.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, **files: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.script, self.always, self.heads = dict(files), {}, {}, {}
        self.etags, self.checksums, self.sizes, self.latency_sec = True, True, True, 0.0
        self.pace_sec = 0.0  # pause after each 64 KiB of a body
        self.retry_after = None
        self.served, self.asked = Counter(), []  # bytes of bodies by name; (method, name, range)
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.release = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.release.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        pass  # a client that goes away

    def reset(self) -> None:
        """Forget what was asked and scripted; the files stay."""
        self.script, self.always, self.heads = {}, {}, {}
        self.served, self.asked, self.most = Counter(), [], 0

    def url(self, name: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def gets(self, name: str) -> list:
        return [asked[2] for asked in self.asked if asked[:2] == ("GET", name)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, *words) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(self.server.heads)

    def do_GET(self) -> None:
        self.answer(self.server.script)

    def answer(self, script: dict) -> None:
        server, name = self.server, unquote(urlsplit(self.path).path[1:])
        with server.lock:
            server.asked.append((self.command, name, self.headers.get("Range")))
            waiting = script.get(name, [])
            fault = waiting.pop(0) if waiting else None
            if fault is None and self.command == "GET":
                fault = server.always.get(name)
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            if server.latency_sec:
                time.sleep(server.latency_sec)
            self.send(name, fault)
        finally:
            with server.lock:
                server.now -= 1

    def send(self, name: str, fault) -> None:
        server = self.server
        if isinstance(fault, int) or name not in server.files:
            return self.plain(fault or 404, {"Retry-After": server.retry_after})
        if fault == "elsewhere":
            return self.plain(302, {"Location": "/" + name})
        if fault == "hang":
            server.release.wait(20)
            self.close_connection = True
            return None
        if fault == "change":
            server.files[name] = bytes(255 - b for b in server.files[name]) + b"!"
        whole = server.files[name]
        start, status = 0, 200
        asked = self.headers.get("Range")
        if asked and fault != "norange":
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        if start and start >= len(whole):
            return self.plain(416, {})
        body = whole[start:]
        if fault == "wrong":
            body = bytes(b ^ 1 for b in body)
        short = body[: len(body) // 2] if fault in ("drop", "truncate") else body
        headers = {"Accept-Ranges": "bytes"}
        if server.etags:
            headers["ETag"] = f'"v-{hashlib.sha1(whole).hexdigest()[:8]}"'
        if server.checksums and status == 200:
            headers["Content-MD5"] = b64(hashlib.md5(whole).digest())
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        if server.sizes:
            headers["Content-Length"] = len(short if fault == "truncate" else body)
        else:
            headers["Connection"] = "close"
        self.head(status, headers)
        if self.command == "GET":
            for at in range(0, len(short), 65536):
                self.wfile.write(short[at : at + 65536])
                if server.pace_sec:
                    self.wfile.flush()
                    time.sleep(server.pace_sec)
                with server.lock:
                    server.served[name] += len(short[at : at + 65536])
        if fault == "drop":
            self.wfile.flush()
            linger = struct.pack("ii", 1, 0)  # close with a reset
            time.sleep(0.01)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True

    def plain(self, status: int, headers: dict) -> None:
        self.head(status, {**headers, "Content-Length": 0})

    def head(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for key, value in headers.items():
            if value is not None:
                self.send_header(key, str(value))
        self.end_headers()


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
