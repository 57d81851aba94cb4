# SPDX-License-Identifier: GPL-2.0-or-later
"""T40: text of clients never becomes a command, a path or a rule.

Agent and monitor run together; every field of the legacy messages gets
payloads that would mean something to a shell, to iptables, or to a parser that
is not strict.  Each is refused, or is a canonical value in another form.
"""
import contextlib
import ipaddress
import itertools
import re
import urllib.parse

import lab as lab_module
from lab import AGENT_UID, MONITOR_UID, wait_until
from test_http import ask
from test_rules import own_rules
from traffic import trace_lines

MARK = "linnet-was-here"
META = [";", "&&", "||", "|", "\n", "\r\n", "`touch {}`", "$(touch {})", "$IFS",
        "${{PATH}}", ">", "<", "'", '"', "\\", "*", "?", "~", "#", "!", "\0",
        "\t", " ", "%", "%s%n", "{{{{", "\x1b[2J", "\x7f", "\u202e", "\u2028",
        "../../../etc/passwd", "/dev/null", "file:///etc/passwd",
        "; touch {}", "| touch {}", "\ntouch {}\n", "-j DROP", " -j DROP",
        "--", "-h", "--help", "-A INPUT -j DROP", "\n-A INPUT -j DROP",
        "COMMIT\n*filter", "@evil", "+1", "-1", "1e3", "0x1", "01", "1 ", " 1",
        "1_0", "\u0661", "NaN", "inf", "-0", "99999999999999999999", "1.0.0",
        "null", "true", "[]", "{{}}", "<script>", "=cmd|' /C calc'!A0"]
ADDRESSES = ["010.0.0.1", "0x0a000001", "167772161", "10.1", "10.0.0.256",
             "10.0.0.1.", ".10.0.0.1", "10.0.0.1/33", "10.0.0.1/-1",
             "10.0.0.1/08", "10.0.0.1/255.0.0.0", "!10.0.0.1", "10.0.0.1,10.0.0.2",
             "fe80::1%lo", "fe80::1%25lo", "::1%0", "[::1]", ":::", "1::2::3",
             "::ffff:10.0.0.1/129", "12345::", "localhost", "example.com", "any",
             "0/0 -j DROP", "10.0.0.1/", "/8", "\uff11\uff10.0.0.1"]
# Other ways to write a value that is allowed.
CANONICAL = {"src": ["::ffff:10.0.0.9", "10.9.9.9/8", "FD77::9/64"],
             "proto": ["255", "sctp"], "interface": ["input", "Output"]}
PREFIXES = {"interface": "INPUT", "proto": "tcp", "src": "10.0.0.1",
            "dst": "10.0.0.1", "target": "ACCEPT", "sketch_id": "0",
            "counter_key_type": "src", "increment": "pkt",
            "hitter_threshold": "0.1", "counter_key": "10.0.0.6",
            "agent_addr": "10.77.0.1", "type": "config sketch",
            "scope": "host"}
FIELDS = [("config sketch", "interface proto src dst scope type"),
          ("config counter", "interface proto src dst target"),
          ("config sketch counter",
           "sketch_id counter_key_type increment hitter_threshold"),
          ("query sketch",
           "sketch_id counter_key_type counter_key increment scope"),
          ("add leaf agent", "agent_addr"),
          ("query bw", "dst src"), ("query jitter", "dst")]
# What else the message needs, beside the sketch.
OTHERS = {"query sketch": {"counter_key": "10.0.0.6"}}


def payloads(field):
    """Values that no parser of this field may take."""
    prefix = PREFIXES[field]
    # A blank is allowed nowhere in a value, an empty value is no field.
    texts = [m.format(MARK) for m in META]
    if field in ("src", "dst", "agent_addr"):
        texts += ADDRESSES
    for text in texts:
        yield prefix + text
        if text.strip("0123456789"):
            yield text
    yield prefix * 100


def is_value(field, text):
    """Payloads that happen to be a value."""
    if field in ("src", "dst", "agent_addr"):
        with contextlib.suppress(ValueError):
            return "%" not in str(ipaddress.ip_interface(text)) and \
                re.fullmatch("[^/]*(/[0-9]{1,3})?", text) is not None
    if field in ("sketch_id", "proto", "hitter_threshold"):
        return re.fullmatch(r"-?[0-9.]+(e[0-9]+)?", text) is not None
    return False


def test_t40_payloads(build):
    with lab_module.Lab(2) as lab:
        host = lab.hosts[1]
        traces = [lab.dir / "monitor-trace", lab.dir / "agent-trace"]
        tracer = ["/usr/bin/strace", "-f", "-qq", "-s", "200", "-e",
                  "trace=execve,execveat"]
        host.monitor(prefix=[*tracer, "-o", traces[0]], seconds=20)
        agent = host.start([*tracer, "-o", traces[1],
                            build / "agent/linnet-agent", "--instance", "lab",
                            "--user", AGENT_UID, "--monitor-user", MONITOR_UID],
                           ready=True, program="linnet-agent")
        agent.wait_ready(20)
        sources = itertools.cycle(f"127.0.{i}.1" for i in range(1, 40))

        def send(**fields):
            body = urllib.parse.urlencode(fields).encode()
            return ask(host, b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body,
                       next(sources))

        wait_until(lambda: send(type="config counter").status == 200, 5,
                   "the monitor is attached")
        sketch = {"counter_key_type": "src", "sketch_id":
                  send(type="config sketch", proto="tcp").body.decode()}
        assert send(type="config sketch counter", **sketch).status == 200
        rules = {f: own_rules(host, f) for f in (4, 6)}
        n = 0
        for message, fields in FIELDS:
            others = OTHERS.get(message, {}) | sketch
            for field in fields.split():
                for text in payloads(field):
                    if is_value(field, text):
                        continue
                    reply = send(**{"type": message} | others | {field: text})
                    assert reply.status == 400, (message, field, text)
                    assert MARK.encode() not in reply.body
                    n += 1
        assert n > 2000
        assert {f: own_rules(host, f) for f in (4, 6)} == rules
        for field, texts in CANONICAL.items():
            for text in texts:
                assert send(type="config counter", **{field: text}
                            ).status == 200, text
        for family in (4, 6):
            own_rules(host, family)
        errors = lab.stop_all()
        assert not errors, errors
        ran = [re.match(r'"([^"]*)"', args).group(1) for trace in traces
               for _, _, args in trace_lines(trace) if "= 0" in args]
        ours = {str(build / "monitor/linnet-monitor"),
                str(build / "agent/linnet-agent")}
        assert ours <= set(ran)
        for path in set(ran) - ours:
            assert re.fullmatch(r"/usr/s?bin/(xtables-nft-multi|"
                                r"ip6?tables-nft-(restore|save))", path), path
        assert not list(lab.dir.glob(f"**/*{MARK}*"))
