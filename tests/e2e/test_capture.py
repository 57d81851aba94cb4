# SPDX-License-Identifier: GPL-2.0-or-later
"""An answer is not called complete while the host cannot see its packets, and
a monitor keeps no task that its agent does not know."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pair import ASKED, pair, wait_until  # noqa: E402
from ctl import Control  # noqa: E402  (tests/netns, on the path by pair)
from test_contract import ask, sketch  # noqa: E402

CHAIN = "linnet-lab-in"


def captures(host):
    return "NFQUEUE" in host.run(["iptables-nft", "-t", "mangle", "-S",
                                  CHAIN]).stdout


def flush(host):
    host.iptables("-t", "mangle", "-F", CHAIN)


def test_rules_flushed():
    """Repaired once a minute: the second time the answer must say so."""
    with pair(child=False) as p:
        sid = sketch(p)
        host = p.asked

        def answer():
            return ask(p, "query heavy hitters", sketch_id=sid,
                       counter_key_type="src")

        assert answer().headers["X-Linnet-Complete"] == "true"
        flush(host)
        wait_until(lambda: captures(host), 8, "the rules are repaired")
        wait_until(lambda: answer().status == 200, 8, "an answer again")
        flush(host)
        wait_until(lambda: answer().status == 503, 8, "no false answer")
        assert answer().text == "error: monitor not attached"
        assert not captures(host)


def test_tasks_of_an_earlier_agent():
    """Nothing is kept: the new agent knows no task, so the monitor has none."""
    with pair(child=False) as p:
        sketch(p)
        with Control(p.asked, "lab") as control:
            assert len(control.list()) == 1
            p.agents[p.asked].kill()
            assert len(control.list()) == 1
            p.start_agent(p.asked, ASKED)
            wait_until(lambda: not control.list(), 5, "the task is gone")
        wait_until(lambda: not p.asked.nfacct(), 5, "the rules are gone")
