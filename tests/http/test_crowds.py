"""Many clients that speak at the same moment, to one event thread: nobody is forgotten."""
import select
import signal
import time
import unittest

import raw_http
from depot_case import DepotCase
from depotd_server import seconds


class Crowds(DepotCase):
    settings = {"server.event_threads": "1"}

    def speak_at_once(self, clients, method, target, body=b""):
        """All of them send while the server stands still, on connections that it knows; the statuses of their answers."""
        request = raw_http.encode_request(method, target, [("Content-Length", str(len(body)))] if body else []) + body
        connections = [self.connect() for _ in range(clients)]
        for connection in connections:
            self.assertEqual(connection.exchange("GET", "/healthz").status, 200)
        self.server.signal(signal.SIGSTOP)
        try:
            for connection in connections:
                connection.send(request)
        finally:
            self.server.signal(signal.SIGCONT)
        end, waiting = time.monotonic() + seconds(15), {c.socket: c for c in connections}
        statuses = []
        while waiting and time.monotonic() < end:
            for ready in select.select(list(waiting), [], [], 0.5)[0]:
                statuses.append(waiting.pop(ready).read_response(method).status)
        for connection in connections:
            connection.close()
        self.assertEqual(len(waiting), 0, "%d of %d clients have no answer" % (len(waiting), clients))
        return statuses

    def test_as_many_as_one_look_of_libmicrohttpd_has_room_for(self):
        """It asks for 128 events at a time; 127 are given to it."""
        for clients in (126, 127, 128, 129, 254, 256, 384):
            with self.subTest(clients=clients):
                self.assertEqual(set(self.speak_at_once(clients, "GET", "/healthz")), {200})

    def test_the_same_with_uploads(self):
        for clients in (127, 128, 256):
            with self.subTest(clients=clients):
                self.assertEqual(set(self.speak_at_once(clients, "PUT", "/files/crowd.txt", b"one of many")), {201})


if __name__ == "__main__":
    unittest.main()
