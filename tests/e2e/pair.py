# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts of tests/netns/lab.py with monitor and agent on each, as in
api/README.md: 10.0.0.5 is asked, 10.0.0.6 is its child."""
import contextlib
import http.client
import itertools
import json
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/netns"))
from lab import (AGENT_UID, BUILD, MONITOR_UID, Lab,  # noqa: E402
                 wait_until)

ASKED, CHILD = "10.0.0.5", "10.0.0.6"
LINNET = BUILD / "api/linnet"


class Reply(NamedTuple):
    status: int
    type: str
    text: str
    headers: dict

    @property
    def json(self):
        return json.loads(self.text)


class Client(urllib.request.HTTPHandler):
    """One after the other: an agent limits what one address asks."""
    addresses = itertools.cycle(f"127.0.1.{i}" for i in range(1, 17))

    def http_open(self, request):
        source = next(self.addresses), 0
        return self.do_open(
            lambda host, timeout: http.client.HTTPConnection(
                host, timeout=timeout, source_address=source), request)


class Pair:
    """asked and child: hosts; more addresses of the child on request."""

    def __init__(self, lab, monitors=True, child=True, more=()):
        self.lab = lab
        self.asked, self.child = lab.hosts
        self.monitors, self.agents = {}, {}
        for host, *addresses in ((self.asked, ASKED),
                                 (self.child, CHILD, *more)):
            for a in addresses:
                host.run(["ip", "addr", "add", a + "/24", "dev", host.dev])
        if monitors:
            for host in lab.hosts:
                self.monitors[host] = host.monitor()
        self.start_agent(self.child, CHILD)
        self.start_agent(self.asked, ASKED,
                         *(["--child", CHILD] if child else []))
        if monitors:
            for address in (ASKED, CHILD):
                wait_until(lambda: self.get(
                    "/readyz", host=address).status == 200, 10, "ready")
        if child:
            wait_until(self.child_is_up, 10, "the child is up")

    def start_agent(self, host, address, *args, ready=True):
        process = host.start(
            [BUILD / "agent/linnet-agent", "--instance", "lab",
             "--listen", address, "--insecure", "--user", AGENT_UID,
             "--monitor-user", MONITOR_UID, *args], ready=True)
        if ready:
            process.wait_ready()
        self.agents[host] = process
        return process

    def child_is_up(self):
        children = self.get("/api/v1/overlay").json["data"]["children"]
        return children and children[0]["state"] == "up"

    def send(self, method, path, body=None, headers=(), host=ASKED, src=None):
        """One exchange by urllib, from the asked host or from src."""
        if isinstance(body, str):
            body = body.encode()
        rq = urllib.request.Request(f"http://{host}:8000{path}", body,
                                    dict(headers), method=method)
        handlers = [urllib.request.ProxyHandler({})]
        if host == ASKED and src in (None, self.asked):
            handlers.append(Client())
        opener = urllib.request.build_opener(*handlers)
        with (src or self.asked).inside():
            try:
                r = opener.open(rq, timeout=20)
            except urllib.error.HTTPError as e:
                r = e
            with contextlib.closing(r):
                return Reply(r.status, r.headers.get("Content-Type"),
                             r.read().decode(), dict(r.headers))

    def get(self, path, **options):
        return self.send("GET", path, **options)

    def post(self, path, value, **options):
        return self.send("POST", path, json.dumps(value),
                         {"Content-Type": "application/json"}, **options)

    def ask(self, type, host=ASKED, src=None, **fields):
        """A message of POST /, as a form."""
        return self.send(
            "POST", "/", urllib.parse.urlencode({"type": type, **fields}),
            {"Content-Type": "application/x-www-form-urlencoded"}, host, src)

    def curl(self, *args, src=None):
        """The reply to a curl command line."""
        text = (src or self.asked).run(
            ["curl", "-s", *args, "-w", "\n%{http_code} %{content_type}"]).stdout
        text, _, last = text.rpartition("\n")
        status, _, kind = last.partition(" ")
        return Reply(int(status), kind or None, text, {})

    def linnet(self, *args, form="table"):
        return self.asked.run([LINNET, "-H", ASKED, "-o", form, *args],
                              check=False)


@contextlib.contextmanager
def pair(**options):
    with Lab(2) as network:
        yield Pair(network, **options)
