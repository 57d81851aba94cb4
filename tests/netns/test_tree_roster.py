# SPDX-License-Identifier: GPL-2.0-or-later
"""What every agent of a tree says of itself, and who says nothing."""
import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

from lab import BUILD, wait_until
from middle import Middle, middle
from tree import Tree

SHAPE = {0: [1, 2], 2: [3]}
AGENTS = "/api/v1/overlay/agents"


def roster(node, path=AGENTS):
    """node id -> what is known of it; the coverage"""
    r = node.get(path)
    assert r.status == 200, r.text
    doc = r.json()
    return ({a["node_id"]: a for a in doc["data"]}, doc["meta"]["coverage"])


def ids(tree):
    return [n.get("/api/v1/status").json()["data"]["node_id"]
            for n in tree.nodes]


def another_version(node):
    """Its program, but for what it says that it is."""
    data = node.program.read_bytes()
    version = subprocess.run([node.program, "--version"], check=True, text=True,
                             capture_output=True).stdout.split()[-1].encode()
    other = version[:-1] + b"z"
    node.program = node.host.lab.dir / "another-agent"
    node.program.write_bytes(data.replace(version + b"\0", other + b"\0"))
    node.program.chmod(0o755)
    node.agent.stop()
    node.start()
    return version.decode(), other.decode()


class Holding(Middle):
    """Keeps tasks from the agent, and plays with what it says of itself."""

    def _pass(self):
        if self.server.hold and self.command == "PUT" and "tasks" in self.path:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.reply(503, b"{}")
        elif self.server.say and self.path.endswith("/peer/agents"):
            keep = {k: v for k, v in self.headers.items()
                    if k.startswith("X-")}
            self.server.say(self, self._send("GET", self.path, None, keep))
        else:
            super()._pass()

    do_GET = do_POST = do_PUT = do_DELETE = _pass


def show(tree):
    """Lines of `linnet overlay show`: host -> the other columns."""
    done = tree.root.host.run([
        BUILD / "api/linnet", "-H", tree.root.address, "-o", "table",
        "overlay", "show"],
        check=False)
    return {line.split()[0]: line.split()[1:]
            for line in done.stdout.splitlines()[1:]}


def wait_known(tree, known, complete=True):
    """Until what the root knows of all is this."""
    def there():
        agents, coverage = roster(tree.root)
        return coverage["complete"] == complete and known(agents) and (
            agents, coverage)
    return wait_until(there, 15, "what the agents say")


def lies(tree, server, node_ids):
    """A child that says what cannot be says nothing; of others, neither."""
    def say(change):
        def play(handler, r):
            doc = r.json()
            change(doc)
            handler.reply(200, json.dumps(doc).encode())
        server.say = play

    def add(doc, **members):
        doc["agents"].append({**doc["agents"][0], **members})

    for what in (dict(node_id=node_ids[1], version="a lie"),
                 dict(node_id=node_ids[0], version="a lie"),
                 dict(node_id="12" * 16, version="a lie"),
                 dict(version="a lie")):  # itself twice
        say(lambda doc, what=what: add(doc, **what))
        agents, coverage = roster(tree.root)
        assert "a lie" not in {a["version"] for a in agents.values()}
        assert coverage["complete"], coverage
    for bad in (dict(version="x" * 17), dict(version=5), dict(tasks=-1),
                dict(tasks="1"), dict(tasks_hash=7), dict(tasks_same=1),
                dict(latency_ms=-1), dict(node_id="x"), dict(node_id=None)):
        say(lambda doc, bad=bad: add(doc, **bad))
        agents, coverage = roster(tree.root)
        assert agents[node_ids[2]]["version"] is None, bad
        assert {"host": tree.nodes[2].address, "reason": "rejected"}.items() \
            <= coverage["missing"][0].items(), (bad, coverage)
    def one_more(doc):
        doc["coverage"].update(answered=3)

    # how many are below a child is known once it has told of all
    say(one_more)
    wait_until(lambda: roster(tree.root)[1]["hosts_answered"] == 2, 15,
               "one more is too many")
    for broken in (lambda doc: doc.pop("coverage"),
                   lambda doc: doc.pop("agents"), one_more):
        say(broken)
        agents, coverage = roster(tree.root)
        assert agents[node_ids[3]]["version"] is None
        assert coverage["hosts_answered"] == 2, coverage
    # an agent that does not know the question, and one below it
    server.say = lambda handler, _: handler.reply(404, b"{}")
    agents, coverage = roster(tree.root)
    assert [agents[i]["version"] is None for i in node_ids] == [
        False, False, True, True], agents
    assert not coverage["complete"]
    server.say = None


def pages_of_two_clients(root, cursor):
    """A page goes on with the answers that the first was of: those of before
    the last host stopped, whoever asked meanwhile."""
    def page(cursor):
        return root.get(f"{AGENTS}?limit=3&cursor={cursor}")

    def other():
        return root.get(AGENTS + "?limit=3&timeout=100ms").json()[
            "meta"]["next_cursor"]

    later = other()
    for _ in range(2):
        agent, = page(cursor).json()["data"]
        assert agent["version"], agent
        agent, = page(later).json()["data"]
        assert agent["version"] is None, agent
    for _ in range(4):
        other()
    r = page(cursor)
    assert r.status == 400, r.text
    assert r.json()["errors"] == [
        {"field": "cursor", "reason": "of answers that are not kept any more: "
         "begin with the first page"}], r.text


def test_roster():
    with Tree(SHAPE) as tree:
        node_ids = ids(tree)
        version, other = another_version(tree.nodes[3])
        with middle(tree.nodes[2]) as server:
            server.RequestHandlerClass = Holding
            server.hold, server.say = False, None
            agents, _ = wait_known(tree, lambda a: [
                a[i]["version"] for i in node_ids if i in a] == [
                    version, version, version, other])
            assert [agents[i]["tasks_same"] for i in node_ids] == [
                None, True, True, True]
            assert [agents[i]["latency_ms"] is None for i in node_ids] == [
                True, False, False, False]
            lies(tree, server, node_ids)

            # the tasks of one do not reach it, nor who is below
            server.hold = True
            r = tree.root.post("/api/v1/tasks", {
                "filter": {"direction": "in", "proto": "udp"}, "key": "src",
                "increment": "byte"})
            assert r.status == 201, r.text
            agents, _ = wait_known(tree, lambda a: [
                a[i]["tasks"] for i in node_ids] == [1, 1, 0, 0] and a[
                    node_ids[2]]["tasks_same"] is False)
            assert [agents[i]["tasks_same"] for i in node_ids] == [
                None, True, False, True]
            lines = show(tree)
            assert [lines[n.address][3] for n in tree.nodes] == [
                "1", "same", "differ", "same"], lines
            assert [lines[n.address][4] for n in tree.nodes] == [
                version, version, version, other], lines
            server.hold = False
            wait_known(tree, lambda a: len({
                a[i]["tasks_hash"] for i in node_ids}) == 1)

        # an inner agent answers for its subtree; pages are of one roster
        agents, coverage = roster(tree.nodes[2])
        assert set(agents) == set(node_ids[2:]), agents
        first = tree.root.get(AGENTS + "?limit=3").json()
        rest = tree.root.get(f"{AGENTS}?limit=3&cursor="
                             + first["meta"]["next_cursor"]).json()
        assert len(first["data"]) == 3 and len(rest["data"]) == 1

        # clients that ask for what takes long leave room for the parent
        first = tree.root.get(AGENTS + "?limit=3").json()
        tree.nodes[3].agent.signal(signal.SIGSTOP)
        pages_of_two_clients(tree.root, first["meta"]["next_cursor"])
        with ThreadPoolExecutor(10) as pool:
            asked = [pool.submit(tree.nodes[2].get, AGENTS) for _ in range(10)]
            wait_until(lambda: any(f.done() and f.result().status == 503
                                   for f in asked), 2, "all that clients may")
            agents, _ = roster(tree.root)
        assert agents[node_ids[2]]["version"] == version, agents

        # who is gone is not guessed
        tree.nodes[3].agent.kill()
        agents, coverage = wait_known(
            tree, lambda a: a[node_ids[3]]["version"] is None, False)
        assert {k for k, v in agents[node_ids[3]].items()
                if v is not None} == {"node_id"}
        assert [m["host"] for m in coverage["missing"]] == [
            tree.nodes[3].address], coverage
        assert show(tree)[tree.nodes[3].address][2:5] == ["-", "-", "-"]
