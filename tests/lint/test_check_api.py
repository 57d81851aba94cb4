# SPDX-License-Identifier: GPL-2.0-or-later
"""check_api.py sees what is missing on either side."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import check_api  # noqa: E402
import lint  # noqa: E402

DOC = check_api.README

# file, what is taken away or changed, what is found
CHANGES = [
    (DOC, ("| `query counter` | tree", "| `query kounter` | tree"),
     ["query counter", "query kounter"]),
    (DOC, ("| `query leaf agents` | host | read", "| `query leaf agents` | "
           "host | admin"), ["query leaf agents", "query leaf agents"]),
    (DOC, ("| `hitter_base` | host or tree", "| `hitter_base` | host"),
     ["`hitter_base`", "`hitter_base`"]),
    (DOC, ("| `n` | 1..1024", "| `n` | 1..1000"), ["`n`", "`n`"]),
    (DOC, ("| GET, HEAD | `/livez` | – |", "| GET | `/livez` | – |"),
     ["HEAD"]),
    (DOC, ("| `loop` | 508 | 508", "| `loop` | 508 | 500"), ["508", "500"]),
    (DOC, ("| `busy` | too", "| `late` | too"), ["busy", "late"]),
    (DOC, ("| `X-Linnet-Missing` |", "| `X-Linnet-Gone` |"),
     ["X-Linnet-Missing", "X-Linnet-Gone"]),
    (DOC, ("`queue_depth`", "depth of the queue"), ["queue_depth"]),
    (DOC, ("| `hops` |", "| `jumps` |"), ["hops", "jumps"]),
    ("agent/messages.c", ('{ "query jitter",', '{ "query jitters",'),
     ["query jitters", "query jitter"]),
    ("agent/messages.c", ("COUNTER_FIELDS | FIELD(INCREMENT), COUNTER_FIELDS,",
                          "COUNTER_FIELDS, COUNTER_FIELDS,"),
     ["query real time counter", "query real time counter"]),
    ("agent/fields.c", ('"tcp or udp"', '"tcp, udp or sctp"'),
     ["server_mode", "server_mode"]),
    ("agent/errors.c", ('"unknown-probe"', '"no-probe"'),
     ["no-probe", "unknown-probe"]),
    ("agent/tree/message.c", ('"too-deep", 508', '"deep", 508'),
     ["too-deep", "'deep'"]),
    ("agent/v1_tasks.c", ('.pattern = "/api/v1/tasks/*",', '.pattern = "/api/*",'),
     ["/api/{id}", "/api/v1/tasks/{id}"]),
    ("agent/v1_answer_json.c",
     ('json_put_u64(o, "rank"', 'json_put_u64(o, "pos"'),
     ["member pos"]),
]


@pytest.fixture
def tree():
    return lint.Tree(Path(lint.__file__).parents[2], "build")


def test_document_agrees(tree):
    assert check_api.findings(tree) == []


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c[1][1][:30])
def test_change_is_found(tree, change):
    name, (old, new), expected = change
    text = tree.text(name)
    assert old in text
    tree._text[name] = text.replace(old, new, 1)
    found = check_api.findings(tree)
    for word in expected:
        assert any(word in f for f in found), found
    assert len(found) >= len(set(expected))
