# SPDX-License-Identifier: GPL-2.0-or-later
"""api/client.py against a server that replays prepared replies."""

import http.server
import json
import pathlib
import sys
import threading
from urllib.parse import parse_qs

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "api"))

from client import Client, Coverage, LinnetError  # noqa: E402

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
PROBLEM = "application/problem+json"


class Replay(http.server.BaseHTTPRequestHandler):
    """Keeps the request in server.seen and sends server.reply."""

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.server.seen = (self.command, self.path, self.headers,
                            self.rfile.read(length).decode())
        status, kind, headers, body = self.server.reply
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Replay) as s:
        thread = threading.Thread(target=s.serve_forever, args=(0.02,))
        thread.start()
        yield s
        s.shutdown()
        thread.join()


@pytest.fixture
def client(server):
    return Client("127.0.0.1", server.server_port)


@pytest.mark.parametrize("kind, body, value", [
    (TEXT, "0", 0),
    (TEXT, "1980", 1980),
    (TEXT, "1.13", 1.13),
    (TEXT, "0.000", 0.0),
    (TEXT, "counter configured", "counter configured"),
    (JSON, "[12, 9000]", [12, 9000]),
    (JSON, '{"10.0.0.9": 4, "10.0.0.1": 2}', {"10.0.0.9": 4, "10.0.0.1": 2}),
    (JSON, "{}", {}),
])
def test_values(server, client, kind, body, value):
    server.reply = (200, kind, {}, body)
    got = client.ask("query sketch", sketch_id=0, counter_key="10.0.0.6").value
    assert got == value and type(got) is type(value)


def test_map_keeps_order(server, client):
    server.reply = (200, JSON, {}, '{"b": 3, "a": 2, "c": 1}')
    assert list(client.ask("query heavy hitters").value) == ["b", "a", "c"]


def test_request_form(server, client):
    server.reply = (200, TEXT, {}, "0")
    client.ask("config sketch", interface="INPUT", proto=None, src="::1/64")
    method, path, headers, body = server.seen
    assert (method, path) == ("POST", "/")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["X-Linnet-Deadline"] == "2000"
    assert "Authorization" not in headers
    assert parse_qs(body) == {"type": ["config sketch"], "src": ["::1/64"],
                              "interface": ["INPUT"]}


def test_probe_has_no_budget(server, client):
    server.reply = (200, TEXT, {}, "1980")
    client.ask("query bw", dst="10.0.0.6", duration=1)
    assert "X-Linnet-Deadline" not in server.seen[2]


def test_token(server):
    server.reply = (200, TEXT, {}, "0")
    Client("127.0.0.1", server.server_port, token="abc").ask("config sketch")
    assert server.seen[2]["Authorization"] == "Bearer abc"


def test_no_coverage_headers(server, client):
    server.reply = (200, JSON, {}, "[]")
    assert client.ask("query leaf agents").coverage == Coverage()


def test_coverage(server, client):
    server.reply = (200, JSON, {
        "X-Linnet-Complete": "false", "X-Linnet-Answered": "5/9",
        "X-Linnet-Missing":
            "10.0.0.7=unreachable, [2001:db8::8]:8001=behind, +2",
        "X-Linnet-Missed-Packets": "12", "X-Linnet-Truncated": "3"}, "{}")
    assert client.ask("query heavy hitters").coverage == Coverage(
        False, 5, 9, {"10.0.0.7": "unreachable",
                      "[2001:db8::8]:8001": "behind"}, 2, 12, 3)


def test_refusal(server, client):
    server.reply = (400, TEXT, {}, "error: missing field: sketch_id")
    with pytest.raises(LinnetError) as e:
        client.ask("query sketch")
    assert (e.value.status, e.value.text) == (400, "missing field: sketch_id")


def test_malformed_json(server, client):
    server.reply = (200, JSON, {}, '{"a": ')
    with pytest.raises(LinnetError) as e:
        client.ask("query heavy hitters")
    assert e.value.status == 0


def test_unreachable(server):
    port = server.server_port
    with pytest.raises(OSError):
        Client("127.0.0.2", port, timeout=0.2).ask("config sketch")


def test_get(server, client):
    envelope = {"data": [{"key": "10.0.0.6"}], "meta": {"unit": "packets"}}
    server.reply = (200, JSON, {}, json.dumps(envelope))
    assert client.get("tasks/7/estimate", key=["a,b", "c"], n=None) == envelope
    assert server.seen[:2] == ("GET",
                               "/api/v1/tasks/7/estimate?key=a%2Cb&key=c")


def test_post(server, client):
    server.reply = (201, JSON, {}, '{"data": {"id": "07"}}')
    body = {"key": "src", "filter": {"proto": "icmp"}}
    assert client.post("tasks", body)["data"]["id"] == "07"
    assert json.loads(server.seen[3]) == body
    assert server.seen[2]["Content-Type"] == JSON


def test_put(server, client):
    task = {"id": "07", "generation": 2, "key": "src"}
    server.reply = (200, JSON, {}, json.dumps({"data": task}))
    assert client.put("tasks/07", task)["data"] == task
    method, path, headers, body = server.seen
    assert (method, path) == ("PUT", "/api/v1/tasks/07")
    assert json.loads(body) == task


def test_delete(server, client):
    server.reply = (204, None, {}, "")
    assert client.delete("tasks/07") is None
    assert server.seen[:2] == ("DELETE", "/api/v1/tasks/07")


def test_problem(server, client):
    problem = {"type": "/problems/unknown-task", "title": "No such task",
               "status": 404, "detail": "no task 07 here"}
    server.reply = (404, PROBLEM, {}, json.dumps(problem))
    with pytest.raises(LinnetError) as e:
        client.get("tasks/07")
    assert e.value.status == 404 and e.value.text == "no task 07 here"
    assert e.value.problem == problem


def test_refusal_without_body(server, client):
    server.reply = (403, None, {}, "")
    with pytest.raises(LinnetError) as e:
        client.get("tasks")
    assert e.value.status == 403 and e.value.text == "Forbidden"
