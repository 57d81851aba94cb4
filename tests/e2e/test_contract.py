# SPDX-License-Identifier: GPL-2.0-or-later
"""The edges of the public contract, asked of real agents: what is true of an
answer when somebody is slow, gone, late or asks twice."""
import json
import pathlib
import signal
import sys
import time
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pair import ASKED, CHILD, pair, wait_until  # noqa: E402

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", name="network")
def fixture_network():
    with pair() as p:
        yield p


def ask(p, type, host=ASKED, **fields):
    """A message of POST /; fields may have any name."""
    return p.send("POST", "/", urllib.parse.urlencode({"type": type, **fields}),
                  {"Content-Type": "application/x-www-form-urlencoded"}, host)


def sketch(p, key="src", **fields):
    """sketch_id of a new sketch with one counter."""
    r = ask(p, "config sketch", **fields)
    assert r.status == 200, r
    sid = int(r.text)
    r = ask(p, "config sketch counter", sketch_id=sid, counter_key_type=key)
    assert r.status == 200, r
    return sid


def answered(r):
    return r.headers.get("X-Linnet-Answered")


def monitor_states(p):
    return {p.get("/api/v1/status", host=h).json["data"]["monitor"]["state"]
            for h in (ASKED, CHILD)}


# ---- coverage of configurations ----

def test_configured_again_says_who_heard(network):
    sid = sketch(network, proto="icmp")
    r = ask(network, "config sketch counter", sketch_id=sid,
            counter_key_type="src", hitter_threshold="0.5")
    assert (r.status, r.text, answered(r)) == (200, "counter configured", "2/2")
    for _ in range(2):
        r = ask(network, "config counter", proto="sctp")
        assert (r.status, answered(r)) == (200, "2/2")


def test_configured_again_keeps_the_counts(network):
    sid = sketch(network, proto="icmp")
    network.asked.ping(CHILD, count=10)
    query = {"sketch_id": sid, "counter_key_type": "src"}
    both = {ASKED: 10, CHILD: 10}
    assert ask(network, "query heavy hitters", **query).json == both
    for threshold, hitters in (("1", {}), ("0", both)):
        r = ask(network, "config sketch counter", **query,
                hitter_threshold=threshold)
        assert r.status == 200
        assert ask(network, "query heavy hitters", **query).json == hitters


def test_counter_of_a_host_sketch_stays_on_the_host(network):
    sid = int(ask(network, "config sketch", scope="host").text)
    ask(network, "config sketch counter", sketch_id=sid, counter_key_type="dst")
    tasks = network.get("/api/v1/tasks", host=CHILD).json["data"]
    assert not [t for t in tasks if t["key"] == "dst"]


# ---- tasks that end early ----

def test_task_expires_before_all_have_answered():
    with pair() as p:
        p.agents[p.child].signal(signal.SIGSTOP)
        try:
            r = p.post("/api/v1/tasks?timeout=2500ms",
                       {"key": "src", "expires_s": 1})
        finally:
            p.agents[p.child].signal(signal.SIGCONT)
        assert r.status == 503
        assert r.json["type"] == "/problems/unavailable"
        assert p.get("/livez").status == 200


# ---- monitors that are gone or late ----

def test_nobody_there_uses_up_no_sketch_id():
    with pair() as p:
        assert ask(p, "config sketch").text == "0"
        for host in (p.asked, p.child):
            p.monitors[host].stop()
        wait_until(lambda: monitor_states(p) == {"absent"}, 5)
        for _ in range(3):
            r = ask(p, "config sketch")
            assert (r.status, answered(r)) == (503, "0/2")
        for host in (p.asked, p.child):
            host.monitor()
        wait_until(lambda: monitor_states(p) == {"attached"}, 5)
        assert ask(p, "config sketch").text == "1"


def test_monitor_that_greets_late_is_attached():
    with pair(child=False) as p:
        monitor = p.monitors[p.asked]
        p.agents[p.asked].stop()
        monitor.signal(signal.SIGSTOP)
        try:
            agent = p.start_agent(p.asked, ASKED, ready=False)
            agent.wait_ready()
            # the greeting has 400 ms
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 0.8, 2)
        finally:
            monitor.signal(signal.SIGCONT)
        wait_until(lambda: p.get("/readyz").status == 200, 5, "attached")


# ---- headers ----

def test_long_addresses_of_missing_hosts_are_whole():
    with pair(child=False) as p:
        p.agents[p.asked].stop()
        hosts = [f"[2001:db8:1111:2222:3333:4444:5555:{0x1000 + i:x}]:18001"
                 for i in range(18)]
        p.start_agent(p.asked, ASKED, *(f"--child={h}" for h in hosts))
        wait_until(lambda: p.get("/readyz").status == 200, 5, "ready")
        r = ask(p, "config sketch")
        items = r.headers["X-Linnet-Missing"].split(", ")
        assert answered(r) == "1/19"
        assert len(items) == 17 and items[-1] == "+2"
        assert all(item.endswith("]:18001=unreachable") for item in items[:-1])
