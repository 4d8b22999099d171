"""Sinks: servers that only read requests and answer, each in a process of its own."""

from __future__ import annotations

import http.server
import multiprocessing
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 2m; client_body_buffer_size 1m;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} backlog=512;
    location /v1/batch {{ proxy_pass http://127.0.0.1:{port}/answer; }}
    location /answer {{ default_type application/json; return 200 "{{}}"; }}
  }}
}}
"""


def _serve(queue: Any, latency: float) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if latency:
                time.sleep(latency)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 512

    server = Server(("127.0.0.1", 0), Handler)
    queue.put(server.server_address[1])
    server.serve_forever()


@contextmanager
def python_sink(latency: float = 0.0) -> Iterator[str]:
    """A server of Python's standard library.

    Args:
        latency: Seconds before each answer.

    Yields:
        Its address.
    """
    queue: Any = multiprocessing.Queue()
    process = multiprocessing.Process(target=_serve, args=(queue, latency), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{queue.get()}/v1"
    finally:
        process.terminate()
        process.join()


@contextmanager
def nginx() -> Iterator[str]:
    """An nginx, which uses less of the cores that it shares with the sender.

    Yields:
        Its address.
    """
    program = shutil.which("nginx")
    if program is None:
        raise SystemExit("nginx is not installed. Install it, or leave --nginx out.")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "nginx.conf"
        settings.write_text(_NGINX.format(folder=folder, port=port), "utf-8")
        with subprocess.Popen(
            [program, "-p", folder, "-c", settings, "-e", f"{folder}/log"]
        ) as process:
            try:
                _wait_for(port)
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                process.terminate()


def _wait_for(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            continue
        return


@contextmanager
def first_arrival() -> Iterator[tuple[str, Any]]:
    """A listener that never answers.

    Yields:
        Its address, and a queue with the time at which the first byte arrives.
    """
    queue: Any = multiprocessing.Queue()
    process = multiprocessing.Process(target=_listen, args=(queue,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{queue.get()}/v1", queue
    finally:
        process.terminate()
        process.join()


def _listen(queue: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        queue.put(server.getsockname()[1])
        connection, _ = server.accept()
        connection.recv(1)
        queue.put(time.time())
        while connection.recv(2**16):  # read until the sender is killed
            pass
