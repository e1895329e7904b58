"""The life of the daemon: ready line, listeners, socket activation, sd_notify, reloading, draining, and what keeps it from starting."""
import os
import signal
import socket
import stat
import sys
import tempfile
import unittest

from depot_case import wait_until
from depotd_server import DepotdServer, run_depotd, seconds

# Puts an inherited descriptor at 3 and tells the program that it is meant, as systemd does; then becomes the program.
PASS_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class RunningUpload:
    """A PUT whose header the server has answered with 100, and half of whose body it has."""

    def __init__(self, server, name="slow.txt"):
        self.socket = server.connect()
        self.socket.sendall(b"PUT /files/%s HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
                            % name.encode())
        assert self.socket.recv(100).startswith(b"HTTP/1.1 100"), "no 100 Continue"
        self.socket.sendall(b"01234")

    def finish(self):
        """Sends the rest; the whole answer."""
        self.socket.sendall(b"56789")
        answer = b""
        while chunk := self.socket.recv(65536):
            answer += chunk
        return answer

    def close(self):
        self.socket.close()


class Lifecycle(unittest.TestCase):
    def test_the_ready_line_names_the_port_that_was_taken(self):
        with DepotdServer() as server:
            self.assertRegex(server.stderr, r"(?m)^depotd: listening on http://127\.0\.0\.1:%d/$" % server.port)
            self.assertEqual(server.request("GET", "/healthz").status, 200)

    def test_it_listens_on_several_addresses_of_both_families(self):
        with DepotdServer(listen=["127.0.0.1:0", "[::1]:0", "localhost:0"]) as server:
            self.assertGreaterEqual(len(server.addresses), 3)
            for host, port in server.addresses:
                with socket.create_connection((host, port), seconds(10)) as connection:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                    self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 200"))

    def test_the_data_directory_is_made_for_the_owner_alone(self):
        with DepotdServer() as server:
            self.assertEqual(stat.S_IMODE(os.stat(server.data_dir).st_mode), 0o700)
            server.put("a.txt", b"a")
            for path in server.stored_files():
                self.assertEqual(stat.S_IMODE(os.stat(os.path.join(server.data_dir, path)).st_mode), 0o600)

    def test_what_was_stored_is_there_after_a_restart(self):
        with DepotdServer() as server:
            file = server.put("a.txt", b"hello")
            server.stop()
            server.start()
            self.assertEqual(server.request("GET", file["url"]).body, b"hello")

    def test_what_was_answered_is_there_after_kill_9(self):
        with DepotdServer() as server:
            file = server.put("a.txt", b"hello")
            server.kill()
            server.start()
            self.assertEqual(server.request("GET", file["url"]).body, b"hello")

    # --- what keeps it from starting ---

    def test_a_second_daemon_on_the_same_data_directory_is_refused(self):
        with DepotdServer() as server:
            second = run_depotd("serve", "--listen", "127.0.0.1:0", "--data-dir", server.data_dir, "--database", server.database)
            self.assertEqual(second.returncode, 1)
            self.assertEqual(second.stderr, "depotd: another depotd serves %s\n" % server.data_dir)

    def test_an_address_that_is_taken_ends_the_start_with_1_and_is_named(self):
        with DepotdServer() as server, tempfile.TemporaryDirectory() as directory:
            address = "127.0.0.1:%d" % server.port
            second = run_depotd("serve", "--listen", address, "--data-dir", os.path.join(directory, "data"))
            self.assertEqual(second.returncode, 1)
            self.assertEqual(second.stderr.count("\n"), 1, second.stderr)
            self.assertIn(address, second.stderr)
            self.assertIn("Address already in use", second.stderr)

    def test_require_mount_refuses_a_directory_on_the_root_file_system(self):
        with tempfile.TemporaryDirectory(dir=os.path.expanduser("~")) as directory:
            result = run_depotd("serve", "--listen", "127.0.0.1:0", "--data-dir", directory, "--storage.require_mount", "on")
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr, r"^depotd: [^\n]*%s[^\n]*\n$" % directory)
            self.assertEqual(os.listdir(directory), [])

    # --- stopping ---

    def assert_refuses_connections(self, server):
        """Soon: the listening socket is closed after the line is logged; who is in its queue then is reset."""
        def refused():
            try:
                server.connect().close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass
            return False
        wait_until(refused, "connections are refused")

    def test_sigterm_lets_a_running_upload_finish_and_takes_no_new_connection(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), DepotdServer() as server:
                upload = RunningUpload(server)
                server.signal(number)
                server.wait_for_stderr("stopping")
                self.assert_refuses_connections(server)
                answer = upload.finish()
                self.assertTrue(answer.startswith(b"HTTP/1.1 201"), answer)
                self.assertIn(b"Connection: close", answer)
                self.assertEqual(server.wait(), 0)
                server.start()
                self.assertEqual([f["name"] for f in server.request("GET", "/files").json()["files"]], ["slow.txt"])

    def test_idle_connections_do_not_hold_up_the_stop(self):
        with DepotdServer() as server:
            fresh, used = server.connect(), server.http()
            used.request("GET", "/healthz")
            used.getresponse().read()
            server.stop(timeout=20)
            fresh.close()
            used.close()

    def test_an_upload_that_outlasts_the_drain_is_ended_and_leaves_nothing(self):
        with DepotdServer(flags=["--server.drain_timeout", "200ms"]) as server:
            before = server.stored_files()
            upload = RunningUpload(server)
            server.stop()
            upload.close()
            self.assertEqual(server.stored_files(), before)

    def test_a_second_signal_ends_it_at_once(self):
        with DepotdServer() as server:
            upload = RunningUpload(server)
            server.signal(signal.SIGTERM)
            server.wait_for_stderr("stopping")
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(timeout=20), 1)
            upload.close()

    def test_sigpipe_of_a_client_that_left_is_survived(self):
        with DepotdServer() as server:
            file = server.put("big.bin", os.urandom(4 << 20))
            for _ in range(5):
                connection = server.connect()
                connection.sendall(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % file["url"].encode())
                connection.recv(10)
                connection.close()
            self.assertEqual(server.request("GET", "/healthz").status, 200)

    # --- reloading ---

    def test_sighup_takes_over_what_may_change_and_names_what_may_not(self):
        with DepotdServer() as server:
            path = os.path.join(server.directory, "depotd.conf")
            with open(path, "w", encoding="utf-8") as file:
                file.write("[log]\nlevel = info\n")
            server.flags = ["--config", path]
            server.stop()
            server.start()
            with open(path, "w", encoding="utf-8") as file:
                file.write("[log]\nlevel = error\n[server]\nworkers = 3\n")
            server.signal(signal.SIGHUP)
            server.wait_for_stderr(r"server\.workers has changed: it takes a restart")
            with open(path, "w", encoding="utf-8") as file:
                file.write("[log]\nlevel = loud\n")
            server.signal(signal.SIGHUP)
            server.wait_for_stderr(r"configuration not re-read, the old one stays: .*depotd\.conf:2: log\.level")
            self.assertEqual(server.request("GET", "/healthz").status, 200)


class SocketActivation(unittest.TestCase):
    def activated(self, listener, **more):
        return DepotdServer(pass_fds=[listener.fileno()], listen="192.0.2.1:1",
                            wrapper=[sys.executable, "-c", PASS_SOCKET, str(listener.fileno())], **more)

    def test_an_inherited_socket_takes_the_place_of_the_configured_addresses(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with self.activated(listener) as server:
                self.assertEqual(server.addresses, [listener.getsockname()])
                self.assertEqual(server.request("GET", "/healthz").status, 200)

    def test_an_inherited_socket_survives_a_restart_without_refusing_anyone(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with self.activated(listener) as server:
                server.stop()
                with socket.create_connection(listener.getsockname(), seconds(20)) as waiting:
                    waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                    server.start()
                    self.assertTrue(waiting.recv(100).startswith(b"HTTP/1.1 200"))

    def test_an_inherited_socket_beyond_loopback_needs_the_access_mode_too(self):
        with socket.create_server(("0.0.0.0", 0)) as listener:
            with self.activated(listener, start=False) as server:
                self.assertEqual(server.start(ready=False).wait(), 1)
                self.assertIn("an inherited socket can be reached from other machines", server.stderr)

    def test_an_inherited_descriptor_that_does_not_listen_is_refused(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            with self.activated(datagram, start=False) as server:
                self.assertEqual(server.start(ready=False).wait(), 1)
                self.assertIn("no listening TCP socket", server.stderr)


class Notification(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="depotd-notify-")
        self.path = os.path.join(self.directory.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(seconds(20))

    def tearDown(self):
        self.socket.close()
        self.directory.cleanup()

    def messages_until(self, wanted):
        seen = []
        while not any(wanted in message for message in seen):
            seen.append(self.socket.recv(4096).decode().split("\n"))
        return seen[-1]

    def test_readiness_reloading_and_stopping_are_told_to_systemd(self):
        with DepotdServer(environment={"NOTIFY_SOCKET": self.path}) as server:
            ready = self.messages_until("READY=1")
            self.assertIn("STATUS=listening on 127.0.0.1:%d" % server.port, ready)
            server.signal(signal.SIGHUP)
            reloading = self.messages_until("RELOADING=1")
            self.assertTrue(any(line.startswith("MONOTONIC_USEC=") for line in reloading))
            self.messages_until("READY=1")
            server.signal(signal.SIGTERM)
            self.messages_until("STOPPING=1")
            self.assertEqual(server.wait(), 0)

    def test_the_watchdog_is_pinged_while_requests_are_served(self):
        with DepotdServer(environment={"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": str(int(seconds(1) * 1000000))}):
            for _ in range(3):
                self.messages_until("WATCHDOG=1")


if __name__ == "__main__":
    unittest.main()
