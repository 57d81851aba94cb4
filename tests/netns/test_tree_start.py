#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How an agent of a tree begins and ends: what it reads, what it waits for."""
import json
import signal
import subprocess
import time

import pytest

from lab import AGENT_UID, BUILD, wait_until
from test_tree_lies import siphash
from test_tree_overlay import joining, places, up_at, wait_up, write_list
from tree import request


def check(place, *args):
    """Status and words of the program when it only looks at what it is told."""
    done = subprocess.run(
        [BUILD / "agent/linnet-agent", "--check", "--insecure", "--listen",
         place.address, "--user", str(AGENT_UID), *map(str, args)],
        capture_output=True, text=True, timeout=10)
    return done.returncode, done.stderr


def test_list_that_cannot_be():
    """--check reads it; without that the status is the same."""
    with places(3, start=False) as p:
        path = write_list(p[0].host.lab, p)
        assert check(p[0], "--list", path)[0] == 0
        bad = path.with_name("bad")
        for text, word in (("no address\n", "line 1"),
                           (p[1].address + "\n", "names this host"),
                           (f"{p[0].address}\n" * 2, "named twice")):
            bad.write_text(text)
            status, words = check(p[0], "--list", bad)
            assert status == 78 and word in words, (text, status, words)
        # 2^17 lines are 17 levels and one more
        bad.write_text(p[0].address + "\n" + "".join(
            f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}\n" for i in range(1, 2**17)
        ))
        status, words = check(p[0], "--list", bad, "--fanout", "2")
        assert status == 78 and "levels" in words, words
        assert check(p[0], "--list", bad, "--fanout", "3")[0] == 0
        p[0].args = ["--list", path.with_name("none")]
        p[0].start(wait=False)
        assert p[0].agent.wait(10) == 78


def test_another_list():
    """The parent says which child has one."""
    with places(3, start=False) as p:
        path = write_list(p[0].host.lab, p)
        other = path.with_name("other")
        other.write_text("".join(f"{q.address}\n" for q in p[:2]))
        for q, its in zip(p, (path, other, path)):
            q.args = ["--list", its, "--fanout", 2]
            q.start(wait=False)
        for q in p:
            q.agent.wait_ready(20)
        wait_up(p[0], p)
        wait_until(lambda: f"child {p[1].address} has another list"
                   in p[0].agent.log(), 5, "it is told")
        assert p[0].agent.log().count("another list") == 1


def test_list_without_its_first():
    """Another candidate is the root, and misses whoever is not there."""
    with places(5, start=False) as p:
        path = write_list(p[0].host.lab, p)
        for q in p:
            q.args = ["--list", path, "--fanout", 2,
                      "--root", p[0].address, "--root", p[1].address]
        for q in (p[1], p[3]):
            q.start()
        wait_up(p[1], (p[1], p[3]), 30)
        assert p[1].overlay()["hosts_expected"] == 5
        assert {m["host"] for m in p[1].members() if m["state"] != "up"} == {
            q.address for q in (p[0], p[2], p[4])}


def test_stopped_after_it_was_drained():
    """Who has left already has nothing to wait for."""
    with places(2, start=False) as p:
        joining(p, p[:1], 2)
        for q in p:
            q.args += ["--drain"]
            q.start()
        wait_up(p[0], p)
        r = request(p[1].host, p[1].address, "POST", "/api/v1/overlay/drain")
        assert r.status == 204, r.text
        wait_until(lambda: up_at(p[0]) == {p[0].address}, 15, "it has left")
        began = time.monotonic()
        p[1].agent.signal(signal.SIGTERM)
        assert p[1].agent.wait(10) == 0
        assert time.monotonic() - began < 5


def write_term(place, term):
    """Has it know this term when it starts again."""
    kept = place.state_dir / "node.json"
    node = json.loads(kept.read_text().splitlines()[0])
    node["seen"], node["term"] = f"{term}.00000000000000ff.1", term
    text = json.dumps(node)
    check = siphash(bytes([1]) + bytes(15), text.encode())
    kept.write_text(f'{text}\n{{"check": "{check:016x}"}}\n')


def test_far_ahead():
    """One that a liar told of terms finds no parent, and says why; without
    what it was told it is a new host."""
    with places(3, start=False) as p:
        joining(p, p[:1], 4)
        for q in p:
            q.start()
        wait_up(p[0], p)
        p[2].agent.stop()
        write_term(p[2], 2**50)
        p[2].start()
        wait_until(lambda: "far ahead" in p[2].agent.log(), 10, "it says why")
        assert p[2].overlay()["role"] == "detached"
        wait_up(p[0], p[:2])
        p[2].agent.stop()
        (p[2].state_dir / "node.json").unlink()
        p[2].start()
        wait_up(p[0], p)


def test_identity_that_cannot_be_read_now():
    """Another one is drawn only where there is none."""
    with places(1) as (place,):
        node_id = place.overlay()["node_id"]
        place.agent.stop()
        kept = place.state_dir / "node.json"
        kept.chmod(0)
        place.start(wait=False)
        assert place.agent.wait(10) == 1
        assert "node.json" in place.agent.log()
        kept.chmod(0o600)
        place.start()
        assert place.overlay()["node_id"] == node_id
        # epochs that cannot be are forgotten, by themselves
        place.agent.stop()
        for term in (2**64 - 1, 2**63):
            write_term(place, term)
            place.start()
            overlay = place.overlay()
            assert overlay["node_id"] == node_id
            assert overlay["epoch_text"].startswith("1.")
            assert "epochs that cannot be" in place.agent.log()
            place.agent.stop()
        # nobody will ever read this one again
        kept.write_text("{")
        place.start()
        assert place.overlay()["node_id"] != node_id


def test_root_that_restarted_knows_who():
    """As many are there as before, but not the same: one has died."""
    with places(4, start=False) as p:
        joining(p, p[:1], 8)
        for q in p[:3]:
            q.start()
        wait_up(p[0], p[:3])
        kept = p[0].state_dir / "node.json"
        # a line with its checksum comes after the document
        wait_until(lambda: len(json.loads(
            kept.read_text().splitlines()[0])["members"]) == 3, 15,
                   "who they are is kept")
        p[2].agent.kill()
        p[0].agent.kill()
        p[0].start()
        p[3].start()
        wait_up(p[0], (p[0], p[1], p[3]))
        assert p[0].overlay()["hosts_expected"] == 4
        assert {m["host"] for m in p[0].members()} == {q.address for q in p}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
