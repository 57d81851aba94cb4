#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks in a tree: who was away, was replaced or lost its disk has them again.

LINNET_ROUNDS=50 kills and restarts the root and a middle node 50 times each.
"""
import contextlib
import json
import os
import random
import shutil
import sys
import time

import pytest

from lab import AGENT_UID, Lab, wait_until
from middle import Middle, middle, stranger
from tree import Node, Tree, request, token_files

ROUNDS = int(os.environ.get("LINNET_ROUNDS", "2"))
CHAIN = {0: [1, 2], 1: [3, 4], 3: [5]}


def tasks(node):
    """id -> (generation, name) of all tasks, None while it does not answer."""
    try:
        r = node.get("/api/v1/tasks?limit=100")
    except OSError:
        return None
    if r.status != 200:
        return None
    return {t["id"]: (t["generation"], t["name"]) for t in r.json()["data"]}


def held(node):
    """The tasks that its monitor counts."""
    try:
        data = node.get("/api/v1/tasks?limit=100").json()["data"]
    except OSError:
        return None
    return {t["id"] for t in data if t["state"] == "active"}


def wait_same(tree, want, seconds=10, nodes=None):
    """Every agent has exactly these tasks."""
    began = time.monotonic()
    for node in nodes or tree.nodes:
        wait_until(lambda: tasks(node) == want,
                   began + seconds - time.monotonic(),
                   f"{node.address} has {want}")
    return time.monotonic() - began


def add(node, name, **members):
    r = node.post("/api/v1/tasks", {"name": name, "key": "src", **members})
    assert r.status == 201, r.text
    return r.json()["data"]


def delete(node, task):
    r = request(node.host, node.address, "DELETE",
                f"/api/v1/tasks/{task['id']}")
    assert r.status == 204, r.text


def put(node, task, **members):
    return node.post(f"/api/v1/tasks/{task['id']}", {**task, **members},
                     method="PUT")


def forget(node):
    """Its disk is lost."""
    shutil.rmtree(node.state_dir)
    node.state_dir.mkdir(mode=0o700)
    os.chown(node.state_dir, AGENT_UID, AGENT_UID)


# ---- T53: killed and restarted, again and again ----

def test_t53_root_and_middle_restarted():
    """Tasks and ids are back each time, and nothing that was deleted."""
    with Tree(CHAIN) as tree:
        kept = [add(tree.root, f"kept-{i}") for i in range(3)]
        inner = add(tree.nodes[1], "inner")
        want = {t["id"]: (1, t["name"]) for t in kept}
        below = {**want, inner["id"]: (1, "inner")}
        subtree = [tree.nodes[i] for i in tree.below(1)]
        rest = [n for n in tree.nodes if n not in subtree]
        wait_same(tree, want, nodes=rest)
        wait_same(tree, below, nodes=subtree)
        for turn in range(ROUNDS):
            for i in (0, 1):
                node = tree.nodes[i]
                node.agent.kill()
                node.start()
                began = time.monotonic()
                tree.wait_rows(10)
                wait_same(tree, want, nodes=rest)
                wait_same(tree, below, nodes=subtree)
                assert time.monotonic() - began < 10
            # what goes while a middle node is away stays away
            tree.nodes[1].agent.kill()
            delete(tree.root, kept.pop(0))
            kept.append(add(tree.root, f"turn-{turn}"))
            tree.nodes[1].start()
            want = {t["id"]: (1, t["name"]) for t in kept}
            below = {**want, inner["id"]: (1, "inner")}
            wait_same(tree, want, nodes=rest)
            wait_same(tree, below, nodes=subtree)
            # and is where the monitors count it
            wait_until(lambda: all(held(n) == set(below) for n in subtree),
                       10, "the monitors hold them")


def test_disk_lost_below():
    """An agent without its disk has its parent's tasks again, as they were."""
    with Tree(CHAIN) as tree:
        one = add(tree.root, "one")
        assert put(tree.root, one, generation=4, key="dst").status == 200
        want = {one["id"]: (4, "one")}
        wait_same(tree, want)
        for i in (3, 1):
            tree.nodes[i].agent.kill()
            forget(tree.nodes[i])
            tree.nodes[i].start()
            wait_same(tree, want)
        hashes = {json.dumps(n.get(f"/api/v1/tasks/{one['id']}").json()
                             ["data"]["key"]) for n in tree.nodes}
        assert hashes == {'"dst"'}


# ---- a controller that sends its tasks again ----

def test_controller_sends_again():
    """The root is lost with its disk: the same ids, and none twice."""
    with Tree(CHAIN) as tree:
        # one of them has no name
        mine = [add(tree.root, f"task-{i}") for i in range(3)]
        r = tree.root.post("/api/v1/tasks", {"key": "src"})
        assert r.status == 201, r.text
        mine.append(r.json()["data"])
        want = {t["id"]: (1, t["name"]) for t in mine}
        wait_same(tree, want)
        # nothing was lost: nothing changes
        for t in mine:
            r = put(tree.root, t)
            assert r.status == 200, r.text
            assert r.json()["data"]["created"] == t["created"]
            assert r.json()["meta"]["coverage"]["hosts_answered"] == 6
        wait_same(tree, want)
        tree.root.agent.kill()
        forget(tree.root)
        tree.root.start()
        tree.wait_rows(10)
        random.Random(1).shuffle(mine)
        for t in mine:
            assert put(tree.root, t).status == 201
            assert put(tree.root, t).status == 200
        wait_same(tree, want)
        wait_until(lambda: all(held(n) == set(want) for n in tree.nodes), 15,
                   "the monitors hold them")
        # a task is what the newest generation says, on all hosts
        assert put(tree.root, mine[0], generation=2, name="new").status == 200
        assert put(tree.root, mine[0]).status == 409
        want[mine[0]["id"]] = (2, "new")
        wait_same(tree, want)


def test_inner_agent_refuses_what_is_its_parents():
    with Tree({0: [1], 1: [2]}) as tree:
        task = add(tree.root, "roots")
        wait_same(tree, {task["id"]: (1, "roots")})
        r = put(tree.nodes[1], task, generation=2)
        assert r.status == 409
        assert r.json()["detail"].endswith("the parent has this task"), r.text
        assert put(tree.nodes[1], task, generation=2, name="x").status == 409
        wait_same(tree, {task["id"]: (1, "roots")})


class Fleet:
    """Five hosts that find their tree themselves; three may be its root."""

    def __enter__(self):
        self.lab = Lab(5)
        try:
            self.lab.dir.chmod(0o711)  # the agents are not root
            args = []
            for host in self.lab.hosts[:3]:
                args += ["--root", host.ip4, "--seed", host.ip4]
            self.nodes = [Node(host, [], args=args)
                          for host in self.lab.hosts]
            for node in self.nodes:
                node.start()
            self.wait_root(self.nodes)
        except BaseException:
            print(self.lab.logs())
            self.lab.close()
            raise
        return self

    def __exit__(self, *of_what):
        return self.lab.__exit__(*of_what)

    def wait_root(self, running, seconds=30):
        """The one that is the root, when all these are below it."""
        def root():
            for node in running:
                data = node.get("/api/v1/overlay/members?limit=10").json()
                up = {m["host"] for m in data["data"] if m["state"] == "up"}
                if up == {n.address for n in running}:
                    return node
            return None
        return wait_until(root, seconds, "one root and all below it")


def put_until_taken(node, task):
    """A new root refuses changes until it knows what others hold."""
    return wait_until(lambda: (r := put(node, task)).status != 503 and r, 10,
                      "changes are taken")


def test_controller_after_a_change_of_root():
    """Another root, the same tasks: put again, none is new and none twice."""
    with Fleet() as fleet:
        first = fleet.wait_root(fleet.nodes)
        mine = [add(first, f"task-{i}") for i in range(4)]
        want = {t["id"]: (1, t["name"]) for t in mine}
        wait_same(fleet, want)
        first.agent.kill()
        running = [n for n in fleet.nodes if n is not first]
        second = fleet.wait_root(running)
        for t in mine:
            r = put_until_taken(second, t)
            assert r.status == 200, r.text
            assert r.json()["data"]["created"] == t["created"]
        wait_same(fleet, want, nodes=running)
        # what changes while the old root is away is not undone by it
        delete(second, mine[0])
        new = add(second, "new")
        del want[mine[0]["id"]]
        want[new["id"]] = (1, "new")
        first.start()
        root = fleet.wait_root(fleet.nodes)
        wait_same(fleet, want)
        # a candidate without its disk is the root: it asks the others
        root.agent.kill()
        forget(root)
        root.start()
        root = fleet.wait_root(fleet.nodes)
        wait_same(fleet, want)
        for t in (*mine[1:], new):
            assert put_until_taken(root, t).status == 200
        wait_same(fleet, want)
        for node in fleet.nodes:
            assert not any("superseded" in w for w in warnings(node))


def warnings(node):
    return node.get("/api/v1/status").json()["data"]["warnings"]


def test_all_candidates_without_their_disks():
    """What a leaf holds is not believed; the controller has the last word."""
    with Fleet() as fleet:
        first = fleet.wait_root(fleet.nodes)
        mine = [add(first, f"task-{i}") for i in range(3)]
        want = {t["id"]: (1, t["name"]) for t in mine}
        wait_same(fleet, want)
        for node in fleet.nodes[:3]:
            node.agent.kill()
        for node in fleet.nodes[:3]:
            forget(node)
            node.start()
        root = fleet.wait_root(fleet.nodes)
        wait_same(fleet, {}, 20)
        assert any("tasks_superseded" in w for w in warnings(root))
        for t in mine:
            assert put_until_taken(root, t).status == 201
        wait_same(fleet, want)


def test_t49_no_token_to_a_candidate():
    """A new root asks candidates what they hold; a stranger sees hello."""
    with Lab(2) as lab:
        lab.dir.chmod(0o711)  # the agents are not root
        addresses = [h.ip4 for h in lab.hosts]
        args = token_files(lab, "fleet", "peer", "f" * 43)
        for address in addresses:
            args += ["--root", address, "--seed", address]
        root, other = (Node(h, [], monitor=False, args=args)
                       for h in lab.hosts)
        with stranger(other, {"node_id": "ab" * 16, "incarnation": 1,
                              "root": False, "rooted": False,
                              "overlay": "linnet",
                              "proof": "00" * 32}) as server:
            root.start()
            boss = {"Authorization": "Bearer boss"}
            wait_until(lambda: root.get("/api/v1/status", headers=boss)
                       .json()["data"]["overlay"]["role"] == "root", 20,
                       "it is the root")
            before = len(server.seen)
            wait_until(lambda: len(server.seen) > before, 20,
                       "asked once more")
        assert set(server.seen) == {("/api/v1/peer/hello", False)}


# ---- changes that come late, twice or changed ----

class Recorder(Middle):
    """Keeps the changes of tasks as they came."""

    def _pass(self):
        if "/peer/tasks/" in self.path:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length).decode()
            self.server.changes.append((self.command, self.path,
                                        self.headers["X-Linnet-Lease"], body))
            r = self.again(self.server.changes[-1])
            self.reply(r.status, r.text.encode())
        else:
            super()._pass()

    do_GET = do_POST = do_PUT = do_DELETE = _pass

    def again(self, change):
        return replay(self.server, change)


def replay(server, change, **changed):
    """Sends it to the agent; changed: lease, body or (block) its index."""
    node = server.node
    method, path, lease, body = change
    if "index" in changed:
        head, block = path.split("=")
        owner, term, _, digest = block.split(".")
        path = f"{head}={owner}.{term}.{changed['index']}.{digest}"
    if "task" in changed:
        body = json.dumps({"evict": [], "task": {**json.loads(body)["task"],
                                                 **changed["task"]}})
    headers = {"X-Linnet-Lease": changed.get("lease", lease)}
    if body:
        headers["Content-Type"] = "application/json"
    return request(node.host, node.address, method, path,
                   body or None, headers)


@contextlib.contextmanager
def recorded():
    """Two agents and a third below; what the root changes is kept."""
    with Tree({0: [1], 1: [2]}) as tree:
        tree.root.ask(type="config counter", interface="INPUT")
        with middle(tree.nodes[1]) as server:
            server.changes = []
            server.RequestHandlerClass = Recorder
            # it was away for a moment: until it is asked again
            tree.wait_complete(type="query counter", interface="INPUT")
            yield tree, server


def problem(reply):
    assert reply.status == 409, reply.text
    return reply.json()["type"].split("/")[-1], reply.json()["detail"]


def test_changes_refused():
    """Late, doubled and other changes: only the later word counts."""
    with recorded() as (tree, server):
        want = tasks(tree.root)

        def last():
            return [c for c in server.changes if task["id"] in c[1]][-1]

        task = add(tree.root, "one")
        made = last()
        # twice is as good as once
        assert replay(server, made).status == 200
        # the same generation with another content, and an older one
        assert problem(replay(server, made, task={"key": "dst"})) == (
            "conflict", "conflict: this generation has another content")
        assert put(tree.root, task, generation=5).status == 200
        assert problem(replay(server, made)) == ("stale-epoch", "stale epoch")
        assert problem(replay(server, made, index=1 << 40)) == (
            "conflict", "conflict: an older generation")
        # not under this lease
        assert problem(replay(server, made, lease="1.00.1"))[0] == "moved"
        # a root is under no lease: what comes without one is nobody's
        for headers in ({}, {"X-Linnet-Lease": ""}):
            r = request(tree.root.host, tree.root.address, *made[:2], made[3],
                        {"Content-Type": "application/json", **headers})
            assert problem(r)[0] == "moved", r.text
        # deleted: what comes late does not bring it back
        changed = last()
        delete(tree.root, task)
        gone = last()
        assert gone[0] == "DELETE" and changed[0] == "PUT"
        for late in (made, changed):
            assert problem(replay(server, late)) == ("stale-epoch",
                                                    "stale epoch")
        assert replay(server, gone).status == 200
        assert replay(server, ("PUT", changed[1].split("?")[0],
                              *changed[2:])).status == 422
        wait_same(tree, want, nodes=[tree.root, tree.nodes[2]])


def test_ended_without_a_root():
    """A task's time is over on every host, also where no root is heard."""
    with Tree({0: [1], 1: [2]}) as tree:
        task = add(tree.root, "short", expires_s=4)
        wait_same(tree, {task["id"]: (1, "short")}, 3)
        tree.root.agent.kill()
        began = time.monotonic()
        wait_same(tree, {}, 8, tree.nodes[1:])
        assert time.monotonic() - began > 1
        # the root comes back: it knows it as well
        tree.root.start()
        tree.wait_rows(10)
        wait_same(tree, {})


if __name__ == "__main__":
    os.environ.setdefault("LINNET_ROUNDS", "50")
    sys.exit(pytest.main([__file__, "-q", "-k", "t53"]))
