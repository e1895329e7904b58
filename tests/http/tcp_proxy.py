"""A TCP proxy that can turn into a black hole: what a network does that the ends cannot tell from a peer that thinks for long.

    with TcpProxy(("127.0.0.1", 5433)) as proxy:
        connect(proxy.port)
        proxy.swallow()     # nothing passes any more, nothing is closed; who connects is not refused and never answered
        proxy.forward()     # everything passes again, what was under way included, as after lost packets were sent again
        proxy.refuse()      # every connection is reset, and who connects is refused

One thread. Nothing is read while swallowing, so bytes wait where a network's lost packets would: with their sender.
"""
import os
import selectors
import socket
import struct
import threading

from postgres_cluster import free_port

CHUNK = 1 << 16


class _End:
    """One end of a connection: what is read here is written to its peer."""

    def __init__(self, sock):
        self.sock = sock
        self.peer = None
        self.out = bytearray()  # still to be written here
        self.over = False       # the peer has nothing more to say


class TcpProxy:
    def __init__(self, target, host="127.0.0.1", port=0):
        self.target = target
        self.mode = "forward"
        self._lock = threading.Lock()
        self._ends = set()
        self._listener = None
        self.host = host
        self._listen(port or free_port())
        self.port = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = os.pipe()
        self._changed = threading.Condition(self._lock)
        self._wanted, self._stop = "forward", False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def forward(self):
        self._set("forward")

    def swallow(self):
        self._set("swallow")

    def refuse(self):
        self._set("refuse")

    def close(self):
        with self._lock:
            self._stop = True
        os.write(self._wake_write, b"x")
        self._thread.join()
        for end in list(self._ends):
            self._end(end, reset=True)
        if self._listener is not None:
            self._listener.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _set(self, mode):
        """Returns when it is so."""
        with self._changed:
            self._wanted = mode
            os.write(self._wake_write, b"x")
            self._changed.wait_for(lambda: self.mode == mode or not self._thread.is_alive())

    def _listen(self, port):
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.host, port))
        self._listener.listen(128)
        self._listener.setblocking(False)

    def _change(self, mode):
        if mode == "refuse":
            self._listener.close()
            self._listener = None
            for end in list(self._ends):
                self._end(end, reset=True)
        elif self._listener is None:
            self._listen(self.port)
        with self._changed:
            self.mode = mode
            self._changed.notify_all()

    def _run(self):
        while True:
            with self._lock:
                wanted, stop = self._wanted, self._stop
            if stop:
                return
            if wanted != self.mode:
                self._change(wanted)
            self._wait_and_move()

    def _wait_and_move(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ, None)
            if self.mode == "forward":
                selector.register(self._listener, selectors.EVENT_READ, None)
                for end in self._ends:
                    events = (selectors.EVENT_READ if len(end.peer.out) < CHUNK and not end.peer.over else 0) | \
                             (selectors.EVENT_WRITE if end.out else 0)
                    if events:
                        selector.register(end.sock, events, end)
            for key, events in selector.select():
                if key.fileobj == self._wake_read:
                    os.read(self._wake_read, 100)
                elif key.fileobj is self._listener:
                    self._accept()
                elif key.data in self._ends:
                    self._move(key.data, events)

    def _accept(self):
        try:
            client = self._listener.accept()[0]
        except OSError:
            return
        try:
            server = socket.create_connection(self.target, 10)
        except OSError:
            client.close()
            return
        ends = [_End(client), _End(server)]
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        for end in ends:
            end.sock.setblocking(False)
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends.add(end)

    def _move(self, end, events):
        try:
            if events & selectors.EVENT_READ:
                data = end.sock.recv(CHUNK)
                end.peer.out += data
                end.peer.over = not data
                self._write(end.peer)
            if events & selectors.EVENT_WRITE:
                self._write(end)
        except BlockingIOError:
            pass
        except OSError:
            self._end(end)

    def _write(self, end):
        while end.out:
            try:
                del end.out[:end.sock.send(end.out)]
            except BlockingIOError:
                return
        if end.over:  # PostgreSQL's protocol has no half-closed connections
            self._end(end)

    def _end(self, end, reset=False):
        for one in (end, end.peer):
            if one in self._ends:
                self._ends.discard(one)
                if reset:
                    one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.sock.close()
