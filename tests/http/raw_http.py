"""A small, strict HTTP/1.1 client that sends exactly the bytes it is given.

Ordinary clients repair what they send and forgive what they read. This one does neither: it sends any bytes in any
pieces, pipelines, half-closes, sends slowly, reads while it sends, and raises ProtocolError on an answer that is not
framed as RFC 9112 wants it. Every wait has a deadline.
"""

import json
import re
import select
import socket
import time

DEADLINE = 20.0  # seconds that any single answer may take
HEAD_MAX = 256 * 1024
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9]{2}) ?([\t\x20-\x7e\x80-\xff]*)\Z")


class ProtocolError(Exception):
    """The server's bytes are no valid HTTP/1.1 answer, or they did not come in time."""


class ConnectionEnded(ProtocolError):
    """The server ended the connection where an answer was due; `got` is what had come until then."""

    def __init__(self, message, got=b""):
        super().__init__(message)
        self.got = got


class Headers:
    """Header fields in their order; names compare without regard to case."""

    def __init__(self, pairs=()):
        self.pairs = list(pairs)

    def get_all(self, name):
        return [value for key, value in self.pairs if key.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def __getitem__(self, name):
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name):
        return bool(self.get_all(name))

    def __iter__(self):
        return iter(self.pairs)

    def __repr__(self):
        return repr(self.pairs)


class Response:
    def __init__(self, version, status, reason, headers):
        self.version = version
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = b""
        self.trailers = Headers()
        self.interim = []  # the 1xx answers before it

    def json(self):
        return json.loads(self.body.decode("utf-8", "strict"))

    @property
    def text(self):
        return self.body.decode("utf-8", "strict")

    @property
    def media_type(self):
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()

    @property
    def keeps_alive(self):
        options = self.headers.get("Connection", "").lower()
        if self.version == "1.0":
            return "keep-alive" in options
        return "close" not in options

    def __repr__(self):
        return "<%d %s %r %r>" % (self.status, self.reason, self.headers.pairs, self.body[:400])


def parse_head(head):
    lines = head.split(b"\r\n")
    match = STATUS_LINE.match(lines[0])
    if not match:
        raise ProtocolError("status line %r" % lines[0])
    return Response(match[1].decode(), int(match[2]), match[3].decode("latin-1"), parse_fields(lines[1:]))


def parse_fields(lines):
    pairs = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name):
            raise ProtocolError("header line %r" % line)
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise ProtocolError("control in header line %r" % line)
        pairs.append((name.decode("ascii"), value.strip(b" \t").decode("latin-1")))
    return Headers(pairs)


def encode_request(method, target, headers=(), body=None, host="depot.example", version="1.1"):
    """A request's bytes. Host and Content-Length are added where they are missing; nothing else is."""
    pairs = list(headers.items() if hasattr(headers, "items") else headers)
    names = {name.lower() for name, _ in pairs}
    if "host" not in names and version == "1.1":
        pairs.insert(0, ("Host", host))
    if body is not None and "content-length" not in names and "transfer-encoding" not in names:
        pairs.append(("Content-Length", str(len(body))))
    lines = [b"%s %s HTTP/%s" % (method.encode(), as_bytes(target), version.encode())]
    lines += [b"%s: %s" % (as_bytes(name), as_bytes(value)) for name, value in pairs]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def as_bytes(text):
    return text if isinstance(text, bytes) else str(text).encode("utf-8")


def chunked(pieces, extension=b"", trailers=b""):
    """The pieces as chunks, the last one included."""
    out = bytearray()
    for piece in pieces:
        if piece:
            out += b"%x%s\r\n%s\r\n" % (len(piece), extension, piece)
    out += b"0\r\n" + trailers + b"\r\n"
    return bytes(out)


def in_pieces(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]


class Connection:
    def __init__(self, address, deadline=DEADLINE, receive_buffer=None):
        """address: (host, port). receive_buffer: a small one makes a reader that lets the server wait."""
        self.deadline = deadline
        self.buffer = bytearray()
        self.ended = False
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(deadline)
            self.socket.connect(address)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the connection by RST, as a crashed or rude client does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    # --- sending ---

    def send(self, data):
        self.socket.settimeout(self.deadline)
        self.socket.sendall(data)

    def send_pieces(self, pieces):
        """Each piece leaves as a segment of its own (TCP_NODELAY is on)."""
        for piece in pieces:
            self.send(piece)

    def finish_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def send_until_answered(self, pieces):
        """Sends piece by piece while nothing is there to be read: how many bytes left. Never waits for the whole body to go."""
        sent = 0
        end = time.monotonic() + self.deadline
        for piece in pieces:
            view = memoryview(piece)
            while view:
                left = end - time.monotonic()
                if left <= 0:
                    raise ProtocolError("neither an answer nor room to send within %g s" % self.deadline)
                readable, writable, _ = select.select([self.socket], [self.socket], [], left)
                if readable:
                    return sent
                if writable:
                    self.socket.settimeout(0)
                    try:
                        n = self.socket.send(view)
                    except BlockingIOError:
                        continue
                    finally:
                        self.socket.settimeout(self.deadline)
                    sent += n
                    view = view[n:]
        return sent

    # --- reading ---

    def _receive(self, end, atmost=256 * 1024):
        """Adds what has come to the buffer; False at the end of the stream. A reset is ConnectionEnded."""
        left = end - time.monotonic()
        if left <= 0:
            raise ProtocolError("no answer within %g s; so far %r" % (self.deadline, bytes(self.buffer[:400])))
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(atmost)
        except socket.timeout:
            raise ProtocolError("no answer within %g s; so far %r" % (self.deadline, bytes(self.buffer[:400]))) from None
        except ConnectionError as error:
            raise ConnectionEnded("the connection was cut: %s" % error, bytes(self.buffer)) from error
        if not data:
            self.ended = True
            return False
        self.buffer += data
        return True

    def _read_until(self, mark, end, ceiling):
        start = 0
        while True:
            at = self.buffer.find(mark, start)
            if at >= 0:
                taken = bytes(self.buffer[:at])
                del self.buffer[:at + len(mark)]
                return taken
            if len(self.buffer) > ceiling:
                raise ProtocolError("more than %d bytes without %r" % (ceiling, mark))
            start = max(0, len(self.buffer) - len(mark) + 1)
            if not self._receive(end):
                raise ConnectionEnded("the connection ended where %r was due" % mark, bytes(self.buffer))

    def _read_exactly(self, n, end):
        while len(self.buffer) < n:
            if not self._receive(end):
                raise ConnectionEnded("the connection ended %d bytes early" % (n - len(self.buffer)), bytes(self.buffer))
        taken = bytes(self.buffer[:n])
        del self.buffer[:n]
        return taken

    def read_head(self, deadline=None):
        """The status line and the fields of the next answer, whatever its status."""
        end = time.monotonic() + (deadline or self.deadline)
        return parse_head(self._read_until(b"\r\n\r\n", end, HEAD_MAX))

    def read(self, n):
        """The next n bytes, whatever they are."""
        return self._read_exactly(n, time.monotonic() + self.deadline)

    def read_body(self, response, method):
        end = time.monotonic() + self.deadline
        lengths = response.headers.get_all("Content-Length")
        codings = response.headers.get_all("Transfer-Encoding")
        if len(lengths) > 1 or (lengths and codings):
            raise ProtocolError("ambiguous framing %r" % response.headers)
        if lengths and not re.fullmatch(r"[0-9]+", lengths[0]):
            raise ProtocolError("Content-Length %r" % lengths[0])
        if method == "HEAD" or response.status in (204, 304):
            if response.status == 204 and (lengths or codings):
                raise ProtocolError("204 with %r" % response.headers)
            return
        if codings:
            if [c.lower() for c in codings] != ["chunked"]:
                raise ProtocolError("Transfer-Encoding %r" % codings)
            response.body = self._read_chunks(response, end)
        elif lengths:
            response.body = self._read_exactly(int(lengths[0]), end)
        else:
            if response.keeps_alive:
                raise ProtocolError("neither a length nor an announced end: %r" % response)
            while self._receive(end):
                pass
            response.body = bytes(self.buffer)
            self.buffer.clear()

    def _read_chunks(self, response, end):
        body = bytearray()
        while True:
            size = self._read_until(b"\r\n", end, 1024).split(b";")[0]
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size):
                raise ProtocolError("chunk size %r" % size)
            if int(size, 16) == 0:
                break
            body += self._read_exactly(int(size, 16), end)
            if self._read_exactly(2, end) != b"\r\n":
                raise ProtocolError("a chunk does not end where it should")
        lines = []
        while True:
            line = self._read_until(b"\r\n", end, HEAD_MAX)
            if not line:
                break
            lines.append(line)
        response.trailers = parse_fields(lines)
        return bytes(body)

    def read_response(self, method="GET", deadline=None):
        """The next final answer; interim ones before it are in its `interim`."""
        interim = []
        while True:
            response = self.read_head(deadline)
            if response.status >= 200:
                break
            interim.append(response)
            if len(interim) > 8:
                raise ProtocolError("no end of interim answers")
        response.interim = interim
        self.read_body(response, method)
        return response

    def exchange(self, method, target, headers=(), body=None, version="1.1"):
        self.send(encode_request(method, target, headers, body, version=version))
        return self.read_response(method)

    def wait_for_end(self, deadline=None):
        """Reads until the server closes (or resets) the connection: what came before. ProtocolError where it stays open."""
        end = time.monotonic() + (deadline or self.deadline)
        try:
            while self._receive(end):
                pass
        except ConnectionEnded:
            self.ended = True
        return bytes(self.buffer)

    def is_open(self):
        """Whether the server still holds the connection: nothing to read, no end."""
        if self.buffer:
            return True
        readable, _, _ = select.select([self.socket], [], [], 0)
        if not readable:
            return True
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except ConnectionError:
            return False
