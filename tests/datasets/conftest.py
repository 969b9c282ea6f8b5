"""A server of files that can cut connections, and a data home."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Server:
    """Files by path, and how they are served."""

    url: str = ""
    files: dict = field(default_factory=dict)
    cuts: list = field(default_factory=list)  # bytes after which the next answers are cut
    status: dict = field(default_factory=dict)  # path to an HTTP error
    requests: list = field(default_factory=list)


def handler(server):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            server.requests.append(self.path)
            if self.path in server.status:
                return self.send_error(server.status[self.path])
            body = server.files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if server.cuts:
                body = body[: server.cuts.pop(0)]
            return self.wfile.write(body)

    return Handler


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    state = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(state)) as httpd:
        state.url = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture
def closed_port(monkeypatch):
    """Return an address where nobody answers."""
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as httpd:
        port = httpd.server_port
    return f"http://127.0.0.1:{port}"
