"""Many small files over a slow line: in parallel, one after the other, and as fsspec fetches them.

500 files of 20 kB from a server on this machine, in a process of its own, which waits some
milliseconds before each answer. The ways take turns; medians of the rounds. Ours asks for every
size first (HEAD), verifies an MD5, flushes each file to disk and then names it, eight at a time or
one at a time. For comparison, ways that do none of this: one connection kept open, and fsspec's own
`get`, eight at a time. A minute:

    python benchmarks/transfer.py [files] [latencies in ms] [rounds]     as in  500 5 3
"""

import base64
import hashlib
import http.client
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec

from hcs_utils import records
from hcs_utils.data import transfer
from hcs_utils.data.download import Item, Options

SIZE = 20_000
BODY = bytes(range(250)) * (SIZE // 250)
MD5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
GOAL = 3
WORKERS = 8


def serve(latency_sec: float, ports) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def log_message(self, *words) -> None:
            pass

        def do_HEAD(self) -> None:
            time.sleep(latency_sec)
            self.send_response(200)
            for name, value in (("Content-Length", SIZE), ("Content-MD5", MD5), ("ETag", '"1"')):
                self.send_header(name, str(value))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(BODY)

    ThreadingHTTPServer.request_queue_size = 64
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ports.put(server.server_port)
        server.serve_forever()


def ours(port: int, names: list[str], root: Path, workers: int) -> None:
    items = [Item(f"http://127.0.0.1:{port}/{name}", name) for name in names]
    report = transfer.fetch(items, root, Options(workers=workers))
    assert len(report.done) == len(names)


def one_by_one(port: int, names: list[str], root: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for name in names:
        connection.request("GET", "/" + name)
        (root / name).write_bytes(connection.getresponse().read())
    connection.close()


def fsspec_get(port: int, names: list[str], root: Path) -> None:
    urls = [f"http://127.0.0.1:{port}/{name}" for name in names]
    fsspec.filesystem("http").get(urls, [str(root / name) for name in names], batch_size=WORKERS)


def seconds(way: Callable[[Path], None], files: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        way(Path(folder))
        taken = time.perf_counter() - begun
        assert len(list(Path(folder).iterdir())) == files
    return taken


def measure(files: int, latency_ms: float, rounds: int) -> dict[str, float]:
    """Median seconds of each way."""
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    server = context.Process(target=serve, args=(latency_ms / 1000, ports), daemon=True)
    server.start()
    try:
        port, names = ports.get(timeout=60), [f"{k:04d}.tif" for k in range(files)]
        ways = {
            "ours": lambda root: ours(port, names, root, WORKERS),
            "ours, one at a time": lambda root: ours(port, names, root, 1),
            "one connection, read and write alone": lambda root: one_by_one(port, names, root),
            "fsspec get, read and write alone": lambda root: fsspec_get(port, names, root),
        }
        seconds(lambda root: ours(port, names[:2], root, 2), 2)  # libraries are loaded by now
        taken = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                taken[name].append(seconds(way, files))
    finally:
        server.terminate()
        server.join()
    return {name: statistics.median(values) for name, values in taken.items()}


def main(files: int = 500, latencies: str = "5", rounds: int = 3) -> None:
    print(f"{files} files of {SIZE // 1000} kB, {WORKERS} at a time, median of {rounds} rounds")
    for latency in map(float, latencies.split(",")):
        found = measure(files, latency, rounds)
        for name, taken in found.items():
            ratio = taken / found["ours"]
            print(f"  {latency:3g} ms  {name:<36} {taken:6.2f} s   {ratio:5.2f} × ours")
        records.save_benchmark(
            "transfer_small_files" + ("" if latency == 5 else f"_{latency:g}_ms"),
            ratio=found["ours, one at a time"] / found["ours"],
            goal=GOAL,
            reference="the same files sized, verified and flushed one after the other",
            measured={f"{name} (s)": taken for name, taken in found.items()}
            | {"files": files, "file_bytes": SIZE, "workers": WORKERS, "latency_ms": latency},
        )


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*(kind(value) for kind, value in zip((int, str, int), given, strict=False)))
