"""Idempotency-Key: which requests are the same, what a repeat gets, while the first runs, and after crashes."""

import concurrent.futures
import itertools
import re
import threading
import unittest

import raw_http
from depot_case import BROWSER, PNG, DepotCase, digest_field, on_both_stores, pattern_bytes, wait_until
from depotd_server import seconds
from form_data import field, file

MIB = 1 << 20
numbers = itertools.count()


def fresh_key(label="key"):
    return '"%s-%d"' % (label, next(numbers))


class KeyedCase(DepotCase):
    def keyed(self, key, name="once.txt", data=b"once", query="", headers=(), method="PUT"):
        return self.request(method, "/files/" + name + query, [("Idempotency-Key", key), *headers], data)

    def first(self, key, *arguments, **named):
        response = self.keyed(key, *arguments, **named)
        self.assertEqual(response.status, 201, repr(response))
        return response

    def assert_repeats(self, response, first):
        """The same answer again."""
        self.assertEqual((response.status, response.json()), (first.status, first.json()))
        self.assertEqual(response.headers.get("Location"), first.headers.get("Location"))

    def assert_another(self, response):
        self.assert_refused(response, "Idempotency-Key", "another request", status=422)
        self.assertTrue(response.keeps_alive)

    def repeats(self, result):
        """How many requests with a known key there were, as /metrics counts them."""
        metric = r'(?m)^depotd_repeats_total\{result="%s"\} (\d+)' % result
        return int(re.search(metric, self.server.request("GET", "/metrics").text()).group(1))

    def wait_for_waiting(self, n, before):
        wait_until(lambda: self.repeats("waited") - before >= n, "%d requests wait for the first one" % n)

    def begin(self, key, data, sent, name="once.txt", headers=()):
        """A PUT of which `sent` bytes have left; the server has seen its header when this returns."""
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/" + name, [
            ("Idempotency-Key", key), ("Content-Length", str(len(data))), ("Expect", "100-continue"), *headers]))
        self.assertEqual(connection.read_head().status, 100)
        connection.send(data[:sent])
        return connection

    def send_whole(self, key, data, name="once.txt", headers=()):
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/" + name, [("Idempotency-Key", key), *headers], data))
        return connection

    def named(self, name):
        return [entry["id"] for entry in self.all_files("&name=" + name)]


class KeySyntax(KeyedCase):
    def test_a_word_and_a_string_are_the_same_key(self):
        first = self.first("8e03978e-40d5-43dd-bc93-6894a57f9324")
        self.assert_repeats(self.keyed('"8e03978e-40d5-43dd-bc93-6894a57f9324"'), first)
        self.assert_repeats(self.keyed(' "8e03978e-40d5-43dd-bc93-6894a57f9324";v=1 '), first)

    def test_keys_have_1_to_255_characters(self):
        for key in ('"x"', "y", '"%s"' % ("k" * 255), "w" * 255, '"%s"' % ('\\"' * 255), '" "', '"a, b"', "YWJj+/8="):
            first = self.first(key)
            with self.stores_nothing():
                self.assert_repeats(self.keyed(key), first)

    def test_a_malformed_key_is_400_and_stores_nothing(self):
        with self.stores_nothing():
            for key in ("", '""', '"', '"open', 'a b', "a, b", '"a", "b"', '"a" b', '"a";', '"\\x"', "a;b", '"%s"' % ("k" * 256),
                        "k" * 256, '"ä"', "ä", ":YWJj:, 1"):
                self.assert_refused(self.keyed(key.encode("utf-8").decode("latin-1")), "Idempotency-Key")

    def test_a_repeated_field_is_400(self):
        with self.stores_nothing():
            headers = [("Idempotency-Key", '"a"'), ("Idempotency-Key", '"a"')]
            self.assert_refused(self.request("PUT", "/files/x", headers, b"x"), "Idempotency-Key")
            self.assert_refused(self.post([file("a", "a.txt")], headers=headers), "Idempotency-Key")

    def test_a_request_without_a_key_is_never_a_repeat(self):
        self.assertNotEqual(self.put("plain.txt", b"x")["id"], self.put("plain.txt", b"x")["id"])


@on_both_stores
class SameRequests(KeyedCase):
    def test_a_repeat_in_chunks_is_the_same_request(self):
        key, data = fresh_key(), pattern_bytes(300_000)
        first = self.first(key, data=data)
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/once.txt",
                                                [("Idempotency-Key", key), ("Transfer-Encoding", "chunked")]))
        connection.send(raw_http.chunked(raw_http.in_pieces(data, 70_000)))
        with self.stores_nothing():
            self.assert_repeats(self.check(connection.read_response()), first)

    def test_a_form_with_another_boundary_is_the_same_request(self):
        headers = [("Idempotency-Key", fresh_key())]
        parts = [field("tags", "a,b"), field("project", "apollo"), file("f", "a.txt"), file("f", "b.txt", b"other")]
        first = self.post(parts, headers=headers)
        self.assertEqual(first.status, 201, repr(first))
        with self.stores_nothing():
            self.assert_repeats(self.post(parts, headers=headers, boundary="another-boundary"), first)
            self.assert_repeats(self.post(parts, headers=headers, target="/"), first)
            # The labels may stand anywhere.
            self.assert_repeats(self.post(parts[2:] + parts[:2], headers=headers), first)

    def test_a_repeat_of_a_browser_s_form_goes_back_to_the_page_and_stores_nothing(self):
        headers = [("Idempotency-Key", fresh_key()), *BROWSER.items()]
        parts = [file("f", "browser.txt")]
        self.assertEqual(self.post(parts, headers=headers).status, 303)
        with self.stores_nothing():
            self.assertEqual(self.post(parts, headers=headers).status, 303)

    def test_the_order_of_the_query_and_an_ignored_content_type_make_no_difference(self):
        key = fresh_key()
        first = self.first(key, "p.png", PNG, "?tags=a&attr.x=1&attr.y=2")
        with self.stores_nothing():
            self.assert_repeats(self.keyed(key, "p.png", PNG, "?attr.y=2&attr.x=1&tags=a", [("Content-Type", "image/png")]), first)

    def test_empty_files_have_repeats_too(self):
        key = fresh_key()
        first = self.first(key, data=b"")
        with self.stores_nothing():
            self.assert_repeats(self.keyed(key, data=b""), first)

    def test_a_large_file_is_stored_once(self):
        key, data = fresh_key(), pattern_bytes(5 * MIB)
        first = self.first(key, "large.bin", data)
        with self.stores_nothing():
            self.assert_repeats(self.keyed(key, "large.bin", data), first)
        self.assertEqual(self.content(first.json()), data)

    def test_a_client_that_never_read_its_answer_gets_it_when_it_asks_again(self):
        key = fresh_key()
        connection = self.send_whole(key, b"unread", "unread.txt")
        wait_until(lambda: self.named("unread.txt"), "the file is stored")
        connection.reset()
        response = self.keyed(key, "unread.txt", b"unread")
        self.assertEqual((response.status, [response.json()["id"]]), (201, self.named("unread.txt")))


@on_both_stores
class FirstAnswers(KeyedCase):
    def test_a_repeat_gets_the_first_answer_after_the_file_was_changed(self):
        key = fresh_key()
        first = self.first(key, query="?tags=early&attr.n=1")
        self.assertEqual(self.patch(first.json()["id"], {"name": "renamed.txt", "tags": []}).status, 200)
        with self.stores_nothing():
            self.assert_repeats(self.keyed(key, query="?tags=early&attr.n=1"), first)

    def test_a_repeat_gets_the_first_answer_after_the_file_was_removed(self):
        key = fresh_key()
        first = self.first(key)
        self.assertEqual(self.request("DELETE", first.headers["Location"]).status, 204)
        with self.stores_nothing():
            self.assert_repeats(self.keyed(key), first)
        self.assertEqual(self.get(first.headers["Location"]).status, 404)

    def test_a_request_that_was_refused_leaves_its_key_free(self):
        key = fresh_key()
        with self.stores_nothing():
            wrong = [("Repr-Digest", digest_field(b"something else"))]
            self.assert_refused(self.keyed(key, headers=wrong))
            self.assert_refused(self.keyed(key, query="?visibility=secret"))
            self.assert_refused(self.post([field("only", "text")], headers=[("Idempotency-Key", key)]))
        self.first(key)

    def test_a_refusal_of_a_repeat_leaves_the_first_answer_alone(self):
        key = fresh_key()
        first = self.first(key)
        self.assert_refused(self.keyed(key, headers=[("Repr-Digest", digest_field(b"something else"))]))
        self.assert_repeats(self.keyed(key), first)


@on_both_stores
class OtherRequests(KeyedCase):
    """The same key with another request is 422."""

    def test_other_bytes_name_labels_or_method_are_another_request(self):
        key = fresh_key()
        first = self.first(key, "a.txt", b"aaaa", "?tags=a&attr.x=1")
        with self.stores_nothing():
            self.assert_another(self.keyed(key, "a.txt", b"aaab", "?tags=a&attr.x=1"))
            self.assert_another(self.keyed(key, "a.txt", b"", "?tags=a&attr.x=1"))
            self.assert_another(self.keyed(key, "b.txt", b"aaaa", "?tags=a&attr.x=1"))
            self.assert_another(self.keyed(key, "a.txt", b"aaaa", "?attr.x=1"))
            self.assert_another(self.keyed(key, "a.txt", b"aaaa", "?tags=a&attr.x=2"))
            self.assert_another(self.keyed(key, "a.txt", b"aaaa", "?tags=a&attr.x=1&visibility=public"))
            self.assert_another(self.keyed(key, "a.txt", b"aaaa", "?tags=a&attr.x=1&expires_in=1h"))
            self.assert_another(self.post([field("tags", "a"), field("x", "1"), file("f", "a.txt", b"aaaa", "text/plain")],
                                          headers=[("Idempotency-Key", key)]))
        self.assert_repeats(self.keyed(key, "a.txt", b"aaaa", "?tags=a&attr.x=1"), first)

    def test_another_number_or_order_of_files_is_another_request(self):
        headers = [("Idempotency-Key", fresh_key())]
        parts = [file("f", "a.txt"), file("f", "b.txt")]
        first = self.post(parts, headers=headers)
        self.assertEqual(first.status, 201)
        with self.stores_nothing():
            self.assert_another(self.post(parts[:1], headers=headers))
            self.assert_another(self.post(parts[::-1], headers=headers))
            self.assert_another(self.post(parts + parts[:1], headers=headers))
        self.assert_repeats(self.post(parts, headers=headers), first)

    def test_another_type_of_the_same_bytes_is_another_request(self):
        key = fresh_key()
        self.first(key, "data", b"\x01\x02", headers=[("Content-Type", "application/x-one")])
        with self.stores_nothing():
            self.assert_another(self.keyed(key, "data", b"\x01\x02", headers=[("Content-Type", "application/x-two")]))


@on_both_stores
class RepeatsOfARunningRequest(KeyedCase):
    settings = {"server.workers": "4"}
    DATA = pattern_bytes(200_000)

    def test_a_repeat_waits_for_the_first_and_gets_its_answer(self):
        key, before = fresh_key(), self.repeats("waited")
        first = self.begin(key, self.DATA, 1000, "waits.bin")
        repeat = self.send_whole(key, self.DATA, "waits.bin")
        self.wait_for_waiting(1, before)
        self.assertTrue(repeat.is_open() and not repeat.buffer)
        self.assertEqual(self.named("waits.bin"), [])
        first.send(self.DATA[1000:])
        answers = [self.check(connection.read_response()) for connection in (first, repeat)]
        self.assertEqual(answers[0].status, 201)
        self.assert_repeats(answers[1], answers[0])
        self.assertEqual(self.named("waits.bin"), [answers[0].json()["id"]])
        wait_until(lambda: not self.open_temporaries(), "the repeat's bytes are gone")

    def test_those_who_wait_hold_no_worker(self):
        key, before = fresh_key(), self.repeats("waited")
        first = self.begin(key, self.DATA, 1, "crowd.bin")
        waiting = [self.send_whole(key, self.DATA, "crowd.bin") for _ in range(20)]
        self.wait_for_waiting(20, before)
        self.assertEqual(self.content(self.put("beside.txt", b"beside")), b"beside")
        first.send(self.DATA[1:])
        ids = {self.check(connection.read_response()).json()["id"] for connection in [first, *waiting]}
        self.assertEqual(list(ids), self.named("crowd.bin"))

    def test_when_the_first_one_s_client_goes_away_a_repeat_takes_its_place(self):
        key, before = fresh_key(), self.repeats("waited")
        first = self.begin(key, self.DATA, 100_000, "dies.bin")
        waiting = [self.send_whole(key, self.DATA, "dies.bin") for _ in range(3)]
        self.wait_for_waiting(3, before)
        first.reset()
        answers = [self.check(connection.read_response()) for connection in waiting]
        self.assertEqual([answer.status for answer in answers], [201] * 3)
        self.assertEqual(self.named("dies.bin"), [answers[0].json()["id"]])
        for answer in answers[1:]:
            self.assert_repeats(answer, answers[0])
        wait_until(lambda: not self.open_temporaries(), "the bytes of all others are gone")

    def test_when_the_first_one_is_refused_a_repeat_takes_its_place(self):
        key, before = fresh_key(), self.repeats("waited")
        first = self.begin(key, self.DATA, 1, "refused.bin", [("Repr-Digest", digest_field(b"something else"))])
        repeat = self.send_whole(key, self.DATA, "refused.bin")
        self.wait_for_waiting(1, before)
        first.send(self.DATA[1:])
        self.assert_refused(self.check(first.read_response()))
        answer = self.check(repeat.read_response())
        self.assertEqual((answer.status, [answer.json()["id"]]), (201, self.named("refused.bin")))

    def test_a_repeat_that_still_sends_takes_the_place_of_a_first_one_that_died(self):
        key = fresh_key()
        first = self.begin(key, self.DATA, 10, "slow.bin")
        repeat = self.begin(key, self.DATA, 10, "slow.bin")
        first.reset()
        repeat.send(self.DATA[10:])
        answer = self.check(repeat.read_response())
        self.assertEqual((answer.status, [answer.json()["id"]]), (201, self.named("slow.bin")))

    def test_a_client_that_goes_away_while_it_waits_changes_nothing(self):
        key, before = fresh_key(), self.repeats("waited")
        first = self.begin(key, self.DATA, 1, "left.bin")
        self.send_whole(key, self.DATA, "left.bin").reset()
        gone = self.send_whole(key, self.DATA, "left.bin")
        self.wait_for_waiting(1, before)
        gone.reset()
        first.send(self.DATA[1:])
        answer = self.check(first.read_response())
        self.assertEqual((answer.status, [answer.json()["id"]]), (201, self.named("left.bin")))
        self.assert_repeats(self.keyed(key, "left.bin", self.DATA), answer)

    def test_another_request_with_the_key_is_422_once_the_first_was_answered(self):
        key, before = fresh_key(), self.repeats("waited")
        first = self.begin(key, self.DATA, 1, "mine.bin")
        other = self.send_whole(key, b"other bytes", "mine.bin")
        self.wait_for_waiting(1, before)
        first.send(self.DATA[1:])
        self.assertEqual(self.check(first.read_response()).status, 201)
        self.assert_another(self.check(other.read_response()))

    def test_another_request_with_the_key_is_taken_when_the_first_died(self):
        key, before = fresh_key(), self.repeats("waited")
        first = self.begin(key, self.DATA, 1, "theirs.bin")
        other = self.send_whole(key, b"other bytes", "theirs.bin")
        self.wait_for_waiting(1, before)
        first.reset()
        answer = self.check(other.read_response())
        self.assertEqual((answer.status, answer.json()["size"]), (201, 11))

    def test_of_32_identical_requests_at_once_one_is_stored(self):
        key, gate = fresh_key(), threading.Barrier(32)

        def send(_):
            connection = self.connect()
            gate.wait(seconds(30))
            connection.send(raw_http.encode_request("PUT", "/files/many.bin", [("Idempotency-Key", key)], self.DATA))
            return self.check(connection.read_response())

        with concurrent.futures.ThreadPoolExecutor(32) as threads:
            answers = list(threads.map(send, range(32)))
        self.assertEqual({answer.status for answer in answers}, {201})
        self.assertEqual(self.named("many.bin"), [answers[0].json()["id"]])
        for answer in answers[1:]:
            self.assert_repeats(answer, answers[0])

    def test_a_crowd_of_keys_and_of_clients_that_die_stores_each_once(self):
        """Eight clients for each of twelve keys; every third one is cut off in the middle of its body."""
        keys = [fresh_key("crowd") for _ in range(12)]

        def send(i):
            number = i % 12
            request = raw_http.encode_request("PUT", "/files/crowd-%d" % number, [("Idempotency-Key", keys[number])],
                                              self.DATA[:20_000])
            connection = self.connect()
            if i % 3 == 0 and i >= 12:
                connection.send(request[:10_000])
                connection.reset()
                return None
            connection.send(request)
            return number, self.check(connection.read_response())

        with concurrent.futures.ThreadPoolExecutor(24) as threads:
            answers = [answer for answer in threads.map(send, range(96)) if answer]
        for number in range(12):
            mine = [answer for n, answer in answers if n == number]
            self.assertEqual({answer.status for answer in mine}, {201})
            self.assertEqual({answer.json()["id"] for answer in mine}, set(self.named("crowd-%d" % number)))
            self.assertEqual(len(self.named("crowd-%d" % number)), 1)


class RepeatsOfASlowRequest(KeyedCase):
    settings = {"server.idle_timeout": "500ms"}

    def test_a_repeat_waits_no_longer_than_the_first_may_be_silent(self):
        key, data, before = fresh_key(), pattern_bytes(100_000), self.repeats("waited")
        self.begin(key, data, 10, "silent.bin")
        repeat = self.send_whole(key, data, "silent.bin")
        self.wait_for_waiting(1, before)
        answer = self.check(repeat.read_response())
        self.assertEqual((answer.status, [answer.json()["id"]]), (201, self.named("silent.bin")))


@on_both_stores
class RepeatsAfterTheServerEnded(KeyedCase):
    def again(self, end):
        end()
        self._drop_connection()
        self.server.start()

    def test_a_repeat_after_a_crash_gets_the_first_answer(self):
        with self.own_server() as server:
            key, form_key = fresh_key(), [("Idempotency-Key", fresh_key())]
            first = self.first(key, "crash.txt", query="?tags=x&attr.a.b=c")
            form = self.post([file("a", "a.txt"), file("b", "b.txt", b"b")], headers=form_key)
            for end in (server.kill, server.stop):
                self.again(end)
                with self.stores_nothing():
                    self.assert_repeats(self.keyed(key, "crash.txt", query="?tags=x&attr.a.b=c"), first)
                    self.assert_repeats(self.post([file("a", "a.txt"), file("b", "b.txt", b"b")], headers=form_key), form)
                    self.assert_another(self.keyed(key, "crash.txt"))

    def test_a_request_that_a_crash_ended_may_be_sent_again(self):
        with self.own_server() as server:
            key, data = fresh_key(), pattern_bytes(300_000)
            first = self.begin(key, data, 200_000, "cut.bin")
            self.send_whole(key, data, "cut.bin")
            self.again(server.kill)
            first.close()
            answer = self.first(key, "cut.bin", data)
            self.assertEqual(self.named("cut.bin"), [answer.json()["id"]])

    def test_crashes_in_the_middle_of_a_crowd_store_each_key_once(self):
        """Whatever was answered before a kill -9, and whatever was not, is one file after everybody has asked again."""
        with self.own_server() as server:
            keys = [fresh_key("killed") for _ in range(40)]
            told = {}

            def send(i):
                try:
                    with raw_http.Connection(self.address, deadline=seconds(20)) as connection:
                        connection.send(raw_http.encode_request("PUT", "/files/killed-%d" % i, [("Idempotency-Key", keys[i])],
                                                                b"%d" % i * 1000))
                        answer = connection.read_response()
                        return i, answer.json()["id"] if answer.status == 201 else None
                except (raw_http.ProtocolError, OSError):
                    return i, None

            for round in range(4):
                with concurrent.futures.ThreadPoolExecutor(16) as threads:
                    sent = [threads.submit(send, i) for i in range(40)]
                    if round < 3:
                        for done in itertools.islice(concurrent.futures.as_completed(sent), 10 * round + 3):
                            done.result()
                        server.process.kill()
                for i, id in (future.result() for future in sent):
                    if id is not None:
                        self.assertEqual(told.setdefault(i, id), id)
                if round < 3:
                    self.again(server.kill)
            self.assertEqual(len(told), 40)
            for i in range(40):
                self.assertEqual(self.named("killed-%d" % i), [told[i]])

    def test_a_stop_ends_those_who_wait(self):
        with self.own_server({"server.drain_timeout": "200ms"}) as server:
            key, data, before = fresh_key(), pattern_bytes(100_000), self.repeats("waited")
            self.begin(key, data, 10)
            for _ in range(3):
                self.send_whole(key, data)
            self.wait_for_waiting(3, before)
            self._drop_connection()
            server.stop()


@on_both_stores
class OldKeys(KeyedCase):
    settings = {"limits.idempotency_ttl": "1s", "storage.grace": "1s"}

    def test_the_sweep_forgets_keys_after_their_time(self):
        key = fresh_key()
        first = self.first(key)
        wait_until(lambda: self.keyed(key).json()["id"] != first.json()["id"], "the key is free again", timeout=30)


if __name__ == "__main__":
    unittest.main()
