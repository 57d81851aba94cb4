# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of linnet-agent in one file, standard library only.

Copy it next to a script and ask any agent for its part of the network:

    from client import Client

    root = Client("10.0.0.2")
    sid = root.ask("config sketch", proto="icmp").value
    root.ask("config sketch counter", sketch_id=sid, counter_key_type="src")
    answer = root.ask("query heavy hitters", sketch_id=sid,
                      counter_key_type="src")
    for source, packets in answer.value.items():
        print(source, packets)
    if not answer.coverage.complete:
        print("no answer from", answer.coverage.missing)

ask() speaks the messages of POST /, where every answer is a number, a text,
a map or a list; get(), post() and delete() speak /api/v1, where every answer
is JSON.  A Client keeps no connection and no state: it may be shared by
threads and kept for ever.
"""

import http.client
import json
import re
from typing import NamedTuple
from urllib.parse import urlencode

PROBES = ("query bw", "query jitter")
REPLY_MAX = 64 << 20


class LinnetError(Exception):
    """The agent refused: .status is the HTTP status, .text says why.

    .problem is the decoded problem object of /api/v1, else None.  Status 0
    stands for a reply that is not HTTP or not of the documented form.
    """

    def __init__(self, status, text, problem=None):
        super().__init__(f"{status}: {text}" if status else text)
        self.status = status
        self.text = text
        self.problem = problem


class Coverage(NamedTuple):
    """Which hosts an answer speaks for.

    complete: every host of the scope answered.  answered, expected: numbers
    of hosts.  missing: {address: reason}; at most 16 hosts are named there,
    missing_more counts the rest.  missed_packets: packets that matched but
    were not counted, None where the answer measures nothing.  truncated:
    keys left out of a map.
    """
    complete: bool = True
    answered: int = 1
    expected: int = 1
    missing: dict = {}
    missing_more: int = 0
    missed_packets: "int | None" = None
    truncated: int = 0


class Answer(NamedTuple):
    """value: int or float, text, dict (in the agent's order) or list."""
    value: object
    coverage: Coverage


class Client:
    """One agent.  timeout is the budget of ask() in seconds (0.05 to 30):
    the agent answers within it with what has arrived, the client gives up
    one second later.  Methods raise LinnetError, and OSError where the
    agent cannot be reached."""

    def __init__(self, host, port=8000, token=None, timeout=2.0):
        self.host = host
        self.port = port
        self.token = token
        self.timeout = timeout

    def ask(self, type, **fields):
        """Send the message `type` of POST / and return an Answer.

        ask("config sketch", proto="udp").value             -> 0
        ask("query counter", proto="udp").value             -> [12, 9000]
        ask("query heavy hitters", ...).value               -> {"10.0.0.6": 2}
        ask("query bw", dst="10.0.0.6", duration=3).value   -> 1980

        Fields that are None are left out.
        """
        given = {k: v for k, v in fields.items() if v is not None}
        wait_s, headers = self.timeout, {}
        if type in PROBES:
            wait_s += float(given.get("duration", 3))
        else:
            headers["X-Linnet-Deadline"] = str(round(self.timeout * 1000))
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        reply, text = self._send("POST", "/", urlencode({"type": type,
                                 **given}), headers, wait_s)
        if reply.status != 200:
            raise LinnetError(reply.status, text.removeprefix("error: "))
        return Answer(_value(reply, text), _coverage(reply))

    def get(self, path, **query):
        """GET /api/v1/PATH, decoded: {"data": ..., "meta": {...}}.

        get("tasks/00c0ffee00000007/top", n=5)["data"]
        get("tasks/00c0ffee00000007/estimate", key=["10.0.0.5", "10.0.0.6"])
        """
        text = urlencode({k: v for k, v in query.items() if v is not None},
                         doseq=True)
        return self._v1("GET", path + ("?" + text if text else ""))

    def post(self, path, body):
        """POST the object `body` to /api/v1/PATH, decoded answer.

        post("tasks", {"key": "src", "filter": {"proto": "icmp"}})
        """
        return self._v1("POST", path, body)

    def put(self, path, body):
        """PUT the object `body` at /api/v1/PATH, decoded answer.

        task = post("tasks", {"key": "src"})["data"]
        put("tasks/" + task["id"], task)    # again, to whoever is the root
        """
        return self._v1("PUT", path, body)

    def delete(self, path):
        """DELETE /api/v1/PATH; None, or the decoded answer if there is one."""
        return self._v1("DELETE", path)

    def _v1(self, method, path, body=None):
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        reply, text = self._send(method, "/api/v1/" + path.lstrip("/"), body,
                                 headers, self.timeout)
        value = _json(reply, text) if text else None
        if 200 <= reply.status < 300:
            return value
        problem = value if isinstance(value, dict) else {}
        raise LinnetError(reply.status, problem.get("detail") or
                          problem.get("title") or reply.reason, problem)

    def _send(self, method, path, body, headers, wait_s):
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        conn = http.client.HTTPConnection(self.host, self.port,
                                          timeout=wait_s + 1)
        try:
            conn.request(method, path, body, headers)
            reply = conn.getresponse()
            raw = reply.read(REPLY_MAX + 1)
        except http.client.HTTPException as e:
            raise LinnetError(0, f"not an HTTP reply: {e!r}") from e
        finally:
            conn.close()
        if len(raw) > REPLY_MAX:
            raise LinnetError(0, "reply too large")
        return reply, raw.decode("utf-8", "replace")


def _json(reply, text):
    """Decode a JSON body; a refusal may come without one."""
    if "json" not in (reply.getheader("Content-Type") or ""):
        if reply.status >= 300:
            return None
        raise LinnetError(0, "reply is not JSON")
    try:
        return json.loads(text)
    except ValueError as e:
        raise LinnetError(0, f"malformed JSON: {e}") from e


def _value(reply, text):
    """Number, map or list, or the text itself."""
    if "json" in (reply.getheader("Content-Type") or ""):
        return _json(reply, text)
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"-?[0-9]+\.[0-9]+", text):
        return float(text)
    return text


def _coverage(reply):
    """The coverage headers of a reply; defaults where it has none."""
    found = re.fullmatch(r"(\d+)/(\d+)",
                         reply.getheader("X-Linnet-Answered") or "1/1")
    answered, expected = map(int, found.groups()) if found else (0, 0)
    missing, more = {}, 0
    for part in (reply.getheader("X-Linnet-Missing") or "").split(","):
        host, _, reason = part.strip().partition("=")
        if reason:
            missing[host] = reason
        elif host.startswith("+"):
            more = int(host[1:])
    missed = reply.getheader("X-Linnet-Missed-Packets")
    return Coverage(
        (reply.getheader("X-Linnet-Complete") or "true") == "true",
        answered, expected, missing, more,
        None if missed is None else int(missed),
        int(reply.getheader("X-Linnet-Truncated") or 0))
