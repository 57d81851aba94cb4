# SPDX-License-Identifier: GPL-2.0-or-later
"""MSNM of real agents and monitors, three in a row and a host without linnet:
what is configured where, calibration in stages, the way down to the flows, a
child that is away, restarts, models and bad input.  Windows of a second, which
a build with hooks has.
"""
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/netns"), str(ROOT / "mininet")]
import lab as lab_module  # noqa: E402
import tree as tree_module  # noqa: E402
from lab import BUILD, Lab, wait_until  # noqa: E402

ROWS = 13           # the least there may be
STAGE_S = 3 * ROWS + 20     # rows that are lost on a slow machine
LINNET = BUILD / "api/linnet"
SCAN = "while nc -w 1 -z \"$1\" 9000-9099 || :; do :; done"


@pytest.fixture(scope="module")
def hooks_build():
    path = lab_module.hooks_build()
    old = lab_module.BUILD, tree_module.BUILD
    lab_module.BUILD = tree_module.BUILD = path
    yield path
    lab_module.BUILD, tree_module.BUILD = old


class Network:
    """nodes: root, its child, the leaf; stranger: a host."""

    def __init__(self, lab):
        self.lab = lab
        lab.dir.chmod(0o711)
        *hosts, self.stranger = lab.hosts
        self.nodes = [tree_module.Node(host, [h.ip4 for h in hosts[i + 1:i + 2]])
                      for i, host in enumerate(hosts)]
        for node in reversed(self.nodes):
            node.start()
        self.root, self.middle, self.leaf = self.nodes
        wait_until(lambda: self.root.get("/api/v1/status").json()["data"]
                   ["overlay"]["hosts_expected"] == 3, 15, "the tree stands")

    def status(self, node=None, **fields):
        reply = (node or self.root).ask(type="query msnm", **fields)
        assert reply.status == 200, reply.text
        for word in ("null", "true", "false", "NaN", "Infinity"):
            assert word not in reply.text
        return reply.json()

    def stage(self, node=None):
        return self.status(node).get("model", {}).get("stage")


@pytest.fixture(scope="module")
def network(hooks_build):
    with Lab(4) as lab:
        n = Network(lab)
        mix = subprocess.Popen(
            [sys.executable, str(ROOT / "mininet/mix.py"),
             *(f"{h.ip4}={h.path}" for h in lab.hosts)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert mix.stdout.readline() == "running\n"
            yield n
        finally:
            mix.communicate(timeout=10)
            print(lab.logs())


# ---- before there is anything ----

def test_off(network):
    for node in network.nodes:
        assert network.status(node) == {"host": node.address, "phase": "off"}
    r = network.root.get("/api/v1/msnm/model")
    assert r.status == 404
    r = network.root.ask(type="calibrate msnm")
    assert (r.status, r.text) == (400, "error: refused: msnm is off")
    r = network.root.post("/api/v1/msnm/model", {"a": 1}, method="PUT")
    assert r.status == 409


WINDOWS = "seconds 10..3600 that divide 86400"
BAD = [
    ("window_s", "11", WINDOWS),
    ("window_s", "7200", WINDOWS),
    ("blocks", "all", "compat, host or compat+host"),
    ("semantics", "csv", "packets/1 or netflow/1"),
    ("rows", "12", "13..10080, at least 3 lv + 10"),
    ("lv", "0", "1..100 or auto"),
    ("prep", "3", "0, 1 or 2"),
    ("alpha_q", "0", "real number 1e-9..0.5"),
    ("alpha_q", "1e-10", "real number 1e-9..0.5"),
    ("alpha_d", "0.7", "real number 1e-9..0.5"),
    ("limits", "min", "theory, empirical or max"),
    ("clean", "0.6", "real number 0..0.5"),
    ("alarm", "3:2:3",
     "k:n:factor with 1 <= k <= n <= 64 and factor from 1"),
    ("missing", "guess", "tsr, average, zero or refuse"),
    ("max_imputed", "1.1", "real number 0..1"),
    ("dynamic", "yes", "0 or 1"),
    ("batch", "2", "3..1440, at least lv + 2"),
    ("half_life_s", "59", "seconds 60..31622400"),
    ("quarantine", "-1", "real number 0..1000000, 0: off"),
    ("children", "2", "0 or 1"),
    ("enabled", "2", "0 or 1"),
    ("proto", "tcpp", "tcp, udp, icmp, icmpv6, sctp, all or 1..255"),
]


@pytest.mark.parametrize("field,value,allowed", BAD)
def test_bad_value(network, field, value, allowed):
    before = network.root.get("/api/v1/msnm/config").json()["data"]
    r = network.root.ask(type="config msnm", rows="13", **{field: value}) \
        if field != "rows" else network.root.ask(type="config msnm", rows=value)
    assert (r.status, r.text) == (400, f"error: bad value: {field} ({allowed})")
    assert network.root.get("/api/v1/msnm/config").json()["data"] == before
    assert not network.root.get("/api/v1/tasks").json()["data"]


@pytest.mark.parametrize("body,status,field", [
    ({"rowz": 20}, 400, "rowz"),
    ({"rows": "20"}, 422, "rows"),
    ({"rows": 20, "dynamic": 1}, 422, "dynamic"),
    ({"rows": 20, "limits": "min"}, 422, "limits"),
    ({"rows": 20, "lv": 9}, 422, "rows"),
])
def test_bad_member(network, body, status, field):
    before = network.root.get("/api/v1/msnm/config").json()["data"]
    r = network.root.post("/api/v1/msnm/config", body, method="PATCH")
    assert r.status == status, r.text
    error = r.json()["errors"][0]
    assert error["field"] == field
    assert (error["reason"] == "true or false") == (field == "dynamic")
    assert network.root.get("/api/v1/msnm/config").json()["data"] == before


# ---- from here on it runs; the order counts ----

def test_configure(network):
    r = network.root.ask(type="config msnm", window_s=1, rows=ROWS, lv=1)
    assert (r.status, r.text) == (200, "msnm configured")
    assert r.answered == (3, 3) and r.complete
    for node in network.nodes:
        said = node.get("/api/v1/msnm/config").json()["data"]
        assert (said["enabled"], said["window_s"], said["rows"],
                said["lv"], said["interface"]) == (True, 1, ROWS, 1, None)
    r = network.leaf.ask(type="config msnm", rows=30)
    assert (r.status, r.text) == (
        409, "error: conflict: the parent has this task")
    # a parameter alone: the same task, everywhere, and no row is lost
    tasks = network.leaf.get("/api/v1/tasks").json()["data"]
    r = network.root.post("/api/v1/msnm/config", {"alpha_q": 0.005},
                          method="PATCH")
    assert r.status == 200 and r.json()["data"]["alpha_q"] == 0.005
    assert r.json()["meta"]["coverage"]["complete"]
    assert network.leaf.get("/api/v1/msnm/config").json()["data"][
        "alpha_q"] == 0.005
    assert network.leaf.get("/api/v1/tasks").json()["data"] == tasks
    assert tasks[0]["sketches"] == ["features"]


def test_collecting(network):
    def rows():
        s = network.status()
        return "interval" in s and s.get("have", 0) >= 2 and s
    s = wait_until(rows, 20, "two rows")
    assert (s["phase"], s["state"], s["need"]) == (
        "collecting", "learning", ROWS)
    assert "q" not in s and "model" not in s and s["alarm"] == 0
    r = network.root.get("/api/v1/msnm").json()
    assert r["data"]["q"] is None and r["data"]["model"] is None
    assert r["data"]["alarm"] is False
    r = network.root.ask(type="calibrate msnm")
    assert r.status == 400 and "at least 13 are needed" in r.text


def test_stages(network):
    """Each host on its own first, then with its children, leaf upwards."""
    wait_until(lambda: network.stage(network.leaf) == "own", STAGE_S,
               "the leaf's model")
    wait_until(lambda: network.stage(network.middle) == "full", 2 * STAGE_S,
               "the middle's full model")
    wait_until(lambda: network.stage() == "full", 2 * STAGE_S,
               "the root's full model")
    s = wait_until(lambda: (s := network.status())["phase"] == "watching" and
                   s["children"] == {network.middle.address: "ok"} and s, 10,
                   "the child is ok")
    assert s["model"]["generation"] == 2 and s["model"]["n"] >= ROWS * 0.98
    # who calibrated is a worker; LAPACK was loaded there, and is gone with it
    maps = pathlib.Path(f"/proc/{network.root.agent.pid}/maps").read_text()
    assert "lapack" not in maps and "quadmath" not in maps
    r = network.root.ask(type="query msnm", history=5)
    history = r.json()
    assert len(history) == 5
    numbers = [h["interval"] for h in history]
    assert numbers == sorted(set(numbers))
    assert all(h["q"] >= 0 and h["d"] >= 0 and h["ucl_d"] > 0
               for h in history)
    one = network.status(interval=numbers[0])
    assert one["q"] == history[0]["q"]
    r = network.root.ask(type="query msnm", interval=5)
    assert r.status == 400
    # every host that judged is counted
    wait_until(lambda: network.root.ask(type="query msnm").complete, 10,
               "all judge the interval")
    r = network.root.ask(type="query msnm", scope="host")
    assert r.answered == (1, 1)


def test_drill_down(network):
    """The root names the leaf, the scan and its flows."""
    wait_until(lambda: network.stage() == "full" and network.status()[
        "children"] == {network.middle.address: "ok"} and network.status(
            network.middle)["children"] == {network.leaf.address: "ok"},
        4 * STAGE_S, "the tree watches again")
    path = [n.address for n in network.nodes]
    scan = network.stranger.start(["sh", "-c", SCAN, "scan",
                                   network.leaf.host.ip4])

    def found():
        if not network.status()["alarm"]:
            return None
        r = network.root.ask(type="query msnm diagnosis", flows=3, features=4)
        assert r.status == 200, r.text
        d = r.json()
        print(json.dumps(d))
        return d["path"] == path and d["flows"] and any(
            "9000" <= p <= "9099" for f in d["flows"]
            for p in f["key"].split(",")[2:4]) and d
    try:
        d = wait_until(found, 30, "the way to the leaf")
    finally:
        scan.kill_tree()
    assert d["host"] == network.leaf.address
    assert d["statistic"] in ("q", "d") and d["value"] > d["limit"]
    assert 1 <= len(d["top"]) <= 4 and 1 <= len(d["flows"]) <= 3
    assert {"name", "value", "mean", "by", "contribution"} == set(d["top"][0])
    for f in d["flows"]:
        assert {network.leaf.address, network.stranger.ip4} == set(
            f["key"].split(",")[:2])
        assert 0 < f["score"] <= 1 and f["counters"]
    # so far over at the leaf, it is passed up as it is
    passed = network.status(interval=d["interval"])["passed"]
    assert passed["by"] == path[1] and passed["value"] > 3 * passed["limit"]
    v1 = network.root.get(
        f"/api/v1/msnm/contributions?interval={d['interval']}&flows=3").json()
    assert v1["data"]["path"] == path
    # of the host alone: nobody below is asked
    r = network.root.ask(type="query msnm diagnosis", scope="host",
                         interval=d["interval"])
    assert r.json()["path"] == path[:1] and r.answered == (1, 1)
    assert any(t["name"][2:] == path[1] for t in r.json()["top"])
    alerts = network.root.get("/api/v1/alerts").json()["data"]
    mine = [a for a in alerts if a["kind"] in ("msnm.q", "msnm.d")]
    assert mine and mine[0]["path"][0] == network.root.address
    assert any(a["path"] == path for a in mine)
    wait_until(lambda: not any(
        a["state"] == "firing" and a["kind"] in ("msnm.q", "msnm.d")
        for a in network.root.get("/api/v1/alerts").json()["data"]), 30,
        "the alarms are over")


def test_child_away(network):
    """It is missed, named, and taken again when it is back."""
    model = network.middle.get("/api/v1/msnm/model").json()["id"]
    network.leaf.agent.kill()

    def lost():
        return [a for a in network.middle.get("/api/v1/alerts").json()["data"]
                if a["kind"] == "msnm.source_lost" and
                a["source"] == network.leaf.address]
    alarm = wait_until(lost, 20, "the child is missed")[0]
    assert alarm["state"] == "firing" and alarm["last"] >= alarm["first"] + 1
    s = network.status(network.middle)
    assert s["children"][network.leaf.address] in (
        "unreachable", "timeout"), s
    imputed = s
    assert "imputed" in s["flags"] and s["imputed_by"] in ("tsr", "average")
    assert 0 <= s["imputed_share"] <= 1
    r = network.middle.ask(type="query msnm")
    assert not r.complete and network.leaf.address in r.missing
    network.leaf.start()
    wait_until(lambda: lost()[0]["state"] == "resolved", 20, "it is back")
    # with the model it had: nobody has to learn it again
    s = wait_until(lambda: (s := network.status(network.middle))["children"] ==
                   {network.leaf.address: "ok"} and s, 20, "it is ok")
    assert network.middle.get("/api/v1/msnm/model").json()["id"] == model
    # what is asked of a row is about it as it was judged
    assert network.root.ask(type="config msnm", missing="zero").status == 200
    d = network.middle.ask(type="query msnm diagnosis", scope="host",
                           interval=imputed["interval"]).json()
    assert d["value"] == imputed[d["statistic"]]
    assert network.root.ask(type="config msnm", missing="tsr").status == 200


def test_restart(network):
    """The model is loaded and in force at once."""
    node = network.middle
    model = node.get("/api/v1/msnm/model").json()
    node.agent.kill()
    node.start()
    assert node.get("/api/v1/msnm/model").json() == model
    s = wait_until(lambda: (s := network.status(node)).get("state") == "ok" and
                   s, 20, "it judges")
    assert s["phase"] == "watching" and s["model"]["stage"] == "full"


def test_rows_offline(network, tmp_path):
    """The stored rows make the model that the agent made of them."""
    node = network.leaf
    wait_until(lambda: node.get("/api/v1/msnm/calibration").json()["data"][
        "have"] == ROWS, STAGE_S, "its rows, which a restart forgets")
    r = node.ask(type="calibrate msnm")
    assert r.status == 200 and r.text == \
        f"calibration started: {ROWS} of {ROWS} rows"
    before = network.status(node)["model"]["generation"]
    model = wait_until(
        lambda: (m := node.get("/api/v1/msnm/model").json())["generation"] >
        before and m, 20, "another generation")
    rows = node.get("/api/v1/msnm/rows")
    assert rows.headers["Content-Type"].startswith("text/csv")
    lines = rows.text.splitlines()
    assert lines[0] == "# linnet-features packets/1 1"
    names = lines[1].split(",")
    assert names[1:] == model["schema"]["names"]
    # the mean of the last rows that are behind it is that of the model
    def mean(first):
        values = [line.split(",") for line in lines[first:first + ROWS]]
        return [sum(float(v[j]) for v in values) / ROWS
                for j in range(1, len(names))]
    used = model["rows"]["used"]
    if used == ROWS:
        assert any(mean(i) == pytest.approx(model["mean"], rel=1e-9, abs=1e-9)
                   for i in range(2, len(lines) - ROWS + 1))
    table = tmp_path / "rows.csv"
    table.write_text(rows.text)
    done = subprocess.run(
        [LINNET, "msnm", "calibrate", "--input", table, "--lv", "1",
         "--output", tmp_path / "m.json"], capture_output=True, text=True,
        check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "m.json").read_text())
    assert made["schema"] == model["schema"]
    # which the agent takes, and nothing that is not for its rows
    r = node.post("/api/v1/msnm/model", made, method="PUT")
    assert r.status == 200, r.text
    got = node.get("/api/v1/msnm/model").json()
    assert (got["id"], got["generation"]) == (
        made["id"], model["generation"] + 1)
    made["schema"]["window_s"] = 60
    r = node.post("/api/v1/msnm/model", made, method="PUT")
    assert r.status == 422, r.text
    made["schema"]["window_s"] = 1
    made["eigenvalues"][0] *= 2
    r = node.post("/api/v1/msnm/model", made, method="PUT")
    assert r.status == 422, r.text
    r = node.post("/api/v1/msnm/model",
                  network.root.get("/api/v1/msnm/model").json(), method="PUT")
    assert r.status == 422 and "column" in r.json()["detail"], r.text
    assert node.get("/api/v1/msnm/model").json() == got
    # the parents learn the new one before they rely on it again
    wait_until(lambda: network.status(network.middle)["children"] ==
               {node.address: "model"}, 10, "another generation is noticed")


def test_schema(network):
    """Another model on disk than rows: said, and never applied."""
    node = network.leaf
    file = node.state_dir / "msnm-model.json"
    node.agent.kill()
    model = json.loads(file.read_text())
    other = network.root.get("/api/v1/msnm/model").text
    file.write_text(other)
    node.start()
    s = wait_until(lambda: (s := network.status(node)).get("state") and s, 10,
                   "it counts")
    assert s["phase"] == "collecting" and "model" not in s
    assert s["problem"].startswith("schema: ")
    alarm, = [a for a in node.get("/api/v1/alerts").json()["data"]
              if a["kind"] == "msnm.schema"]
    assert alarm["state"] == "firing" and alarm["detail"] == s["problem"]
    assert model["id"] != json.loads(other)["id"]


def test_new_window(network):
    """Another window is a new task; the old one goes, rows start anew."""
    wait_until(lambda: network.root.ask(
        type="config msnm", alarm="2:3:3").complete, 20, "all are there")
    old = [t["id"] for t in network.leaf.get("/api/v1/tasks").json()["data"]]
    r = network.root.ask(type="config msnm", window_s=2)
    assert r.status == 200 and r.complete

    def gone():
        tasks = network.leaf.get("/api/v1/tasks").json()["data"]
        return len(tasks) == 1 and tasks[0]["id"] not in old and \
            tasks[0]["window_s"] == 2
    wait_until(gone, 10, "one task")
    for node in network.nodes:
        assert network.status(node)["phase"] == "collecting"
    # the model of before is nothing to complain of
    network.middle.agent.kill()
    network.middle.start()
    alerts = network.middle.get("/api/v1/alerts").json()["data"]
    assert not [a for a in alerts if a["kind"] == "msnm.schema"]
    assert "problem" not in network.status(network.middle)


def test_monitor_lost(network):
    node = network.leaf
    network.root.ask(type="config msnm", window_s=1)
    node.monitor.stop()

    def states():
        return [a["state"] for a in
                node.get("/api/v1/alerts").json()["data"]
                if a.get("source") == "monitor"]
    wait_until(lambda: states() == ["firing"], 20, "the monitor is missed")
    r = node.ask(type="query msnm")
    assert r.status == 200
    r = network.root.ask(type="query msnm")
    assert not r.complete and node.address in r.missing
    node.monitor = node.host.monitor()
    wait_until(lambda: states() == ["resolved"], 20, "it is back")
    # a host without rows still says what its children say
    node = network.middle
    node.monitor.stop()
    wait_until(lambda: states() == ["firing"], 20, "the monitor is missed")
    k = network.status(node)["interval"]
    s = wait_until(lambda: (s := network.status(node))["interval"] > k + 1 and
                   s, 20, "an interval without a row")
    assert "q" not in s and s["children"] == {network.leaf.address: "learning"}
    node.monitor = node.host.monitor()
    wait_until(lambda: states() == ["resolved"], 20, "it is back")


def test_end(network):
    """Where nothing is judged any more, nothing fires."""
    def firing():
        return [a for n in network.nodes for a in
                n.get("/api/v1/alerts").json()["data"]
                if a["state"] == "firing"]
    network.leaf.monitor.stop()
    wait_until(firing, 20, "the monitor is missed")
    r = network.root.ask(type="config msnm", enabled=0)
    assert (r.status, r.text) == (200, "msnm configured")
    wait_until(lambda: all(network.status(n)["phase"] == "off"
                           for n in network.nodes), 10, "off")
    assert not firing()
    assert not network.root.get("/api/v1/tasks").json()["data"]
