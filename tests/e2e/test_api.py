# SPDX-License-Identifier: GPL-2.0-or-later
"""T30: the API as it is documented, asked of real agents.

Every example of api/README.md is replayed as it stands there (curl), with the
other form of body, and by urllib.  What cannot be known beforehand (ids,
times, speeds) must be of the documented type; all else must be equal.
"""
import json
import pathlib
import re
import shlex
import sys
import urllib.parse
from typing import NamedTuple

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pair import ASKED, CHILD, ROOT, pair, wait_until  # noqa: E402

README = ROOT / "api/README.md"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
PROBLEM = "application/problem+json"

# Ids are bound when first seen.  Other values, and all in the result of a
# probe, differ from run to run; their types do not.
ID = re.compile("[0-9a-f]{16}|[0-9a-f]{32}")
VOLATILE = {
    "epoch_text", "latency_ms",
    "incarnation", "started", "created", "began", "last_seen", "start",
    "seconds", "elapsed_ms", "epoch", "memory_bytes", "queue_depth", "matched",
    "received", "next_cursor", "version"}
SCALARS = {"query bw": r"\d{2,}|\d\.\d{2}", "query jitter": r"\d+\.\d{3}"}


class Example(NamedTuple):
    host: str
    argv: list
    output: str


def examples():
    """Prompts of the console blocks; output until the next prompt."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", README.read_text(),
                            re.M | re.S):
        for prompt in re.split(r"^(?=10\.0\.0\.\d\$ )", block, flags=re.M)[1:]:
            line, _, output = prompt.partition("\n")
            host, _, command = line.partition("$ ")
            found.append(Example(host, shlex.split(command),
                                 " ".join(output.split("\n")).strip()))
    return found


class Request(NamedTuple):
    method: str
    path: str
    body: "str | None"
    type: "str | None"

    @classmethod
    def of(cls, argv):
        """What a curl command line sends."""
        method, body, kind, path = "GET", None, None, None
        words = iter(argv[1:])
        for word in words:
            if word == "-d":
                body, method, kind = next(words), "POST", kind or FORM
            elif word == "-X":
                method = next(words)
            elif word == "-H":
                kind = next(words).removeprefix("Content-Type: ")
            else:
                path = word.removeprefix(f"http://{ASKED}:8000")
        return cls(method, path, body, kind)

    def other_form(self):
        """A message with its fields as JSON, or as a form."""
        if self.path != "/":
            return self
        if self.type == JSON:
            body = urllib.parse.urlencode(json.loads(self.body))
            return self._replace(body=body, type=FORM)
        fields = dict(urllib.parse.parse_qsl(self.body))
        return self._replace(body=json.dumps(fields), type=JSON)


def by_curl(network, request):
    args = ["-X", request.method, f"http://{ASKED}:8000{request.path}"]
    if request.body is not None:
        args += ["-d", request.body, "-H", f"Content-Type: {request.type}"]
    return network.curl(*args)


def by_urllib(network, request):
    headers = {"Content-Type": request.type} if request.body else {}
    return network.send(request.method, request.path, request.body, headers)


WAYS = {"form": lambda n, r: by_curl(n, r),
        "other": lambda n, r: by_curl(n, r.other_form()),
        "urllib": by_urllib}


class Differs(AssertionError):
    pass


class Replay:
    """Compares replies with the document; ids are bound when first seen."""

    def __init__(self):
        self.bound = {}

    def fill(self, text):
        for documented, actual in self.bound.items():
            text = text.replace(documented, actual)
        return text

    def value(self, want, got, name="", volatile=False):
        """The same structure and types; the same values if they can be."""
        volatile |= name in VOLATILE
        if type(want) is not type(got):
            raise Differs(f"{name}: {want!r}, got {got!r}")
        if isinstance(want, dict):
            if list(want) != list(got):
                raise Differs(f"{name}: {list(want)}, got {list(got)}")
            for key in want:
                self.value(want[key], got[key], key, name == "result")
        elif isinstance(want, list):
            if len(want) != len(got):
                raise Differs(f"{name}: {want}, got {got}")
            for a, b in zip(want, got):
                self.value(a, b, name)
        elif volatile or name == "request_id":
            pass
        elif isinstance(want, str) and ID.fullmatch(want):
            if self.bound.setdefault(want, got) != got:
                raise Differs(f"{name}: {want} was {self.bound[want]}, "
                              f"got {got}")
        elif name == "instance":
            self.value(self.fill(want), got)
        elif want != got:
            raise Differs(f"{name}: {want!r}, got {got!r}")

    def reply(self, request, output, got):
        if output.startswith(("{", "[")):
            if not (got.type or "").startswith((JSON, PROBLEM)):
                raise Differs(f"{got}")
            if request.path == "/":
                if json.dumps(json.loads(got.text)) != got.text \
                        or got.text != output:
                    raise Differs(f"{output}, got {got.text}")
            else:
                self.value(json.loads(output), got.json)
            return
        shape = SCALARS.get(dict(urllib.parse.parse_qsl(
            request.body or "")).get("type"))
        if output.startswith("error: ") or not shape:
            if got.text != output:
                raise Differs(f"{output}, got {got.text}")
        elif not re.fullmatch(shape, got.text):
            raise Differs(f"{output}, got {got.text}")
        if (got.type or TEXT) != TEXT:
            raise Differs(f"{got}")

    def run(self, network, way, example):
        request = Request.of([self.fill(a) for a in example.argv])
        repeat = request.method == "GET" or "query" in (request.body or "")
        last = []

        def attempt():
            got = WAYS[way](network, request)
            try:
                self.reply(request, example.output, got)
            except Differs as e:
                last[:] = [e]
                if not repeat or "error" in got.text:
                    raise
                return None
            return got
        try:
            return wait_until(attempt, 3)
        except AssertionError as e:
            raise AssertionError(f"{' '.join(example.argv)}: "
                                 f"{last[0] if last else e}") from None


def test_document_has_examples():
    found = examples()
    assert len(found) > 40
    types = {json.dumps(e.argv) for e in found}
    for word in ("query heavy hitters", "query bw", "/totals", "/probes"):
        assert any(word in t for t in types)


@pytest.mark.parametrize("way", WAYS)
def test_examples(way):
    replay = Replay()
    with pair() as network:
        for example in examples():
            if example.argv[0] == "ping":
                assert example.host == CHILD
                n = int(example.argv[2])
                assert network.child.ping(example.argv[-1], n) == n
            else:
                got = replay.run(network, way, example)
                assert documented_status(got, example), (example, got)


def documented_status(got, example):
    """Errors have a status of the table, everything else 2xx."""
    if got.type == PROBLEM:
        return got.json["status"] == got.status >= 400
    if not got.text.startswith("error: "):
        return 200 <= got.status < 300
    return any(got.text.startswith("error: " + text) and
               got.status == int(status) for text, status in
               re.findall(r"^\| `([^`]+)` \| (\d{3}) \|", README.read_text(),
                          re.M))


# ---- the worked examples of the frozen form -----------------------------

SOURCES = [f"10.0.0.{i}" for i in (1, 2, 3, 4, 6, 7, 8, 9)]


@pytest.fixture(scope="module")
def crowd():
    """The child speaks as eight hosts; nobody below the asked agent."""
    with pair(child=False, more=[a for a in SOURCES if a != CHILD]) as p:
        yield p


def pingall(network):
    """Each source and the asked host exchange one ping in each direction."""
    for source in SOURCES:
        network.child.run(["ping", "-n", "-c1", "-W1", "-I", source, ASKED])
        network.asked.run(["ping", "-n", "-c1", "-W1", "-I", ASKED, source])


def test_heavy_hitters_of_one_host(crowd):
    sid = crowd.ask("config sketch", interface="INPUT", proto="icmp").text
    assert re.fullmatch(r"\d+", sid)
    made = crowd.ask("config sketch counter", sketch_id=sid,
                     counter_key_type="src", increment="pkt")
    assert (made.status, made.text) == (200, "counter configured")

    def ask(type, **fields):
        return crowd.ask(type, sketch_id=sid, counter_key_type="src", **fields)
    assert ask("query heavy hitters").text == "{}"
    assert ask("query sketch", counter_key="key_num").text == "0"
    for k in (1, 2):
        pingall(crowd)
        r = ask("query heavy hitters")
        assert r.text == json.dumps({a: 2 * k for a in SOURCES})
        assert r.type == JSON
        assert r.headers["X-Linnet-Complete"] == "true"
        assert r.headers["X-Linnet-Answered"] == "1/1"
        assert r.headers["X-Linnet-Missed-Packets"] == "0"
        assert ask("query sketch", counter_key=CHILD).text == str(2 * k)
        assert ask("query sketch", counter_key="key_num").text == "8"


def test_port_scan(crowd):
    sid = crowd.ask("config sketch", interface="INPUT").text
    for k in ("src_dport", "dport"):
        assert crowd.ask("config sketch counter", sketch_id=sid, increment="pkt",
                         counter_key_type=k).status == 200
    crowd.child.run(["nc", "-z", "-s", CHILD, ASKED, "8008-8092"], check=False)

    def scan():
        # asked over the wire: what the agents say is never measured
        number = crowd.ask("query sketch", sketch_id=sid, src=crowd.child,
                           counter_key_type="dport",
                           counter_key="real_time_key_num")
        now = crowd.ask("query real time counter", sketch_id=sid,
                        counter_key_type="src_dport", src=crowd.child)
        return (number.text, now.text) if number.text == "85" else None
    number, now = wait_until(scan, 2, "85 ports in one second")
    assert now == json.dumps({f"{CHILD},{p}": 1 for p in range(8008, 8093)})


def test_bandwidth_needs_a_known_peer(crowd):
    r = crowd.ask("query bw", dst="192.0.2.1")
    assert (r.status, r.text) == (400, "error: not a known peer: dst")


# ---- bad input ----------------------------------------------------------

def sketch_with_counter(network):
    sid = network.ask("config sketch", proto="tcp").text
    network.ask("config sketch counter", sketch_id=sid,
                counter_key_type="src_dst")
    return sid


KEYS = "src dst src_dst sport dport src_dport dst_dport 5-tuple"
PREFIX = "IPv4 or IPv6 address or prefix A/n; src, dst and proto of one family"
BAD = [
    ("", 400, "no message type"),
    ("type=", 400, "no message type"),
    ("type=query nothing", 400, "unknown message type"),
    ("type=QUERY SKETCH", 400, "unknown message type"),
    ("type=config sketch counter", 400, "missing field: sketch_id"),
    ("type=config sketch counter&sketch_id=SID", 400,
     "missing field: counter_key_type"),
    ("type=config sketch counter&sketch_id=SID&counter_key_type=", 400,
     "missing field: counter_key_type"),
    ("type=config sketch counter&sketch_id=SID&counter_key_type=source", 400,
     f"bad value: counter_key_type ({KEYS})"),
    ("type=config sketch counter&sketch_id=SID&counter_key_type=src"
     "&increment=packets", 400,
     "bad value: increment (pkt, byte, bytes or segment)"),
    ("type=config sketch counter&sketch_id=SID&counter_key_type=src"
     "&hitter_threshold=1.5", 400,
     "bad value: hitter_threshold (real number 0..1)"),
    ("type=config sketch counter&sketch_id=SID&counter_key_type=src"
     "&hitter_threshold=nan", 400,
     "bad value: hitter_threshold (real number 0..1)"),
    ("type=config sketch counter&sketch_id=-1&counter_key_type=src", 400,
     "bad value: sketch_id (integer from 0)"),
    ("type=config sketch counter&sketch_id=99&counter_key_type=src", 400,
     "unknown sketch: 99"),
    ("type=config sketch&interface=FORWARD", 400,
     "bad value: interface (INPUT or OUTPUT)"),
    ("type=config sketch&proto=0", 400,
     "bad value: proto (tcp, udp, icmp, icmpv6, sctp, all or 1..255)"),
    ("type=config sketch&src=example.org", 400, f"bad value: src ({PREFIX})"),
    ("type=config sketch&src=10.0.0.1/33", 400, f"bad value: src ({PREFIX})"),
    ("type=config sketch&src=10.0.0.1&dst=fd77::1", 400,
     f"bad value: dst ({PREFIX})"),
    ("type=config sketch&proto=icmp&src=fd77::1", 400,
     f"bad value: src ({PREFIX})"),
    ("type=config sketch&src=!10.0.0.1", 400, f"bad value: src ({PREFIX})"),
    ("type=config counter&target=DROP", 400, "bad value: target (ACCEPT)"),
    ("type=query sketch&sketch_id=SID&counter_key_type=src_dst"
     "&counter_key=10.0.0.1", 400, "bad value: counter_key "
     "(a key of that type with addresses of one family, key_num or "
     "real_time_key_num)"),
    ("type=query sketch&sketch_id=SID&counter_key_type=src_dst"
     "&counter_key=10.0.0.1,fd77::1", 400, "bad value: counter_key "
     "(a key of that type with addresses of one family, key_num or "
     "real_time_key_num)"),
    ("type=query sketch&sketch_id=SID&counter_key_type=dport&counter_key=80",
     400, "unknown counter: dport"),
    ("type=query heavy hitters&sketch_id=SID&counter_key_type=src_dst"
     "&hitter_base=net", 400, "bad value: hitter_base (host or tree)"),
    ("type=query counter&proto=sctp", 400, "unknown counter: plain"),
    ("type=query heavy hitters&sketch_id=SID&counter_key_type=src_dst"
     "&scope=all", 400, "bad value: scope (tree or host)"),
    ("type=add leaf agent&agent_addr=localhost", 400, "bad value: agent_addr "
     "(IPv4 or IPv6 address, [v6]:port or v4:port)"),
    ("type=add leaf agent&agent_addr=127.0.0.1", 400,
     "refused: loopback address"),
    ("type=query bw&dst=10.0.0.6&duration=11", 400,
     "bad value: duration (seconds 1..10)"),
    ("type=query bw&dst=10.0.0.6&src=10.0.0.9", 400,
     "bad value: src (IPv4 or IPv6 address of this agent)"),
    ("type=config iperf server&server_mode=sctp", 400,
     "bad value: server_mode (tcp or udp)"),
    ("type=est_req", 501, "not implemented"),
    ("type=config sketch&type=config sketch", 400, "repeated field"),
    ("type=config sketch&proto=%zz", 400, "malformed body"),
    ("type=config sketch&proto=%00", 400, "malformed body"),
    ("type=config sketch&proto=%ff", 400, "malformed body"),
    ("type=config sketch&proto=" + "1" * 257, 400, "malformed body"),
    ("&".join(f"f{i}=1" for i in range(33)), 400, "malformed body"),
]


@pytest.fixture(scope="module")
def lone():
    """One asked agent with a counter, its id in .sid."""
    with pair(child=False) as p:
        p.sid = sketch_with_counter(p)
        yield p


def configured(network):
    tasks = network.get("/api/v1/tasks").json["data"]
    leaves = network.ask("query leaf agents").text
    return [t["id"] for t in tasks], leaves


def one_line(r, status, text):
    assert (r.status, r.text, r.type) == (status, "error: " + text, TEXT)
    assert re.fullmatch(r"[ -~]+", r.text)
    assert len(r.headers["X-Request-Id"]) > 0


@pytest.mark.parametrize("body, status, text", BAD,
                         ids=[str(i) for i in range(len(BAD))])
def test_bad_message(lone, body, status, text):
    before = configured(lone)
    body = body.replace("SID", lone.sid)
    one_line(lone.send("POST", "/", body, {"Content-Type": FORM}), status, text)
    assert configured(lone) == before


def test_next_sketch_follows(lone):
    """What was refused used up no id."""
    assert int(lone.ask("config sketch").text) == int(lone.sid) + 1


@pytest.mark.parametrize("body, text", [
    ("", "malformed body"), ("{", "malformed body"), ("[]", "malformed body"),
    ('{"type": "config sketch", "proto": true}', "malformed body"),
    ('{"type": "config sketch", "proto": null}', "malformed body"),
    ('{"type": "config sketch", "x": {"y": 1}}', "malformed body"),
    ('{"type": "config sketch", "type": "config sketch"}', "repeated field"),
    ('{"proto": "tcp"}', "no message type"),
    ('{"type": "config sketch", "proto": 6.5}', "bad value: proto (tcp, udp, "
     "icmp, icmpv6, sctp, all or 1..255)"),
])
def test_bad_json(lone, body, text):
    before = configured(lone)
    one_line(lone.send("POST", "/", body, {"Content-Type": JSON}), 400, text)
    assert configured(lone) == before


def test_bad_framing(lone):
    before = configured(lone)
    url = f"http://{ASKED}:8000/"
    good = "type=config sketch"
    one_line(lone.send("POST", "/", good, {"Content-Type": "text/xml"}), 415,
             "content type")
    one_line(lone.send("POST", "/", good + "&x=" + "1" * 65536,
                       {"Content-Type": FORM}), 413, "too large")
    one_line(lone.send("PUT", "/", good, {"Content-Type": FORM}), 405, "method")
    r = lone.curl("-H", "Transfer-Encoding: chunked", "-d", good, url)
    assert (r.status, r.text) == (411, "error: length required")
    r = lone.curl("-F", "type=config sketch", url)
    assert (r.status, r.text) == (415, "error: content type")
    r = lone.curl("-H", "Host: evil.example", "-d", good, url)
    assert (r.status, r.text) == (403, "error: not allowed")
    r = lone.curl("-H", "Origin: http://evil.example", "-d", good, url)
    assert (r.status, r.text) == (403, "error: not allowed")
    assert configured(lone) == before


V1_BAD = [
    ("GET", "/api/v1/nothing", None, 404, "not-found", "not found"),
    ("PUT", "/api/v1/status", {}, 405, "method", "method"),
    ("GET", "/api/v1/tasks/00c0ffee00000007", None, 404, "unknown-task",
     "unknown task"),
    ("GET", "/api/v1/tasks/x/top", None, 404, "unknown-task", "unknown task"),
    ("GET", "/api/v1/tasks?limit=0", None, 422, "invalid-value",
     "bad value: limit (1..1000)"),
    ("GET", "/api/v1/tasks?nothing=1", None, 400, "bad-request",
     "unknown field: nothing"),
    ("GET", "/api/v1/tasks?limit=1&limit=2", None, 400, "bad-request",
     "repeated field"),
    ("GET", "/api/v1/tasks/TASK/top?threshold=2", None, 422, "invalid-value",
     "bad value: threshold (real number 0..1)"),
    ("GET", "/api/v1/tasks/TASK/estimate", None, 400, "bad-request",
     "missing field: key"),
    ("GET", "/api/v1/tasks/TASK/estimate?key=10.0.0.1", None, 422,
     "invalid-value",
     "bad value: key (1 to 32 keys of the task's key type, each with "
     "addresses of one family)"),
    ("GET", "/api/v1/tasks/TASK/estimate?key=" + "1" * 1024, None, 422,
     "invalid-value", "bad value: key (1 to 32 keys of the task's key type, "
     "each with addresses of one family)"),
    ("GET", "/api/v1/tasks/TASK/estimate?key=" + "1" * 1025, None, 400,
     "bad-request", "malformed body"),
    ("POST", "/api/v1/tasks", {"key": "src", "filter": {"src": "1" * 1024}},
     422, "invalid-value", f"bad value: src ({PREFIX})"),
    ("POST", "/api/v1/tasks", {"key": "src", "filter": {"src": "1" * 1025}},
     400, "bad-request", "malformed body"),
    ("GET", "/api/v1/tasks/TASK/top?timeout=1ms", None, 422, "invalid-value",
     "bad value: timeout (50ms..30s)"),
    ("POST", "/api/v1/tasks", {}, 400, "bad-request", "missing field: key"),
    ("POST", "/api/v1/tasks", {"key": "source"}, 422, "invalid-value",
     f"bad value: key ({KEYS})"),
    ("POST", "/api/v1/tasks", {"key": "src", "colour": "red"}, 400,
     "bad-request", "unknown field: colour"),
    ("POST", "/api/v1/tasks", {"key": "src", "filter": {"proto": 6}}, 422,
     "invalid-value",
     "bad value: proto (tcp, udp, icmp, icmpv6, sctp, all or 1..255)"),
    ("POST", "/api/v1/tasks", {"key": "src", "window_s": 3601}, 422,
     "invalid-value", "bad value: window_s (0, or a multiple of 0.1 up to 3600)"),
    ("POST", "/api/v1/tasks", {"key": "src", "sketches": ["cms", "cms"]}, 422,
     "invalid-value", "bad value: sketches (list of cms, topk, hll, exact, "
     "each once; [] with key none)"),
    ("POST", "/api/v1/tasks", {"key": "src", "name": "a b"}, 422,
     "invalid-value", "bad value: name ([A-Za-z0-9._:-]{1,64})"),
    ("POST", "/api/v1/tasks", [], 400, "bad-request", "malformed body"),
    ("PUT", "/api/v1/tasks/TASK", {"key": "src"}, 400, "bad-request",
     "missing field: generation"),
    ("PUT", "/api/v1/tasks/TASK", {"generation": 0, "key": "src"}, 422,
     "invalid-value", "bad value: generation (1..9007199254740992)"),
    ("PUT", "/api/v1/tasks/TASK", {"generation": 1, "key": "src",
                                   "id": "00c0ffee00000007"}, 422,
     "invalid-value", "bad value: id (16 hex digits, as in the path)"),
    ("PUT", "/api/v1/tasks/0000000000000000", {"generation": 1, "key": "src"},
     422, "invalid-value", "bad value: id (16 hex digits, as in the path)"),
    ("PUT", "/api/v1/tasks/TASK", {"generation": 1, "key": "src",
                                   "origin": "legacy"}, 422,
     "invalid-value", "bad value: origin (v1)"),
    ("PUT", "/api/v1/tasks/TASK?scope=host", {"generation": 1, "key": "src"},
     400, "bad-request", "unknown field: scope"),
    ("PUT", "/api/v1/tasks/TASK", {"generation": 1, "key": "src",
                                   "filter": {"proto": "udp"}}, 409,
     "conflict", "conflict: another task has this id"),
    ("POST", "/api/v1/overlay/children", {}, 400, "bad-request",
     "missing field: host"),
    ("POST", "/api/v1/overlay/children", {"host": ASKED}, 422, "invalid-value",
     "refused: this host itself"),
    ("DELETE", "/api/v1/overlay/children/10.0.0.9", None, 404, "unknown-host",
     "unknown host"),
    ("POST", "/api/v1/probes", {"kind": "bw", "dst": "192.0.2.1"}, 422,
     "invalid-value", "not a known peer: dst"),
    ("POST", "/api/v1/probes", {"kind": "loss", "dst": CHILD}, 422,
     "invalid-value", "bad value: kind (bw or jitter)"),
    ("GET", "/api/v1/probes/0a", None, 404, "unknown-probe", "unknown probe"),
]


@pytest.mark.parametrize("case", V1_BAD, ids=lambda c: f"{c[0]}-{c[1]}")
def test_bad_request(lone, case):
    method, path, value, status, kind, detail = case
    before = configured(lone)
    path = path.replace("TASK", before[0][0])
    if value is None:
        r = lone.send(method, path)
    else:
        r = lone.send(method, path, json.dumps(value), {"Content-Type": JSON})
    assert (r.status, r.type) == (status, PROBLEM)
    assert r.json["type"] == f"/problems/{kind}"
    assert r.json["detail"] == detail
    assert r.json["status"] == status
    assert r.json["request_id"] == r.headers["X-Request-Id"]
    assert configured(lone) == before


def test_bad_v1_framing(lone):
    r = lone.send("POST", "/api/v1/tasks", '{"key": "src"}',
                  {"Content-Type": FORM})
    assert (r.status, r.json["type"]) == (415, "/problems/media-type")
    r = lone.send("POST", "/api/v1/tasks", '{"key": "src",}',
                  {"Content-Type": JSON})
    assert (r.status, r.json["detail"]) == (400, "malformed body")
    r = lone.send("POST", "/api/v1/tasks", " " * 65537, {"Content-Type": JSON})
    assert (r.status, r.json["type"]) == (413, "/problems/too-large")


def test_wrong_sketch(lone):
    made = lone.post("/api/v1/tasks", {"key": "src", "sketches": ["hll"]})
    assert made.status == 201
    path = made.headers["Location"]
    for name, status in (("top", 422), ("realtime", 422), ("distinct", 200),
                         ("estimate?key=10.0.0.1", 422), ("totals", 200)):
        r = lone.get(f"{path}/{name}")
        assert r.status == status, (name, r)
        if status == 422:
            assert r.json["type"] == "/problems/wrong-sketch"
    assert lone.send("DELETE", path).status == 204


def test_no_monitor():
    with pair(child=False, monitors=False) as network:
        one_line(network.ask("config sketch"), 503, "monitor not attached")
        assert network.ask("config sketch").headers["Retry-After"] == "1"
        assert configured(network) == ([], "[]")
        r = network.post("/api/v1/tasks", {"key": "src"})
        assert (r.status, r.json["type"]) == (503, "/problems/unavailable")
        r = network.get("/readyz")
        assert (r.status, r.text) == (503, "not ready")
        assert configured(network) == ([], "[]")
