"""Clients that upload, change, remove and download without pause, and write every answer into the ledger.

    load = Load(server, ledger, seed, clients=16)
    load.start(); load.wait(answers=200, seconds=1.0); ...; load.stop()

What a client does follows from the seed; how far it comes is the machine's business. A client ends at the first connection that
breaks after `broken` was set (the crash), and connects anew before.
"""
import json
import random
import threading
import time

import raw_http
from ledger import Attempt, File, merged

KIB, MIB = 1 << 10, 1 << 20
NAMES = ("report.pdf", "photo.jpg", "notes.txt", "données – 表 😀.bin", "a", "archive.tar.gz", "x" * 200)
BYTES_MAX = 96 * MIB  # kept in one run; further files are small


def some_size(chance, small, coarse):
    pick = chance.random() * (0.95 if coarse else 1)
    if pick < 0.05:
        return 0
    if pick < 0.45:
        return chance.randrange(1, 4 * KIB)
    if pick < 0.70:
        return 4 * KIB
    if pick < 0.86 or small:
        return chance.randrange(4 * KIB, 64 * KIB)
    if pick < 0.92:  # on both sides of where small ends
        return 64 * KIB + chance.randrange(-2, 3)
    if pick < 0.98:
        return chance.randrange(64 * KIB, 512 * KIB)
    return chance.randrange(512 * KIB, 4 * MIB)


class Mix:
    """How often a client does what; keys: how many uploads carry Idempotency-Key; coarse: no tiny chunks and nothing huge."""

    def __init__(self, put=60, form=12, patch=12, delete=10, get=6, keys=0.0, small=False, coarse=False):
        self.operations = ("put", "form", "patch", "delete", "get")
        self.weights = (put, form, patch, delete, get)
        self.keys = keys
        self.small = small
        self.coarse = coarse


class Load:
    def __init__(self, server, ledger, seed, clients=16, mix=None, tolerant=False, deadline=20.0):
        """tolerant: 5xx is an answer that may be given (a disk or a database is failing), and a connection may break; or the
        operations of which only the former is true."""
        self.address = (server.host, server.port)
        self.ledger = ledger
        self.mix = mix or Mix()
        self.tolerant = tolerant
        self.deadline = deadline
        self.changed = threading.Condition()
        self.answers = 0
        self.limit = 1 << 30  # so many answers, and the clients pause
        self.broken = threading.Event()  # from here on a connection may break
        self.stopping = threading.Event()
        older = ledger.live()
        random.Random("%s/older" % seed).shuffle(older)
        self.threads = [threading.Thread(target=self._client, args=("%s-%d" % (seed, n), older[n::clients]), daemon=True)
                        for n in range(clients)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def wait(self, answers=1 << 30, seconds=1.0):
        """Until so many answers came, or so much time went by."""
        end = time.monotonic() + seconds
        with self.changed:
            while self.answers < answers and time.monotonic() < end:
                self.changed.wait(max(0.001, end - time.monotonic()))

    def stop(self):
        """Ends the clients: those that wait for an answer get one or see their connection break."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(self.deadline + 10)
            if thread.is_alive():
                raise RuntimeError("a client does not end")

    # --- one client ---

    def _client(self, seed, mine):
        chance = random.Random(seed)
        connection = None
        number = 0
        try:
            while not self.stopping.is_set():
                if self.answers >= self.limit:
                    time.sleep(0.005)
                    continue
                number += 1
                operation = chance.choices(self.mix.operations, self.mix.weights)[0]
                act = random.Random("%s/%d" % (seed, number))  # one draw more or less changes nothing that comes after
                try:
                    if connection is None:
                        connection = raw_http.Connection(self.address, self.deadline)
                    token = "%s-%d" % (seed, number)
                    if operation in ("put", "form") or not mine:
                        response = self._upload(connection, act, token, operation, mine)
                    elif operation == "patch":
                        response = self._patch(connection, act, token, mine)
                    elif operation == "delete":
                        response = self._delete(connection, act, mine)
                    else:
                        response = self._get(connection, act, mine)
                    with self.changed:
                        self.answers += 1
                        self.changed.notify_all()
                    if not response.keeps_alive:
                        connection.close()
                        connection = None
                except (OSError, raw_http.ProtocolError) as problem:
                    if self.broken.is_set():
                        return
                    if self.tolerant is not True:
                        self.ledger.violation("a connection broke before anything else did: %s (%s)", problem, operation)
                        return
                    if connection is not None:
                        connection.close()
                    connection = None
                    time.sleep(0.005)
        except Exception as problem:  # a mistake in here must not pass for a crash
            self.ledger.violation("the client %s failed: %r", seed, problem)
        finally:
            if connection is not None:
                connection.close()

    def _refused(self, operation, what, response):
        tolerant = self.tolerant if isinstance(self.tolerant, bool) else operation in self.tolerant
        if not (tolerant and response.status >= 500) and not self.broken.is_set():
            self.ledger.violation("%s was refused: %r", what, response)

    def _upload(self, connection, act, token, door, mine):
        small = self.mix.small or self.ledger.bytes > BYTES_MAX
        names = act.sample(NAMES, act.randrange(1, 6) if door == "form" else 1)
        files = [File("%d %s" % (i, name), some_size(act, small, self.mix.coarse)) for i, name in enumerate(names)]
        attempt = Attempt(token, "form" if door == "form" else "put", files,
                          tags=sorted(act.sample(("a", "q4", "été", "urgent"), act.randrange(0, 3))),
                          visibility=act.choice((None, None, "public")),
                          key=token if act.random() < self.mix.keys else None, digest=act.random() < 0.2,
                          coding=act.choice((None, None, None, 8192, 70_000, 8192 if self.mix.coarse else 100)))
        self.ledger.begin(attempt)
        request = attempt.request()
        if act.random() < 0.08:  # slowly, so that a crash finds it half-way
            at = act.randrange(len(request))
            connection.send(request[:at])
            time.sleep(act.random() * 0.03)
            connection.send(request[at:])
        else:
            connection.send(request)
        response = connection.read_response("PUT")
        kept = self.ledger.answered(attempt, response)
        if not kept:
            self._refused("put", token, response)
        mine.extend(kept)
        return response

    def _patch(self, connection, act, token, mine):
        one = act.choice(mine)
        patch = act.choice(({"name": "renamed %s.txt" % token}, {"tags": ["patched", token]},
                            {"attributes": {"n": act.randrange(1000), "deep": {"list": [1, None, token]}}},
                            {"visibility": act.choice(("public", "private")), "attributes": {"n": None, "by": token}}))
        wanted = merged(one.record, patch)
        before, one.alternatives = one.alternatives, one.alternatives + [wanted] + [merged(a, patch) for a in one.alternatives]
        body = json.dumps(patch).encode()
        response = connection.exchange("PATCH", "/files/%s/metadata" % one.id,
                                       [("Content-Type", "application/merge-patch+json")], body)
        if response.status == 200:
            record = response.json()
            if record not in one.alternatives:
                self.ledger.violation("PATCH %s of %s answers %s", body, one.record, record)
            one.record, one.alternatives = record, []
        elif response.status < 500:
            one.alternatives = before
            self._refused("patch", "PATCH " + one.id, response)
        else:  # it may have been done
            self._refused("patch", "PATCH " + one.id, response)
        return response

    def _delete(self, connection, act, mine):
        one = mine.pop(act.randrange(len(mine)))
        one.deletion = "asked"
        response = connection.exchange("DELETE", "/files/" + one.id)
        if response.status == 204:
            one.deletion = "answered"
            self.ledger.counts["deleted"] += 1
        else:
            self._refused("delete", "DELETE " + one.id, response)
        return response

    def _get(self, connection, act, mine):
        one = act.choice(mine)
        response = connection.exchange("GET", "/files/" + one.id)
        if response.status != 200:
            self._refused("get", "GET " + one.id, response)
        elif response.body != one.attempt.data(one.index):
            self.ledger.violation("GET %s gives other bytes than were sent", one.id)
        return response
