# SPDX-License-Identifier: GPL-2.0-or-later
"""The command linnet against a stand-in that replays what an agent says:
exit statuses, tables, what is sent; at the end against real agents."""
import hashlib
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pair import (AGENT_UID, ASKED, BUILD, CHILD, LINNET, Lab,  # noqa: E402
                  pair, wait_until)

TASK = "00c0ffee00000007"
COMPLETE = {"hosts_expected": 1, "hosts_answered": 1, "complete": True,
            "missing_more": 0, "missing": []}
PARTIAL = {"hosts_expected": 8, "hosts_answered": 5, "complete": False,
           "missing_more": 1,
           "missing": [{"host": "10.0.0.7", "reason": "unreachable",
                        "last_seen": None},
                       {"host": "10.0.0.8", "reason": "behind",
                        "last_seen": "2026-11-21T01:00:58.120Z"}]}
LOSS = {"matched": {"packets": 9, "bytes": 900},
        "received": {"packets": 9, "bytes": 900},
        "missed": {"packets": 0, "bytes": 0}}
META = {"unit": "packets", "scope": "tree", "window":
        {"kind": "since", "start": "2026-11-21T01:00:00.000Z",
         "seconds": 61.2}, "algorithm": "topk+cms", "recall": "certain",
        "error": {"kind": "over", "max": 18, "confidence": 0.982},
        "coverage": COMPLETE, "loss": LOSS, "truncated": 0}
HITS = [{"rank": 1, "key": "10.0.0.6,10.0.0.5", "estimate": 812, "lower": 794,
         "upper": None, "share": 0.078, "certain": True},
        {"rank": 2, "key": "10.0.0.1,10.0.0.5", "estimate": 9, "lower": 9,
         "upper": 9, "share": 0.001, "certain": False}]
TASK_OBJECT = {"id": TASK, "generation": 1, "name": "icmp-in", "filter":
               {"direction": "in", "proto": "icmp", "src": "10.0.0.0/8"},
               "key": "src_dst", "increment": "byte",
               "sketches": ["cms", "topk"], "window_s": 0,
               "created": "2026-11-21T01:00:00.000Z", "expires_s": 0,
               "origin": "v1", "sketch_id": None, "state": "active"}


class Replay(http.server.BaseHTTPRequestHandler):
    """Answers what server.replies has for "METHOD path", keeps what came."""
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        self.server.seen.append((self.command, self.path, self.headers, body))
        key = f"{self.command} {self.path.split('?')[0]}"
        status, value = self.server.replies.get(key, (404, problem(404)))
        if isinstance(value, list) and status == 0:
            status, value = value.pop(0)
        text = value if isinstance(value, str) else json.dumps(value)
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if status != 204:
            self.wfile.write(text.encode())

    do_GET = do_POST = do_DELETE = handle_any

    def log_message(self, *args):
        pass


def problem(status, detail="no such thing"):
    return {"type": "/problems/x", "title": "X", "status": status,
            "detail": detail, "request_id": "5f1c"}


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replay) as s:
        s.daemon_threads = True
        s.replies, s.seen = {}, []
        thread = threading.Thread(target=s.serve_forever, args=(0.02,))
        thread.start()
        yield s
        s.shutdown()
        thread.join()


@pytest.fixture
def linnet(server):
    """Runs the command; tables unless the arguments say otherwise."""
    def run(*args, **env):
        return subprocess.run(
            [LINNET, "-H", f"127.0.0.1:{server.server_port}", "-o", "table",
             *args], capture_output=True, text=True, timeout=20,
            env={"PATH": "/nowhere", **env})
    return run


def top(server, **meta):
    server.replies[f"GET /api/v1/tasks/{TASK}/top"] = (
        200, {"data": HITS, "meta": {**META, **meta}})


def test_table_is_aligned(server, linnet):
    top(server)
    done = linnet("query", "top", TASK, "-n", "2", "--threshold=0.001")
    assert done.returncode == 0
    assert done.stdout == (
        "RANK  KEY                ESTIMATE  LOWER  UPPER  SHARE  CERTAIN\n"
        "   1  10.0.0.6,10.0.0.5       812    794      -  7.80%  yes\n"
        "   2  10.0.0.1,10.0.0.5         9      9      9  0.10%  no\n")
    assert done.stderr == (
        "linnet: packets, 61.2 s since 2026-11-21T01:00:00.000Z; topk+cms, "
        "error at most 18\n")
    assert server.seen[0][1] == (
        f"/api/v1/tasks/{TASK}/top?scope=tree&timeout=2000ms&limit=1000"
        "&n=2&threshold=0.001")


def test_partial(server, linnet):
    top(server, coverage=PARTIAL, recall="best_effort", truncated=4,
        loss={**LOSS, "missed": {"packets": 12, "bytes": 1}})
    done = linnet("query", "top", TASK)
    assert done.returncode == 3
    assert ("partial: 5 of 8 hosts answered; missing: 10.0.0.7 (unreachable), "
            "10.0.0.8 (behind), 1 more\n") in done.stderr
    for text in ("12 packets were not counted", "4 keys are in no line",
                 "above the threshold may be absent"):
        assert text in done.stderr
    assert "partial" not in done.stdout
    quiet = linnet("query", "top", TASK, "-q")
    assert quiet.returncode == 3 and quiet.stderr == ""


def test_json_is_the_envelope_unchanged(server, linnet):
    text = json.dumps({"data": HITS, "meta": {**META, "coverage": PARTIAL},
                       "later": 1.0})
    server.replies[f"GET /api/v1/tasks/{TASK}/top"] = (200, text)
    done = linnet("-o", "json", "query", "top", TASK)
    assert done.stdout == text + "\n" and done.returncode == 3
    assert "missing: 10.0.0.7" in done.stderr
    done = subprocess.run(
        [LINNET, "query", "top", TASK], capture_output=True, text=True,
        env={"LINNET_HOST": f"http://localhost:{server.server_port}/"})
    assert done.stdout == text + "\n"


@pytest.mark.parametrize("verb, resource, item, expected", [
    ("total", "totals", {"packets": 12, "bytes": 9000, "segments": 12,
                         "hidden_bytes": 0},
     "PACKETS  BYTES  SEGMENTS  HIDDEN_BYTES\n"
     "     12   9000        12             0\n"),
    ("distinct", "distinct", {"estimate": 3, "lower": 3, "upper": None},
     "ESTIMATE  LOWER  UPPER\n       3      3      -\n"),
    ("realtime", "realtime", [{"key": "80", "value": 1},
                              {"key": "8008", "value": 85}],
     "KEY   VALUE\n80        1\n8008     85\n"),
    ("key", "estimate", [{"key": "fd77::1", "estimate": 2**63, "lower": 1,
                          "upper": 3}],
     "KEY                 ESTIMATE  LOWER  UPPER\n"
     "fd77::1  9223372036854775808      1      3\n"),
])
def test_queries(server, linnet, verb, resource, item, expected):
    server.replies[f"GET /api/v1/tasks/{TASK}/{resource}"] = (
        200, {"data": item, "meta": META})
    keys = ["fd77::1", "a&b=c"] if verb == "key" else []
    done = linnet("query", verb, TASK, *keys, "--scope", "host")
    assert (done.returncode, done.stdout) == (0, expected)
    assert "scope=host" in server.seen[0][1]
    if keys:
        assert server.seen[0][1].endswith("&key=fd77::1&key=a%26b%3Dc")


def test_tasks(server, linnet):
    server.replies["GET /api/v1/tasks"] = (200, {"data": [TASK_OBJECT]})
    server.replies[f"GET /api/v1/tasks/{TASK}"] = (200, {"data": TASK_OBJECT})
    server.replies[f"DELETE /api/v1/tasks/{TASK}"] = (204, "")
    assert linnet("task", "ls").stdout == (
        "ID                NAME     KEY      INCREMENT  STATE   FILTER\n"
        f"{TASK}  icmp-in  src_dst  byte       active  "
        "in icmp src 10.0.0.0/8\n")
    shown = linnet("task", "show", TASK).stdout.splitlines()
    assert "sketches    cms,topk" in shown and "sketch_id   -" in shown
    dry = linnet("task", "rm", "--dry-run", TASK)
    assert dry.stdout.startswith(f"would remove {TASK}, icmp-in: in icmp")
    assert not [s for s in server.seen if s[0] == "DELETE"]
    done = linnet("task", "rm", TASK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert server.seen[-1][0] == "DELETE"


def test_task_add(server, linnet):
    server.replies["POST /api/v1/tasks"] = (
        201, {"data": TASK_OBJECT, "meta": {"coverage": PARTIAL}})
    done = linnet("task", "add", "--out", "--proto", "icmp", "--src=10.0.0.0/8",
                  "--key", "src_dst", "--increment", "byte", "--name",
                  'a"b', "--expires", "5m")
    assert (done.returncode, done.stdout) == (3, TASK + "\n")
    method, path, headers, body = server.seen[0]
    assert path == "/api/v1/tasks?scope=tree&timeout=2000ms"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "filter": {"direction": "out", "proto": "icmp", "src": "10.0.0.0/8"},
        "key": "src_dst", "increment": "byte", "name": 'a"b',
        "expires_s": 300}


def test_status(server, linnet):
    status = {"host": "10.0.0.2", "version": "0.1.0", "tasks": 2,
              "monitor": {"state": "attached", "rules": "ok"},
              "overlay": {"role": "root", "parent": None},
              "warnings": ["insecure: every caller has every role"]}
    ready = [{"check": "rules", "ok": True, "detail": "rules in place"}]
    server.replies["GET /api/v1/status"] = (200, {"data": status})
    server.replies["GET /readyz"] = (200, ready)
    done = linnet("status")
    assert done.returncode == 0
    assert "monitor          attached\n" in done.stdout
    assert "warning          insecure: every" in done.stdout
    server.replies["GET /readyz"] = (
        503, [*ready, {"check": "monitor", "ok": False, "detail":
                       "monitor attached"}])
    done = linnet("status")
    assert done.returncode == 1
    assert "not ready        monitor attached\n" in done.stdout
    assert "rules in place" not in done.stdout
    quiet = linnet("status", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (1, "", "")


def member(n, parent, seen, state="up", hosts=1):
    return {"node_id": f"{n:032x}", "host": f"10.0.0.{n}",
            "parent": f"{parent:032x}" if parent else None, "last_seen": seen,
            "state": state, "hosts": hosts}


def test_overlay_tree(server, linnet):
    now, old = "2026-11-21T01:00:09.000Z", "2026-11-21T01:00:01.000Z"
    child = [{**member(4, 2, now, hosts=3), "latency_ms": 0.25,
              "tasks_same": True, "version": "0.1.0"},
             {**member(7, 2, old, "down", 2), "tasks_same": False},
             {**member(3, 2, None, "expected"), "refused": "busy"}]
    server.replies["GET /api/v1/overlay"] = (200, {"data": {
        "epoch": 4, "node_id": f"{2:032x}", "root": f"{2:032x}",
        "tasks": 12, "version": "0.2.0", "parent": None, "path": [],
        "children": child}})
    rows = [member(2, 0, now, hosts=8), child[0], member(5, 4, now),
            member(6, 4, old, "down")]
    server.replies["GET /api/v1/overlay/members"] = (0, [
        (200, {"data": rows, "meta": {"next_cursor": "c1"}}),
        (200, {"data": [child[1], member(8, 7, old, "behind"),
                        member(9, 2, old, "down")], "meta": {}})])
    done = linnet("overlay", "show")
    assert done.returncode == 3
    assert done.stdout == (
        "HOST          STATE           HOSTS  LATENCY_MS  TASKS   VERSION"
        "  LAST_SEEN\n"
        f"10.0.0.2      root                8           -  12      0.2.0    "
        f"{now}\n"
        f"  10.0.0.4    up                  3        0.25  same    0.1.0    "
        f"{now}\n"
        f"    10.0.0.5  up                  1           -  -       -        "
        f"{now}\n"
        f"    10.0.0.6  down                1           -  -       -        "
        f"{old}\n"
        f"  10.0.0.7    down                2           -  differ  -        "
        f"{old}\n"
        f"    10.0.0.8  behind              1           -  -       -        "
        f"{old}\n"
        "  10.0.0.3    expected: busy      1           -  -       -        "
        "-\n"
        f"  10.0.0.9    down                1           -  -       -        "
        f"{old}\n")
    # those that an older agent cannot ask are not guessed
    assert [s[1].partition("?")[0] for s in server.seen] == [
        "/api/v1/overlay", *["/api/v1/overlay/members"] * 2,
        "/api/v1/overlay/agents"]
    assert server.seen[-2][1].endswith("&cursor=c1")
    assert done.stderr == ""

    unknown = dict.fromkeys(("version", "tasks", "tasks_hash", "tasks_same",
                             "latency_ms"))
    said = {"version": "0.0.9", "tasks": 3, "tasks_hash": "a" * 16,
            "latency_ms": 4}
    server.replies["GET /api/v1/overlay/members"] = (200, {
        "data": [*rows, child[1]], "meta": {}})
    server.replies["GET /api/v1/overlay/agents"] = (0, [
        (200, {"data": [
            {"node_id": f"{2:032x}", **said, "tasks_same": None},
            {"node_id": f"{5:032x}", **said, "tasks_same": False}],
            "meta": {"next_cursor": "c2"}}),
        (200, {"data": [
            {"node_id": f"{6:032x}", **unknown},
            {"node_id": f"{7:032x}", **unknown},
            {"node_id": f"{4:032x}", **said, "tasks_same": True}],
            "meta": {"coverage": PARTIAL}})])
    done = linnet("overlay", "show")
    assert [r.split()[3:6] for r in done.stdout.splitlines()[1:]] == [
        ["4", "3", "0.0.9"], ["4", "same", "0.0.9"], ["4", "differ", "0.0.9"],
        ["-", "-", "-"], ["-", "differ", "-"], ["1", "-", "-"]]
    assert done.stderr.endswith(
        "linnet: partial: 5 of 8 hosts answered; missing: "
        "10.0.0.7 (unreachable), 10.0.0.8 (behind), 1 more\n")
    assert done.returncode == 3
    server.replies["GET /api/v1/overlay/agents"] = (503, {
        "type": "/problems/unavailable", "status": 503, "title": "busy"})
    done = linnet("overlay", "show")
    assert done.returncode == 3 and "10.0.0.6" in done.stdout


def test_overlay_as_json(server, linnet):
    """What the text shows: who is where, and what each said of itself."""
    now = "2026-11-21T01:00:09.000Z"
    child = {**member(4, 2, now, hosts=2), "version": "0.1.0"}
    overlay = {"node_id": f"{2:032x}", "parent": None, "children": [child]}
    rows = [member(2, 0, now, hosts=3), child, member(5, 4, now)]
    agents = [{"node_id": f"{n:032x}", "version": "0.1.0", "tasks": 3,
               "tasks_hash": "a" * 16} for n in (2, 4, 5)]

    def show(status, last, coverage=COMPLETE):
        server.replies["GET /api/v1/overlay"] = (200, {
            "data": overlay, "meta": {"request_id": "5f1c"}})
        server.replies["GET /api/v1/overlay/members"] = (0, [
            (200, {"data": rows[:2], "meta": {"next_cursor": "c1"}}),
            (200, {"data": [last], "meta": {}})])
        server.replies["GET /api/v1/overlay/agents"] = (
            status, {"data": agents, "meta": {"coverage": coverage}})
        done = linnet("overlay", "show", "-o", "json")
        assert status != 200 or done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    assert show(200, rows[2]) == (0, {
        "data": {**overlay, "members": rows, "agents": agents},
        "meta": {"request_id": "5f1c", "coverage": COMPLETE}})
    status, document = show(200, rows[2], PARTIAL)
    assert status == 3 and document["meta"]["coverage"] == PARTIAL
    down = member(5, 4, now, "down")
    status, document = show(200, down)
    assert status == 3 and document["data"]["members"] == [*rows[:2], down]
    # who was asked would not tell
    status, document = show(503, rows[2])
    assert status == 3 and "agents" not in document["data"]


def test_overlay_below_the_root(server, linnet):
    """An inner agent knows its own children, not who is below them."""
    now = "2026-11-21T01:00:09.000Z"
    child = {**member(4, 2, now), "hosts": 3}
    server.replies["GET /api/v1/overlay"] = (200, {"data": {
        "node_id": f"{2:032x}", "parent": "10.0.0.9", "children": [child]}})
    server.replies["GET /api/v1/overlay/members"] = (200, {"data": [
        member(n, 0, None, None) for n in (9, 2, 4, 5, 6)], "meta": {}})
    done = linnet("overlay", "show")
    assert done.returncode == 0
    assert [r.split()[:2] for r in done.stdout.splitlines()[1:]] == [
        ["10.0.0.2", "asked"], ["10.0.0.4", "up"]]
    assert "2 hosts further down are not shown: ask the root" in done.stderr
    assert linnet("overlay", "show", "-o", "json").stderr == ""


def test_overlay_changes(server, linnet):
    server.replies["POST /api/v1/overlay/children"] = (
        201, {"data": {"host": "10.0.0.7"}})
    server.replies["GET /api/v1/overlay"] = (200, {"data": {"children": [
        {"host": "10.0.0.7", "node_id": "ab", "hosts": 3}]}})
    server.replies["DELETE /api/v1/overlay/children/10.0.0.7"] = (204, "")
    assert linnet("overlay", "add", "10.0.0.7").returncode == 0
    assert json.loads(server.seen[0][3]) == {"host": "10.0.0.7"}
    done = linnet("overlay", "rm", "10.0.0.7", "--dry-run")
    assert done.returncode == 0 and "10.0.0.7" in done.stdout
    assert linnet("overlay", "rm", "--dry-run", "10.0.0.9").returncode == 4
    assert [s[0] for s in server.seen] == ["POST", "GET", "GET"]
    assert linnet("overlay", "rm", "10.0.0.7").returncode == 0
    assert linnet("overlay", "rm", "10.0.0.9").returncode == 4
    for verb in ("drain", "accept"):
        server.replies[f"POST /api/v1/overlay/{verb}"] = (204, "")
        assert linnet("overlay", verb).returncode == 0
        assert server.seen[-1][:2] == ("POST", f"/api/v1/overlay/{verb}")


def test_probe(server, linnet):
    base = {"id": "0a", "kind": "bw", "src": "10.0.0.5", "dst": "10.0.0.6"}
    server.replies["POST /api/v1/probes"] = (
        202, {"data": {**base, "state": "running"}})
    server.replies["GET /api/v1/probes/0a"] = (0, [
        (200, {"data": {**base, "state": "running"}}),
        (200, {"data": {**base, "state": "done", "result": {
            "mbytes_per_s": 1980.25, "bytes": 1073741824,
            "seconds": 0.517104}}})])
    done = linnet("probe", "bw", "10.0.0.5", "10.0.0.6", "--duration=1s")
    assert done.returncode == 0
    assert done.stdout == (
        "KIND  SRC       DST       MBYTES/S       BYTES   SECONDS\n"
        "bw    10.0.0.5  10.0.0.6   1980.25  1073741824  0.517104\n")
    assert json.loads(server.seen[0][3]) == {
        "kind": "bw", "src": "10.0.0.5", "dst": "10.0.0.6", "duration_s": 1.0}
    server.replies["GET /api/v1/probes/0a"] = (
        200, {"data": {**base, "state": "failed", "error": "peer gone"}})
    done = linnet("probe", "jitter", "10.0.0.5", "10.0.0.6")
    assert done.returncode == 1 and "peer gone" in done.stderr


@pytest.mark.parametrize("status, expected", [
    (400, 1), (401, 6), (403, 6), (404, 4), (409, 1), (422, 1), (429, 1),
    (500, 1), (503, 5), (504, 5), (507, 1)])
def test_exit_of_a_refusal(server, linnet, status, expected):
    server.replies["GET /api/v1/tasks"] = (
        status, problem(status, "it \033[31mis so\n"))
    done = linnet("task", "ls")
    assert done.returncode == expected and done.stdout == ""
    assert done.stderr == f"linnet: it ?[31mis so? (status {status})\n"


def test_broken_answers(server, linnet):
    for text in ("", "{", "[1] x", "nul"):
        server.replies["GET /api/v1/tasks"] = (200, text)
        assert linnet("task", "ls").returncode == (1 if text else 0)
    server.replies["GET /api/v1/tasks"] = (500, "<html>")
    assert "status 500" in linnet("task", "ls").stderr
    server.replies["GET /api/v1/tasks"] = (200, {"data": [{}, {"id": []}]})
    done = linnet("task", "ls")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3


def test_unreachable(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        done = subprocess.run([LINNET, "-H", f"127.0.0.1:{port}", "status"],
                              capture_output=True, text=True)
    assert done.returncode == 5 and done.stdout == ""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        done = subprocess.run(
            [LINNET, "-H", f"127.0.0.1:{port}", "--timeout", "50ms", "status"],
            capture_output=True, text=True, timeout=10)
    assert done.returncode == 5


@pytest.mark.parametrize("args", [
    [], ["task"], ["task", "nosuch"], ["nosuch"], ["task", "show"],
    ["task", "ls", "x"], ["query", "key", TASK], ["task", "add"],
    ["query", "key", TASK, *map(str, range(33))],
    ["--nosuch", "status"], ["task", "ls", "--dry-run"], ["-o", "xml", "status"],
    ["--timeout", "40ms", "status"], ["--scope", "all", "status"],
    ["-H", "http://", "status"], ["-H", "https://10.0.0.1", "status"],
    ["-H", "a b", "status"], ["-H", "1.2.3.4:99999", "status"],
    ["task", "rm", "--watch", TASK], ["status", "--watch=x"],
    ["task", "add", "--in", "--out", "--key", "src"],
    ["token", "new", "root", "x"], ["token", "new", "read", "a b"],
    ["probe", "bw", "--duration", "11", "a", "b"],
])
def test_usage(args):
    done = subprocess.run([LINNET, *args], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("linnet: ") and done.stderr.count("\n") == 1


def test_half_a_verb():
    for words in (["msnm"], ["msnm", "nosuch"]):
        done = subprocess.run([LINNET, *words], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == ("linnet: msnm: which of calibrate, observe, "
                               "replay, count? (see --help)\n")


def test_environment_is_checked():
    done = subprocess.run([LINNET, "status"], capture_output=True, text=True,
                          env={"LINNET_HOST": "https://x"})
    assert done.returncode == 78 and "LINNET_HOST" in done.stderr


def test_options_end(server, linnet):
    server.replies["GET /api/v1/tasks/--name"] = (200, {"data": TASK_OBJECT})
    assert linnet("task", "show", "--", "--name").returncode == 0
    assert linnet("task", "show", "--name").returncode == 2


def test_token_file(server, linnet, tmp_path):
    server.replies["GET /api/v1/tasks"] = (200, {"data": []})
    path = tmp_path / "token"
    path.write_text("abc_DEF-1\n")
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        assert linnet("--token-file", str(path), "task", "ls").returncode == 6
    assert not server.seen
    path.chmod(0o600)
    assert linnet("task", "ls", LINNET_TOKEN_FILE=str(path)).returncode == 0
    assert server.seen[0][2]["Authorization"] == "Bearer abc_DEF-1"
    for text in ("", "a b\n", "a\nb\n", "x" * 300):
        path.write_text(text)
        assert linnet("--token-file", str(path), "task", "ls").returncode == 6
    assert linnet("--token-file", "/nonexistent", "task", "ls").returncode == 6
    assert len(server.seen) == 1
    linnet("task", "ls")
    assert "Authorization" not in server.seen[1][2]


def test_token_new():
    def new():
        done = subprocess.run([LINNET, "token", "new", "read", "bob"],
                              capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    a, b = new(), new()
    assert a["token"] != b["token"] and len(a["token"]) == 43
    digest = hashlib.sha256(a["token"].encode()).hexdigest()
    assert a["line"] == f"read bob {digest}"


def test_proxy_is_not_used(server, linnet):
    server.replies["GET /api/v1/tasks"] = (200, {"data": []})
    assert linnet("task", "ls", http_proxy="http://127.0.0.1:1",
                  ALL_PROXY="http://127.0.0.1:1").returncode == 0


def test_redirect_is_not_followed(server, linnet):
    server.replies["GET /api/v1/tasks"] = (302, "")
    assert linnet("task", "ls").returncode == 1 and len(server.seen) == 1


def test_watch_and_interrupt(server):
    server.replies["GET /api/v1/tasks"] = (200, {"data": []})
    with subprocess.Popen(
            [LINNET, "-H", f"127.0.0.1:{server.server_port}", "-o", "table",
             "task", "ls", "--watch=100ms"], stdout=subprocess.PIPE) as run:
        for _ in range(3):
            assert run.stdout.readline().startswith(b"ID  NAME")
        run.send_signal(signal.SIGINT)
        assert run.wait(5) == 130


def test_no_colour_in_a_pipe(server, linnet):
    top(server)
    assert "\033" not in linnet("query", "top", TASK).stdout


@pytest.mark.parametrize("args, env, bold", [
    ([], {}, True), (["--no-color"], {}, False), ([], {"NO_COLOR": "1"}, False)])
def test_terminal(server, args, env, bold):
    """A table, and bold titles unless they are not wanted."""
    server.replies["GET /api/v1/tasks"] = (200, {"data": []})
    master, slave = os.openpty()
    subprocess.run([LINNET, "-H", f"127.0.0.1:{server.server_port}", "task",
                    "ls", *args], stdout=slave, env=env, check=True)
    os.close(slave)
    text = os.read(master, 1000).decode()
    os.close(master)
    assert text.startswith("\033[1mID  NAME" if bold else "ID  NAME")


@pytest.mark.parametrize("args", [
    ["task", "ls"], ["task", "ls", "--watch=100ms"], ["token", "new", "admin", "x"],
    ["--help"], ["-V"]])
def test_full_disk(server, args):
    """One status for output that nobody can take, whatever it is, and one line."""
    server.replies["GET /api/v1/tasks"] = (200, {"data": []})
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [LINNET, "-H", f"127.0.0.1:{server.server_port}", *args],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=10)
    assert done.returncode == 74
    assert done.stderr.count("\n") == 1 and "output" in done.stderr


def test_version_and_help():
    done = subprocess.run([LINNET, "-V"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("linnet ")
    text = subprocess.run([LINNET, "--help"], capture_output=True,
                          text=True).stdout
    for verb in ("status", "task rm", "query realtime", "overlay show",
                 "probe jitter", "token new"):
        assert f"  {verb}" in text
    text = subprocess.run([LINNET, "query", "top", "-h"], capture_output=True,
                          text=True).stdout
    assert "--threshold" in text


# ---- real agents --------------------------------------------------------

@pytest.fixture(scope="module")
def network():
    with pair() as p:
        yield p


def test_whole_tour(network):
    """Status, a task, its answers, a probe; each is refused where it must."""
    run = network.linnet
    done = run("status")
    assert done.returncode == 0 and "attached" in done.stdout
    assert run("status", "-q").stdout == ""
    done = run("task", "add", "--proto", "icmp", "--key", "src_dst", "--name",
               "pings")
    assert done.returncode == 0, done.stderr
    task = done.stdout.strip()
    assert network.child.ping(ASKED, 10) == 10
    assert run("query", "total", task).stdout.split() == [
        "PACKETS", "BYTES", "SEGMENTS", "HIDDEN_BYTES", "20", "1680", "20", "0"]
    assert run("query", "total", task, "--scope=host").stdout.split()[4] == "10"
    assert run("query", "top", task, "-n", "1").stdout.splitlines()[1].split() \
        == ["1", f"{ASKED},{CHILD}", "10", "10", "10", "50.00%", "yes"]
    assert run("query", "key", task, f"{CHILD},{ASKED}").stdout.splitlines()[
        1].split() == [f"{CHILD},{ASKED}", "10", "10", "10"]
    assert run("query", "distinct", task).stdout.split()[3:] == ["2", "2", "2"]
    assert run("query", "realtime", task).returncode == 0
    assert [row.split()[0] for row in run("task", "ls").stdout.splitlines()] \
        == ["ID", task]
    assert "pings" in run("task", "rm", "--dry-run", task).stdout
    assert run("task", "rm", task).returncode == 0
    assert run("task", "rm", task).returncode == 4
    assert run("query", "top", task).returncode == 4
    done = run("query", "top", "x/../y")
    assert done.returncode == 4 and "unknown task" in done.stderr


def test_tree(network):
    done = network.linnet("overlay", "show")
    assert done.returncode == 0
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    assert rows == [["HOST", "STATE"], [ASKED, "root"], [CHILD, "up"]]
    assert network.linnet("overlay", "add", CHILD).returncode == 0
    done = network.linnet("overlay", "add", ASKED)
    assert done.returncode == 1 and "this host itself" in done.stderr
    assert network.linnet("overlay", "rm", "10.0.0.9").returncode == 4
    assert f"would remove {CHILD}" in network.linnet(
        "overlay", "rm", "--dry-run", CHILD).stdout


@pytest.mark.parametrize("kind, column", [("bw", 3), ("jitter", 3)])
def test_probe_of_agents(network, kind, column):
    done = network.linnet("probe", kind, ASKED, CHILD, "--duration", "1")
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[1].split()
    assert row[:3] == [kind, ASKED, CHILD] and float(row[column]) >= 0
    done = network.linnet("probe", kind, ASKED, "192.0.2.1")
    assert done.returncode == 1 and "known peer" in done.stderr


def test_partial_and_unreachable(network):
    """Last: it ends the child's agent, then the asked one."""
    done = network.linnet("task", "add", "--key", "none")
    task = done.stdout.strip()
    network.agents[network.child].stop()
    done = network.linnet("query", "total", task)
    assert done.returncode == 3
    assert f"1 of 2 hosts answered; missing: {CHILD} (unreachable)" \
        in done.stderr
    wait_until(lambda: "down" in network.linnet("overlay", "show").stdout, 10)
    assert network.linnet("overlay", "show").returncode == 3
    network.agents[network.asked].stop()
    assert network.linnet("task", "ls").returncode == 5


def test_tokens():
    """A token of the command lets in, by its role and no further."""
    with Lab(2) as lab:
        host, lines = lab.hosts[0], []
        for role in ("read", "admin"):
            made = json.loads(host.run([LINNET, "token", "new", role,
                                        "me"]).stdout)
            lines.append(made["line"])
            (lab.dir / role).write_text(made["token"] + "\n")
            (lab.dir / role).chmod(0o600)
        path = lab.dir / "tokens"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        # the agent reads it as its own user
        os.chown(path, AGENT_UID, AGENT_UID)
        lab.dir.chmod(0o711)
        host.start([BUILD / "agent/linnet-agent", "--token-file", path,
                    "--user", AGENT_UID, "--instance", "lab"],
                   ready=True).wait_ready()

        def run(*args, role=None):
            extra = ["--token-file", lab.dir / role] if role else []
            return host.run([LINNET, "-o", "json", *extra, *args], check=False)
        assert run("task", "ls").returncode == 6
        assert run("task", "ls", role="read").returncode == 0
        done = run("overlay", "add", "10.0.0.9", role="read")
        assert done.returncode == 6 and "not allowed" in done.stderr
        assert run("overlay", "show", role="admin").returncode == 0
