# SPDX-License-Identifier: GPL-2.0-or-later
"""The edges of the public contract, asked of real agents: what is true of an
answer when somebody is slow, gone, late or asks twice."""
import json
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pair import (AGENT_UID, ASKED, BUILD, CHILD, pair,  # noqa: E402
                  wait_until)

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


# ---- order ----

def test_keys_are_in_order_of_family_first(network):
    low = ("::a00:5", "::a00:6")  # bytes below those of any IPv4 address
    for host, address in zip((network.asked, network.child), low):
        host.run(["ip", "-6", "addr", "add", address + "/120", "dev",
                  host.dev, "nodad"])
    sid = sketch(network, "src", interface="OUTPUT")
    task = network.get("/api/v1/tasks?limit=1000").json["data"][-1]["id"]
    hosts = {ASKED, CHILD, *low}

    def keys():
        network.asked.ping(CHILD, count=2)
        network.asked.run(["ping", "-c", "2", "-i", "0.02", low[1]])
        legacy = list(ask(network, "query real time counter", sketch_id=sid,
                          counter_key_type="src").json)
        v1 = [i["key"] for i in network.get(
            f"/api/v1/tasks/{task}/realtime").json["data"]]
        return hosts <= set(legacy) and hosts <= set(v1) and (legacy, v1)

    for found in wait_until(keys, 5, "all four in one second"):
        assert [k for k in found if k in hosts] == [ASKED, CHILD, *low]


# ---- thresholds ----

def test_a_key_with_exactly_the_share_is_no_hitter():
    """0.3 has no exact binary form: 3 of 10 is not above it all the same."""
    second = "10.0.0.7"
    with pair(more=(second,)) as p:
        sid = sketch(p, proto="icmp", scope="host")
        task = next(t["id"] for t in p.get("/api/v1/tasks").json["data"])
        p.asked.ping(CHILD, count=7)
        p.asked.ping(second, count=3)
        query = {"sketch_id": sid, "counter_key_type": "src", "scope": "host"}
        for base in ("host", "tree"):
            for threshold, want in (
                    ("0.3", {CHILD: 7}), ("0.29", {CHILD: 7, second: 3}),
                    ("0.7", {}), ("0.69", {CHILD: 7}), ("1", {}),
                    ("1e-9", {CHILD: 7, second: 3}),
                    ("0", {CHILD: 7, second: 3})):
                r = ask(p, "query heavy hitters", hitter_threshold=threshold,
                        hitter_base=base, **query)
                assert r.json == want, (base, threshold)
        for base in ("host", "tree"):
            r = p.get(f"/api/v1/tasks/{task}/top?threshold=0.3&base={base}"
                      "&scope=host")
            assert [(i["key"], i["certain"]) for i in r.json["data"]] == \
                [(CHILD, True)]
            assert r.json["meta"]["recall"] == "certain"


def test_largest_of_a_few():
    """Nothing has a share of two packets, but these are the largest."""
    with pair() as p:
        sid = sketch(p, proto="icmp", scope="host")
        task = next(t["id"] for t in p.get("/api/v1/tasks").json["data"])
        p.asked.ping(CHILD, count=2)
        for base in ("host", "tree"):
            query = f"/api/v1/tasks/{task}/top?base={base}&scope=host"
            r = p.get(query)
            assert [(i["key"], i["estimate"]) for i in r.json["data"]] == \
                [(CHILD, 2)], base
            assert r.json["meta"]["recall"] == "certain"
            assert p.get(query + "&threshold=0.1").json["data"] == []
            for threshold in ("0", "0.1"):
                r = ask(p, "query heavy hitters", sketch_id=sid,
                        counter_key_type="src", hitter_base=base,
                        scope="host", hitter_threshold=threshold)
                assert r.status == 200 and r.json == {}, (base, threshold)


# ---- requests of /api/v1 ----

@pytest.mark.parametrize("path, body, status, fields", [
    ("tasks", {}, 400, ["key"]),
    ("tasks", {"key": "src", "a": 1, "b": 2}, 400, ["a", "b"]),
    ("tasks", {"key": "x", "increment": "y", "name": " ", "expires_s": -1,
               "filter": {"direction": "up", "proto": "z", "src": "q"}}, 422,
     ["name", "key", "increment", "expires_s", "direction", "proto", "src"]),
    ("tasks", {"key": "src", "filter": {"src": "10.0.0.0/8", "dst": "::1"}},
     422, ["dst"]),
    ("tasks", [], 400, None),
    ("probes", {}, 400, ["kind", "dst"]),
    ("probes", {"kind": "bw", "dst": CHILD, "x": 1}, 400, ["x"]),
    ("probes", {"kind": "no", "dst": "h6", "duration_s": "3"}, 422,
     ["kind", "dst", "duration_s"]),
    ("probes", {"kind": "bw", "dst": CHILD, "src": CHILD}, 422, ["src"]),
    ("probes", None, 400, None),
    ("overlay/children", {}, 400, ["host"]),
    ("overlay/children", {"host": CHILD, "x": 1}, 400, ["x"]),
    ("overlay/children", {"host": "h6"}, 422, ["host"]),
    ("overlay/children", "h6", 400, None),
])
def test_problems_name_every_field(network, path, body, status, fields):
    r = network.post(f"/api/v1/{path}", body)
    assert r.status == status and r.type == "application/problem+json", r
    errors = r.json.get("errors")
    assert (errors and [e["field"] for e in errors]) == fields
    assert not errors or all(e["reason"] for e in errors)


def test_a_limit_is_no_bad_field():
    with pair(child=False) as p:
        for _ in range(33):
            r = p.post("/api/v1/tasks", {"key": "src"})
            if r.status != 201:
                break
        problem = r.json
        assert (r.status, problem["type"]) == (507, "/problems/limit-reached")
        assert problem["detail"] in ("limit reached: tasks",
                                     "limit reached: memory")
        assert "errors" not in problem


def test_bad_parameters_are_named_together(network):
    task = network.post("/api/v1/tasks", {"key": "src"}).json["data"]["id"]
    r = network.get(f"/api/v1/tasks/{task}/top?n=0&threshold=7&scope=x&base=y")
    assert r.status == 422
    assert {e["field"] for e in r.json["errors"]} == \
        {"n", "threshold", "scope", "base"}


def test_32_keys_beside_other_parameters(network):
    task = network.post("/api/v1/tasks", {"key": "src"}).json["data"]["id"]
    keys = "&".join(f"key=10.0.0.{i}" for i in range(32))
    path = f"/api/v1/tasks/{task}/estimate?{keys}&scope=host&timeout=1s"
    r = network.get(path)
    assert r.status == 200 and len(r.json["data"]) == 32
    assert network.get(path + "&key=10.0.0.99").status == 422


def test_a_task_without_sketches_has_no_estimate(network):
    task = network.post("/api/v1/tasks", {"key": "none"}).json["data"]["id"]
    for name in ("estimate?key=10.0.0.1", "top", "distinct", "realtime"):
        r = network.get(f"/api/v1/tasks/{task}/{name}")
        assert (r.status, r.json["type"]) == (422, "/problems/wrong-sketch")


def test_a_child_does_not_delete_what_its_parent_has(network):
    task = network.post("/api/v1/tasks", {"key": "src"}).json["data"]["id"]
    path = f"/api/v1/tasks/{task}"
    r = network.send("DELETE", path, host=CHILD)
    assert (r.status, r.json["type"]) == (409, "/problems/conflict")
    assert network.get(path, host=CHILD).status == 200
    assert network.send("DELETE", path).status == 204
    assert network.get(path, host=CHILD).status == 404


# ---- readiness ----

def test_ready_means_the_state_is_kept_and_the_parent_seen(tmp_path):
    def check(p, name):
        checks = p.get("/readyz?verbose=1").json
        return next(c["ok"] for c in checks if c["check"] == name)

    with pair(child=False) as p:
        p.agents[p.asked].stop()
        # of root, so that nothing can be kept there
        p.start_agent(p.asked, ASKED, "--parent", CHILD, "--state-dir",
                      tmp_path)
        assert not check(p, "parent")
        assert p.get("/readyz").status == 503
        r = p.send("POST", "/api/v1/overlay/children",
                   json.dumps({"host": ASKED}), JSON, host=CHILD)
        assert r.status == 201
        wait_until(lambda: check(p, "parent"), 5, "adopted")
        sketch(p)
        assert not check(p, "state")


# ---- options ----

@pytest.mark.parametrize("program, option, value, allowed", [
    ("monitor", "--queue-num", "70000", "0 to 65535"),
    ("monitor", "--agent-port", "0", "1 to 65535"),
    ("monitor", "--management-port", "ssh", "1 to 65535"),
    ("monitor", "--readers", "9", "1 to 8"),
    ("monitor", "--ready-fd", "-1", "0 to 32767"),
    ("monitor", "--log-level", "warn", "error, warning, info or debug"),
    ("agent", "--log-level", "warn", "error, warning, info or debug"),
])
def test_bad_options_say_what_is_allowed(program, option, value, allowed):
    run = subprocess.run([BUILD / program / f"linnet-{program}", option, value],
                         capture_output=True, text=True)
    assert run.returncode == 64
    assert f"{option}: " in run.stderr and allowed in run.stderr


def test_state_directory_made_is_the_one_given_away(tmp_path):
    """Somebody puts a link in its place before its owner is set."""
    victim, link = tmp_path / "victim", tmp_path / "state"
    victim.mkdir()
    link.symlink_to(victim)
    run = subprocess.run(
        ["strace", "-o", tmp_path / "trace", "-e",
         "inject=?mkdir,?mkdirat:retval=0", BUILD / "agent/linnet-agent",
         "--user", str(AGENT_UID), "--state-dir", link, "--token-file",
         tmp_path / "absent"], capture_output=True, text=True)
    assert run.returncode == 78, run.stderr
    assert (link.lstat().st_uid, victim.stat().st_uid) == (AGENT_UID, 0)
