"""What was asked of a depotd and what it answered, and whether it kept its word after a crash.

An *attempt* is one upload request: PUT (one file) or a form (several files, all of them or none). It is known by its token, an
attribute that all of its files carry, so that a file which was stored without being answered is recognised. A *kept* file is one
that was answered with 201 or 202. Its changes are made by one client, one after the other, so at any time there is one record
that must be there, and besides it at most what an unanswered change would have made of it.

Bytes are not remembered: content(token, index, size) makes them again. Thread-safe where clients write; audit() wants quiet.
"""
import base64
import collections
import copy
import hashlib
import json
import os
import random
import re
import threading
import time
import urllib.parse

import raw_http
from form_data import content_type, encode_form, field, file

NOISE = random.Random(20261122).randbytes(9 << 20)
STALL = 2.0  # seconds that the machine, whose other processors run other scenarios, may hold anybody up
OBJECT = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(\.meta)?\Z")


def content(token, index, size):
    """The bytes of one file of one attempt: they differ from those of every other one, from the first byte on where there is room."""
    mark = ("%s/%d:" % (token, index)).encode()
    start = int.from_bytes(hashlib.sha256(mark).digest()[:4], "big") % (len(NOISE) - size) if size else 0
    return (mark[::-1] + NOISE[start:start + size])[:size]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def merged(record, patch):
    """RFC 7396, as far as the harness patches: the members of a file object, and attributes one level deep."""
    out = json.loads(json.dumps(record))
    for key, value in patch.items():
        if key == "attributes":
            for name, inner in value.items():
                if inner is None:
                    out["attributes"].pop(name, None)
                else:
                    out["attributes"][name] = inner
        else:
            out[key] = value
    return out


def settled(record):
    """A file object without the field that goes away by itself once the row is committed."""
    return {k: v for k, v in record.items() if k != "registered"}


class Unanswered(Exception):
    """An audit's own request was refused."""


class File:
    """One file of an attempt, as the client sends it."""

    def __init__(self, name, size):
        self.name = name
        self.size = size


class Attempt:
    def __init__(self, token, door, files, tags=(), visibility=None, key=None, digest=False, coding=None):
        self.token = token
        self.door = door  # "put" or "form"
        self.files = files
        self.tags = list(tags)
        self.visibility = visibility
        self.key = key
        self.digest = digest
        self.coding = coding  # None: Content-Length; else the size of the chunks
        self.answer = None  # status, once there was one
        self.kept = []

    def data(self, index):
        return content(self.token, index, self.files[index].size)

    def request(self):
        """The bytes of the request; the same each time, so that an Idempotency-Key may be repeated."""
        headers, target = [], "/files"
        if self.door == "put":
            pairs = [("attr.token", self.token)] + [("tags", tag) for tag in self.tags]
            if self.visibility:
                pairs.append(("visibility", self.visibility))
            target = "/files/%s?%s" % (urllib.parse.quote(self.files[0].name), urllib.parse.urlencode(pairs))
            method, body = "PUT", self.data(0)
            if self.digest:
                hashed = base64.b64encode(hashlib.sha256(body).digest()).decode()
                headers.append(("Repr-Digest", "sha-256=:%s:" % hashed))
        else:
            parts = [file("f", f.name, self.data(i)) for i, f in enumerate(self.files)]
            fields = [field("token", self.token)] + [field("tags", tag) for tag in self.tags]
            if self.visibility:
                fields.append(field("visibility", self.visibility))
            # Fields count wherever they stand.
            method, body = "POST", encode_form(fields[1:] + parts + fields[:1])
            headers.append(("Content-Type", content_type()))
        if self.key:
            headers.append(("Idempotency-Key", '"%s"' % self.key))
        if self.coding:
            headers.append(("Transfer-Encoding", "chunked"))
            head = raw_http.encode_request(method, target, headers)
            return head + raw_http.chunked(raw_http.in_pieces(body, self.coding))
        return raw_http.encode_request(method, target, headers, body)

    def differences(self, index, record):
        """What in a file object is not as this attempt asked for; the type is the server's to find."""
        data = self.data(index)
        wanted = {"name": self.files[index].name, "size": len(data), "sha256": sha256(data), "tags": self.tags,
                  "attributes": {"token": self.token}, "visibility": self.visibility or "private"}
        return ["%s is %r instead of %r" % (k, record.get(k), v) for k, v in wanted.items() if record.get(k) != v]


class Kept:
    """A file that was answered (or adopted: unanswered, and found whole after a crash)."""

    def __init__(self, attempt, index, record, cycle):
        self.attempt = attempt
        self.index = index
        self.record = settled(record)
        self.alternatives = []  # records that unanswered changes may have made
        self.deletion = None  # None, "asked" (unanswered) or "answered"
        self.cycle = cycle
        self.registered = record.get("registered", True)
        self.answered_at = time.monotonic()

    @property
    def id(self):
        return self.record["id"]


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.attempts = {}  # token: Attempt
        self.kept = {}  # id: Kept
        self.violations = []
        self.counts = collections.Counter()
        self.bytes = 0
        self.cycle = 0
        self.broken_at = None  # when something was about to be broken, this cycle

    def copy(self):
        """One that goes its own way from here on."""
        other = Ledger()
        other.attempts, other.kept, other.counts = copy.deepcopy((self.attempts, self.kept, self.counts))
        other.violations, other.bytes, other.cycle = list(self.violations), self.bytes, self.cycle
        return other

    # --- while clients run ---

    def violation(self, text, *arguments):
        with self.lock:
            self.violations.append("cycle %d: " % self.cycle + (text % arguments if arguments else text))

    def begin(self, attempt):
        with self.lock:
            self.attempts[attempt.token] = attempt
            self.counts["asked"] += 1

    def answered(self, attempt, response):
        """Takes an upload's answer; the kept files."""
        attempt.answer = response.status
        self.counts["%d" % response.status] += 1
        if response.status not in (201, 202):
            return []
        body = response.json()
        records = body["files"] if attempt.door == "form" else [body]
        if len(records) != len(attempt.files):
            self.violation("%s: %d files sent, %d answered", attempt.token, len(attempt.files), len(records))
            return []
        kept = []
        for index, record in enumerate(records):
            wrong = attempt.differences(index, record)
            if wrong:
                self.violation("%s was answered wrongly: %s", attempt.token, "; ".join(wrong))
            # 202 says of each file whether its row is there; 201 says that all are.
            if response.status == 201 and "registered" in record:
                self.violation("%s: 201 with \"registered\"", attempt.token)
            kept.append(Kept(attempt, index, record, self.cycle))
        with self.lock:
            for one in kept:
                if one.id in self.kept:
                    self.violations.append("the id %s was given twice" % one.id)
                self.kept[one.id] = one
                self.bytes += attempt.files[one.index].size
            self.counts["kept"] += len(kept)
        attempt.kept = kept
        return kept

    def live(self):
        with self.lock:
            return [one for one in self.kept.values() if one.deletion is None]

    # --- after the restart ---

    def audit(self, server, chance, registered_within=2.0, everything=False):
        """Holds the server, which was started anew, against all that was answered. Adds to violations."""
        with raw_http.Connection((server.host, server.port), deadline=30) as connection:
            listed = self._wait_for_rows(connection, registered_within)
            self._adopt(listed)
            for one in list(self.kept.values()):
                self._audit_one(one, listed, connection)
            recent = [k for k in self.kept.values() if k.deletion is None and (everything or k.cycle == self.cycle)]
            older = [k for k in self.kept.values() if k.deletion is None and k.cycle != self.cycle]
            for one in recent + chance.sample(older, 0 if everything else min(25, len(older))):
                self._download(one, connection)
            gone = [k for k in self.kept.values() if k.deletion == "answered"]
            for one in chance.sample(gone, min(25, len(gone))):
                for target in ("/files/" + one.id, "/files/%s/metadata" % one.id):
                    status = connection.exchange("GET", target).status
                    if status != 404:
                        self.violation("%s was deleted (204) and GET %s answers %d", one.id, target, status)
        self.counts["audits"] += 1
        return set(listed)

    def list(self, connection, patience=30.0):
        """All of it, by id. patience: how long it may answer 503 (the database comes back)."""
        listed, target, end = {}, "/files?limit=1000", time.monotonic() + patience
        while target:
            response = connection.exchange("GET", target)
            if response.status == 503 and time.monotonic() < end:
                time.sleep(0.02)
                continue
            if response.status != 200:
                raise Unanswered("GET %s: %r" % (target, response))
            page = response.json()
            for record in page["files"]:
                if record["id"] in listed:
                    self.violation("%s is listed twice", record["id"])
                listed[record["id"]] = record
            cursor = page["next_cursor"]
            target = cursor and "/files?limit=1000&cursor=" + urllib.parse.quote(cursor)
        return listed

    def _wait_for_rows(self, connection, within, forever=30.0):
        """The list once every kept file is in it, which is to be soon, and no other row is on its way (of an upload that was not
        answered, of a file whose deletion was not); or as it is when the time is over."""
        began = time.monotonic()
        while True:
            on_their_way = self._rows_on_their_way(connection)
            listed = self.list(connection)
            missing = [k for k in self.kept.values() if k.deletion is None and k.id not in listed]
            took = time.monotonic() - began
            if not missing and (not on_their_way or took > within + STALL):
                if took > within + STALL:
                    self.violation("all rows are there, after %.1f s instead of %g s%s", took, within,
                                   " (still to come: %d)" % on_their_way if on_their_way else "")
                return listed
            if took > forever:
                return listed
            time.sleep(0.02)

    @staticmethod
    def _rows_on_their_way(connection):
        """Those that wait for the database, and those it has and may still forget."""
        text = connection.exchange("GET", "/metrics").body.decode()
        return sum(int(value) for value in re.findall(r"^depotd_files_un(?:registered|confirmed) (\d+)$", text, re.MULTILINE))

    def _adopt(self, listed):
        """Files that nobody was told of: whole, all of their form or none, and of a request that was not refused."""
        strangers = collections.defaultdict(list)
        for record in listed.values():
            if record["id"] not in self.kept:
                strangers[record["attributes"].get("token")].append(record)
        for token, records in strangers.items():
            attempt = self.attempts.get(token)
            if attempt is None:
                self.violation("nobody ever sent %s", records)
                continue
            if attempt.kept:
                self.violation("%s was answered with %s and is listed a second time as %s", token,
                               [k.id for k in attempt.kept], [r["id"] for r in records])
                continue
            if attempt.answer is not None and attempt.answer < 500 or attempt.answer == 507:
                self.violation("%s was refused with %d and is listed", token, attempt.answer)
            if len(records) != len(attempt.files):
                self.violation("of the %d files of %s %d are listed", len(attempt.files), token, len(records))
                continue
            found = {record["name"]: record for record in records}
            for index, sent in enumerate(attempt.files):
                record = found.get(sent.name)
                wrong = attempt.differences(index, record) if record else ["it is missing"]
                if wrong:
                    self.violation("%s (file %d, unanswered) is listed and wrong: %s", token, index, "; ".join(wrong))
                    continue
                one = Kept(attempt, index, record, self.cycle)
                attempt.kept.append(one)
                self.kept[one.id] = one
                self.bytes += sent.size
            self.counts["adopted"] += len(records)

    def _audit_one(self, one, listed, connection):
        record = listed.get(one.id)
        if one.deletion == "answered":
            if record is not None:
                self.violation("%s (%s) was deleted (204) and is listed again", one.id, one.attempt.token)
        elif record is None:
            if one.deletion is None:
                after = "" if self.broken_at is None else ", %+.1f ms from the fault" % ((one.answered_at - self.broken_at) * 1000)
                self.violation("LOST: %s (%s, %d bytes, %s, answered %s in cycle %d%s) is not listed; GET answers %d", one.id,
                               one.attempt.token, one.record["size"], one.attempt.door, one.attempt.answer, one.cycle, after,
                               connection.exchange("GET", "/files/" + one.id).status)
            one.deletion = "answered"  # whether asked for or told of: it is gone, and has to stay so
        else:
            if settled(record) != one.record and settled(record) not in one.alternatives:
                self.violation("%s is %s instead of %s%s", one.id, json.dumps(record), json.dumps(one.record),
                               "".join(" or " + json.dumps(a) for a in one.alternatives))
            one.record = settled(record)
            one.deletion = None
        one.alternatives = []

    def _download(self, one, connection):
        response = connection.exchange("GET", "/files/" + one.id)
        if response.status != 200:
            self.violation("%s (%s, upload answered %s) is listed and GET answers %d", one.id, one.attempt.token,
                           one.attempt.answer, response.status)
        elif response.body != one.attempt.data(one.index):
            self.violation("%s (%s): GET gives %d other bytes than the %d that were sent", one.id, one.attempt.token,
                           len(response.body), one.record["size"])
        elif response.headers.get("ETag") != '"%s"' % one.record["sha256"]:
            self.violation("%s: ETag %s", one.id, response.headers.get("ETag"))

    def repeat_keys(self, server, chance, n):
        """Requests with an Idempotency-Key, sent once more: the same files for the answered ones, one and the same for the others."""
        keyed = [a for a in self.attempts.values() if a.key and (a.answer is None or a.answer in (201, 202))]
        keyed = [a for a in keyed if all(k.deletion is None for k in a.kept)]
        with raw_http.Connection((server.host, server.port), deadline=30) as connection:
            for attempt in chance.sample(keyed, min(n, len(keyed))):
                connection.send(attempt.request())
                response = connection.read_response("PUT")
                if response.status not in (201, 202):
                    self.violation("%s, repeated with its key, answers %d %r", attempt.token, response.status, response.body[:200])
                elif attempt.kept:
                    body = response.json()
                    ids = [r["id"] for r in (body["files"] if attempt.door == "form" else [body])]
                    if ids != [k.id for k in attempt.kept]:
                        self.violation("%s, repeated with its key, is now %s instead of %s", attempt.token, ids,
                                       [k.id for k in attempt.kept])
                else:
                    self.answered(attempt, response)
                self.counts["repeated"] += 1

    def audit_disk(self, server, listed, within=30.0):
        """After the sweep: the files of the data directory are those of the rows, and no temporaries."""
        end = time.monotonic() + within
        while True:
            stored, odd = set(), []
            for directory, _, names in os.walk(os.path.join(server.data_dir, "objects")):
                for name in names:
                    match = OBJECT.match(name)
                    stored.add(match.group(1)) if match else odd.append(os.path.join(directory, name))
            temporaries = os.listdir(os.path.join(server.data_dir, "tmp")) if os.path.isdir(
                os.path.join(server.data_dir, "tmp")) else []
            if (stored == listed and not odd and not temporaries) or time.monotonic() > end:
                break
            time.sleep(0.05)
        for one in sorted(listed - stored):
            self.violation("a row without bytes: %s", one)
        for one in sorted(stored - listed):
            self.violation("bytes without a row, %.0f s after the start: %s", within, one)
        for path in odd + temporaries:
            self.violation("left over, %.0f s after the start: %s", within, path)

    def audit_space(self, server, reserve, within=5.0):
        """No upload runs any more: whatever was promised to one was given back, so what is free is what the disk says."""
        end = time.monotonic() + within
        with raw_http.Connection((server.host, server.port), deadline=30) as connection:
            while True:
                text = connection.exchange("GET", "/metrics").body.decode()
                said = {key: int(float(value)) for key, value in re.findall(r"^(depotd_[a-z_]+) (\S+)$", text, re.MULTILINE)}
                disk = os.statvfs(server.data_dir)
                free = max(0, disk.f_bavail * disk.f_frsize - reserve)
                if free - said["depotd_data_free_bytes"] <= 64 << 10 and said["depotd_uploads_running"] == 0:
                    return
                if time.monotonic() > end:
                    self.violation("%d bytes are free above the reserve, %d it says; %d uploads run", free,
                                   said["depotd_data_free_bytes"], said["depotd_uploads_running"])
                    return
                time.sleep(0.05)

    def audit_check(self, server, *arguments):
        end = time.monotonic() + 30  # the first sweep after the start still brings descriptions up to their rows
        result = server.command("check", *arguments, timeout=120)
        while result.returncode != 0 and time.monotonic() < end:
            time.sleep(0.1)
            result = server.command("check", *arguments, timeout=120)
        if result.returncode != 0:
            self.violation("depotd check %s exits %d:\n%s", " ".join(arguments), result.returncode,
                           (result.stdout + result.stderr)[-2000:])
