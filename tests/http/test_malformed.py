"""Requests that RFC 9110 and RFC 9112 call invalid, and a few that are merely hostile.

Each is sent on a connection of its own with a second, well-formed request hidden behind it: what a proxy in front and this server
must never disagree about. Each must be answered with 4xx or 5xx, or closed, within the head's deadline; the hidden request, which
would store a file, must never be executed; and the server must live on. The table is the corpus: a sentence, and the bytes.
"""
import re
import socket
import unittest

from depotd_server import DepotdTestCase, seconds

HIDDEN = (b"PUT /files/smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
CASES = {}


def case(sentence, head, body=HIDDEN):
    """A request whose head ends in an empty line of its own (unless head says otherwise), and what hides behind it."""
    assert sentence not in CASES, sentence
    CASES[sentence] = head + body


def get(*fields, line=b"GET /healthz HTTP/1.1", host=b"Host: h"):
    return b"\r\n".join([line, *([host] if host is not None else []), *fields, b"", b""])


def put(*fields):
    return get(*fields, line=b"PUT /files/carrier HTTP/1.1")


def name_of(byte):
    names = {0: "a NUL", 9: "a tab", 10: "a line feed", 11: "a vertical tab", 12: "a form feed", 13: "a carriage return", 32: "a blank",
             127: "a DEL"}
    return names.get(byte, "byte %02x" % byte if byte < 33 or byte > 126 else "a %s" % {
        '"': "quote", "(": "left parenthesis", ")": "right parenthesis", ",": "comma", "/": "slash", ";": "semicolon",
        "<": "less sign", "=": "equals sign", ">": "greater sign", "?": "question mark", "@": "commercial at",
        "[": "left bracket", "\\": "backslash", "]": "right bracket", "{": "left brace", "}": "right brace", ":": "colon",
        "#": "number sign", "`": "grave accent"}[chr(byte)])


# --- how long the body is ---

LENGTH = b"%d" % len(HIDDEN)
case("both a length and chunked", put(b"Content-Length: " + LENGTH, b"Transfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN)
case("chunked and then a length", put(b"Transfer-Encoding: chunked", b"Content-Length: 4"), b"0\r\n\r\n" + HIDDEN)
case("a length of 0 and chunked", put(b"Content-Length: 0", b"Transfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN)
case("two different lengths", put(b"Content-Length: 0", b"Content-Length: " + LENGTH))
case("two different lengths the other way", put(b"Content-Length: " + LENGTH, b"Content-Length: 0"))
case("the same length twice", put(b"Content-Length: 0", b"Content-Length: 0"))
case("two lengths of different case", put(b"Content-Length: 0", b"content-length: " + LENGTH))
for text, what in {
        b"+5": "a plus", b"-5": "a minus", b"-0": "a minus and zero", b"0x10": "a hexadecimal prefix", b"5, 5": "a list",
        b"5,5": "a list without blank", b"5, 6": "a list of two", b"5 5": "a blank inside", b"5\t5": "a tab inside", b"5;": "a semicolon",
        b"5.0": "a fraction", b"5e1": "an exponent", b"a": "a letter", b"5a": "a trailing letter", b"\"5\"": "quotes", b"'5'": "single quotes",
        b"": "nothing", b",": "a lone comma", b"5,": "a trailing comma", b",5": "a leading comma", b"0 ,0": "a blank before a comma",
        b"9223372036854775808": "two to the 63rd", b"18446744073709551616": "two to the 64th", b"18446744073709551617": "two to the 64th and one",
        b"99999999999999999999999999": "a huge number", b"4294967296000000000000": "a number past 64 bits", b"NaN": "not a number",
        b"\xd9\xa5": "an Arabic digit", b"\xef\xbc\x95": "a full-width digit", b"_5": "an underscore", b"1_0": "an underscore between",
        b"(5)": "parentheses", b"0b1": "a binary prefix", b"5%": "a percent sign", b"0\x0b": "a vertical tab", b"\x0c0": "a form feed"}.items():
    case("a length with " + what, put(b"Content-Length: " + text))
case("a blank before the colon of the length", put(b"Content-Length : " + LENGTH))
case("a tab before the colon of the length", put(b"Content-Length\t: " + LENGTH))
case("a blank before the colon of the coding", put(b"Transfer-Encoding : chunked"), b"0\r\n\r\n" + HIDDEN)
for text, what in {
        b"identity": "identity", b"gzip": "gzip", b"gzip, chunked": "gzip and chunked", b"chunked, gzip": "chunked and gzip",
        b"chunked, chunked": "chunked twice", b"chunked, identity": "chunked and identity", b"identity, chunked": "identity and chunked",
        b"xchunked": "a longer word", b"chunke": "a shorter word", b"chunked;q=1": "a parameter", b"\"chunked\"": "quotes",
        b"'chunked'": "single quotes", b"": "nothing", b"chunked,": "a trailing comma", b",chunked": "a leading comma", b" , chunked": "an empty item",
        b"chunked chunked": "a blank inside", b"chunk ed": "a torn word", b"x": "an unknown word", b"chunked\x0b": "a vertical tab",
        b"\x0cchunked": "a form feed", b"chunked\x00": "a NUL", b"chun\x00ked": "a NUL inside", b"cow": "an animal",
        b"c\xc3\xa9hunked": "an accent", b"chunked\x7f": "a DEL"}.items():
    case("a transfer coding of " + what, put(b"Transfer-Encoding: " + text), b"0\r\n\r\n" + HIDDEN)
case("two transfer codings", put(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), b"0\r\n\r\n" + HIDDEN)
case("two transfer codings the other way", put(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN)
case("chunked twice in two fields", put(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN)
case("chunked in HTTP/1.0", b"PUT /files/carrier HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n" + HIDDEN)
case("chunked in HTTP/1.0 that stays", b"PUT /files/carrier HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
     b"0\r\n\r\n" + HIDDEN)
case("a folded transfer coding", put(b"Transfer-Encoding:\r\n chunked"), b"0\r\n\r\n" + HIDDEN)
case("a folded length", put(b"Content-Length:\r\n 0"))
case("a length folded with a tab", put(b"Content-Length:\r\n\t0"))
case("a length behind a bare line feed", put(b"X: y\nContent-Length: 0"))
case("a coding behind a bare line feed", put(b"X: y\nTransfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN)
case("a coding behind a bare carriage return", put(b"X: y\rTransfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN)
case("a coding with an underscore and a length that differ", put(b"Transfer_Encoding: chunked", b"Content-Length: +0"), b"0\r\n\r\n" + HIDDEN)

# --- chunks ---

CHUNKED = put(b"Transfer-Encoding: chunked")
for text, what in {
        b"x\r\n": "no number", b"-1\r\n": "a minus", b"+1\r\na\r\n0\r\n\r\n": "a plus", b"0x1\r\na\r\n0\r\n\r\n": "a prefix",
        b"\r\n": "no size at all", b" 1\r\na\r\n0\r\n\r\n": "a blank before", b"1 \r\na\r\n0\r\n\r\n": "a blank behind",
        b"\t1\r\na\r\n0\r\n\r\n": "a tab before", b"1\t\r\na\r\n0\r\n\r\n": "a tab behind", b"1\na\r\n0\r\n\r\n": "a bare line feed",
        b"1\r\na\n0\r\n\r\n": "a bare line feed behind the bytes", b"1\r\na\r\n0\n\r\n": "a bare line feed behind the last", b"1\r\na\r\n0\r\n\n": "a bare line feed at the end",
        b"1\ra\r\n0\r\n\r\n": "a bare carriage return", b"1\r\r\na\r\n0\r\n\r\n": "two carriage returns", b"1\r\nab\r\n0\r\n\r\n": "too many bytes",
        b"2\r\na\r\n0\r\n\r\n": "too few bytes", b"1,1\r\na\r\n0\r\n\r\n": "a list", b"1.0\r\na\r\n0\r\n\r\n": "a fraction", b"g\r\n": "a letter past f",
        b"1_0\r\na\r\n0\r\n\r\n": "an underscore", b"ffffffffffffffff\r\na": "all bits set", b"8000000000000000\r\na": "the sign bit set",
        b"10000000000000000\r\n0\r\n\r\n": "65 bits", b"10000000000000001\r\na\r\n0\r\n\r\n": "65 bits that wrap to one",
        b"fffffffffffffffffffffffffff\r\na": "a huge number", b"1;\x00\r\na\r\n0\r\n\r\n": "a NUL in an extension",
        b"1;a=\x01\r\na\r\n0\r\n\r\n": "a control in an extension", b"1;a\nx\r\na\r\n0\r\n\r\n": "a line feed in an extension",
        b"1;a\rx\r\na\r\n0\r\n\r\n": "a carriage return in an extension", b"1;" + b"a" * 5000 + b"\r\na\r\n0\r\n\r\n": "an extension of 5000 bytes",
        b"1;" + b"a" * 70000 + b"\r\na\r\n0\r\n\r\n": "an extension of 70000 bytes", b"1 x\r\na\r\n0\r\n\r\n": "a word behind",
        b"0" * 5000 + b"1\r\na\r\n0\r\n\r\n": "5000 zeros before", b"1\r\na\r\n0\r\nX\r\n\r\n": "a trailer without colon",
        b"1\r\na\r\n0\r\nX : y\r\n\r\n": "a blank in a trailer's name", b"1\r\na\r\n0\r\n X: y\r\n\r\n": "a folded trailer",
        b"1\r\na\r\n0\r\nX: \x01\r\n\r\n": "a control in a trailer", b"1\r\na\r\n0\r\nX: y\n\r\n": "a bare line feed in a trailer",
        b"1\r\na\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n": "5000 trailers", b"1\r\na\r\n0\r\nX: " + b"y" * 20000 + b"\r\n\r\n": "a trailer of 20000 bytes",
        b"1\r\na\r\n\r\n0\r\n\r\n": "an empty line between", b"\xef\xbc\x91\r\na\r\n0\r\n\r\n": "a full-width digit"}.items():
    case("a chunk with " + what, CHUNKED, text + HIDDEN)

# --- names and values of fields ---

for byte in [*range(0, 33), 127, 0x80, 0xc3, 0xff, *b"\"(),/;<=>?@[\\]{}"]:
    if byte != 10:
        case("a field name with %s" % name_of(byte), get(b"X-%c-Y: z" % byte))
for byte in [*range(0, 32), 127]:
    if byte not in (9, 10):
        case("a field value with %s" % name_of(byte), get(b"X: a%cb" % byte))
case("a field without a name", get(b": value"))
case("a field without a colon", get(b"no colon"))
case("a blank before the colon", get(b"X : y"))
case("a folded field", get(b"X: y\r\n z"))
case("a field folded with a tab", get(b"X: y\r\n\tz"))
case("a first field that begins with a blank", get(b"X: y", host=b" Host: h"))
case("a field that begins with a tab", get(b"\tX: y"))
case("a line of blanks among the fields", get(b"X: y\r\n   "))
case("a bare line feed between fields", get(b"X: y\nZ: w"))
case("a bare line feed inside a value", get(b"X: a\nb"))
case("only bare line feeds", b"GET /healthz HTTP/1.1\nHost: h\n\n")
case("a bare line feed behind the request line", b"GET /healthz HTTP/1.1\nHost: h\r\n\r\n")
case("a bare line feed as the empty line", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\n")
case("bare carriage returns", b"GET /healthz HTTP/1.1\rHost: h\r\r", b"")
case("two carriage returns before a line feed", b"GET /healthz HTTP/1.1\r\r\nHost: h\r\n\r\n")
case("more fields than anyone needs", get(*[b"X-%d: y" % i for i in range(1000)]))
case("a field of 100000 bytes", get(b"X: " + b"y" * 100000))
case("a field name of 100000 bytes", get(b"X" * 100000 + b": y"))
case("a head that never ends", b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 20000, b"")

# --- Host ---

case("no Host", get(host=None))
case("an empty Host", get(host=b"Host:"))
case("two Hosts", get(b"Host: h"))
case("two Hosts that differ", get(b"Host: i"))
case("two Hosts of different case", get(b"HOST: h"))
for text, what in {
        b"a b": "a blank", b"a\tb": "a tab", b"a/b": "a slash", b"a?b": "a question mark", b"a#b": "a fragment", b"u@h": "a user", b"u:p@h": "a user and password",
        b"http://h": "a scheme", b"h:": None, b"h:x": "a port of letters", b"h:-1": "a negative port", b"h:99999": "a port out of range", b"h:80:80": "two ports",
        b"[::1": "an unclosed bracket", b"::1": "an IPv6 address without brackets", b"[g::1]": "a bad IPv6 address", b"[]": "empty brackets", b"[::1]x": "a word behind brackets",
        b"h,i": None, b"h<i": "a less sign", b"h\\i": "a backslash", b"h\"i": "a quote", b"h{i": "a brace", b"h%zz": "broken percent-encoding", b"h%0": "cut percent-encoding",
        b"h\x00i": "a NUL", b"h\x7f": "a DEL", b"\xc3\xa9": "raw UTF-8", b":80": "a port alone", b"h^i": "a caret", b"h|i": "a bar", b"h`i": "a grave accent"}.items():
    if what is not None:
        case("a Host with " + what, get(host=b"Host: " + text))

# --- the request line ---

for text, what in {
        b"": "empty but for its end", b"GET": "of a method alone", b"GET /healthz": "without a version", b"GET  /healthz HTTP/1.1": "with two blanks before the target",
        b"GET /healthz  HTTP/1.1": "with two blanks before the version", b"GET\t/healthz HTTP/1.1": "with a tab before the target", b"GET /healthz\tHTTP/1.1": "with a tab before the version",
        b" GET /healthz HTTP/1.1": "with a leading blank", b"\tGET /healthz HTTP/1.1": "with a leading tab", b"GET /healthz HTTP/1.1 ": "with a trailing blank",
        b"GET /healthz HTTP/1.1\t": "with a trailing tab", b"GET /healthz HTTP/1.1 x": "with a word behind", b"GET /hea lthz HTTP/1.1": "with a blank in the target",
        b"GET HTTP/1.1": "without a target", b"/healthz HTTP/1.1": "without a method", b"GET /healthz http/1.1": "with a lower-case version", b"GET /healthz HTTP/1": "with half a version",
        b"GET /healthz HTTP/1.": "with a version cut off", b"GET /healthz HTTP/1.10": "with a two-digit version", b"GET /healthz HTTP/01.1": "with a padded version",
        b"GET /healthz HTTP/1,1": "with a comma in the version", b"GET /healthz HTTP 1.1": "with a blank in the version", b"GET /healthz HTTP/1.1.1": "with three versions",
        b"GET /healthz HTTP/x.y": "with letters for a version", b"GET /healthz HTTP/-1.1": "with a negative version", b"GET /healthz HTTPS/1.1": "of another protocol", b"GET /healthz ICY/1.1": "of a radio",
        b"GET /healthz HTTP/0.9": "of HTTP/0.9", b"GET /healthz HTTP/1.2": "of HTTP/1.2", b"GET /healthz HTTP/2.0": "of HTTP/2.0", b"GET /healthz HTTP/3.0": "of HTTP/3.0", b"GET /healthz HTTP/9.9": "of HTTP/9.9",
        b"PRI * HTTP/2.0": "of an HTTP/2 preface", b"G\x00T /healthz HTTP/1.1": "with a NUL in the method", b"G(T /healthz HTTP/1.1": "with a parenthesis in the method",
        b"G\xc3\x89T /healthz HTTP/1.1": "with an accent in the method", b"GET: /healthz HTTP/1.1": "with a colon in the method", b"\"GET\" /healthz HTTP/1.1": "with quotes round the method",
        b"get /healthz HTTP/1.1": "with a lower-case method", b"FOO /healthz HTTP/1.1": "with an unknown method", b"TRACE /healthz HTTP/1.1": "that asks for a trace",
        b"CONNECT h:80 HTTP/1.1": "that asks for a tunnel", b"CONNECT /healthz HTTP/1.1": "that asks for a tunnel to a path", b"M" * 5000 + b" /healthz HTTP/1.1": "with a method of 5000 letters",
        b"GET * HTTP/1.1": "with an asterisk for GET", b"OPTIONS ** HTTP/1.1": "with two asterisks", b"GET healthz HTTP/1.1": "with a relative target", b"GET ?q HTTP/1.1": "with a query alone",
        b"GET h:80 HTTP/1.1": "with an authority for GET", b"GET ftp://h/healthz HTTP/1.1": "with another scheme", b"GET http:///healthz HTTP/1.1": "with no authority", b"GET http:/healthz HTTP/1.1": "with half a scheme",
        b"GET http://u@h/healthz HTTP/1.1": "with a user in the authority", b"GET http://h:x/healthz HTTP/1.1": "with a bad port", b"GET //\x00 HTTP/1.1": "with a NUL in the target",
        b"GET /\x01 HTTP/1.1": "with a control in the target", b"GET /\x7f HTTP/1.1": "with a DEL in the target", b"GET /a\x0bb HTTP/1.1": "with a vertical tab in the target",
        b"GET /a#b HTTP/1.1": "with a fragment", b"GET /a\"b HTTP/1.1": "with a quote in the target", b"GET /a<b HTTP/1.1": "with a less sign in the target", b"GET /a>b HTTP/1.1": "with a greater sign in the target",
        b"GET /a\\b HTTP/1.1": "with a backslash in the path", b"GET /a{b HTTP/1.1": "with a brace in the path", b"GET /a`b HTTP/1.1": "with a grave accent in the path",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1": "with a target of 9000 bytes", b"GET /" + b"a" * 200000 + b" HTTP/1.1": "with a target of 200000 bytes",
        b"GET /healthz HTTP/1.1\x00": "with a NUL behind", b"GET /healthz\x00 HTTP/1.1": "with a NUL behind the target", b"\x00GET /healthz HTTP/1.1": "with a NUL before",
        b"\xef\xbb\xbfGET /healthz HTTP/1.1": "with a byte order mark", b"GET \xa0/healthz HTTP/1.1": "with a no-break space"}.items():
    case("a request line " + what, get(line=text))
case("two empty lines before the request", b"\r\n\r\n" + get())
case("three empty lines before the request", b"\r\n\r\n\r\n" + get())
case("a bare line feed before the request", b"\n" + get())
case("a line of blanks before the request", b"  \r\n" + get())
case("a simple request of HTTP/0.9", b"GET /healthz\r\n")

# --- Expect, and what is not HTTP at all ---

case("an expectation that nobody knows", put(b"Expect: 200-ok", b"Content-Length: " + LENGTH))
case("an expectation list", put(b"Expect: 100-continue, x", b"Content-Length: " + LENGTH))
case("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), b"")
case("an SSH greeting", b"SSH-2.0-OpenSSH_9.2p1\r\n", b"")
case("a SOCKS greeting", b"\x05\x01\x00", b"")
case("a PROXY protocol line", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get())
case("an SMTP greeting", b"EHLO client.example\r\nMAIL FROM:<a@b>\r\n", b"")
case("random bytes", bytes((i * 73 + 41) & 0xff for i in range(4096)), b"")
case("four thousand NULs", bytes(4000), b"")
case("an answer instead of a request", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
case("a half request and silence", b"GET /healthz HTTP/1.1\r\nHost: h\r\n", b"")
case("one letter and silence", b"G", b"")
case("a body that never comes", put(b"Content-Length: 5"), b"")
case("a chunked body that never comes", CHUNKED, b"")
case("a chunk that is cut off", CHUNKED, b"5\r\nab")


class MalformedRequests(DepotdTestCase):
    flags = ["--server.header_timeout", "2s", "--server.idle_timeout", "2s"]

    def outcome(self, request):
        """The status of the first answer, None where the connection was closed without one. Fails past the deadline."""
        with self.server.connect(timeout=15) as connection:
            received = b""
            try:
                connection.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                while True:
                    block = connection.recv(65536)
                    if not block:
                        break
                    received += block
            except ConnectionResetError:
                pass
            except socket.timeout:
                self.fail("neither answered nor closed in time; so far: %r" % received[:300])
        return received

    def check(self, request):
        received = self.outcome(request)
        answers = re.findall(rb"HTTP/1\.1 (\d{3}) ", received)
        final = [int(a) for a in answers if a != b"100"]
        self.assertLessEqual(len(final), 1, "two answers: %r" % received[:600])
        if final:
            self.assertGreaterEqual(final[0], 400, received[:300])
            self.assertIn(b"\r\nRequest-Id: ", received)

    def test_the_corpus_is_as_large_as_the_one_that_libmicrohttpd_was_measured_with(self):
        self.assertGreaterEqual(len(CASES), 226)

    def test_zz_at_last_no_hidden_request_was_executed_and_the_server_lives_on(self):
        self.assertEqual(self.server.request("GET", "/healthz").status, 200)
        listed = self.server.request("GET", "/files?limit=1000").json()["files"]
        self.assertEqual(listed, [])


def add_tests():
    for sentence, request in CASES.items():
        name = "test_" + re.sub(r"\W+", "_", sentence).strip("_").lower() + "_is_refused"
        assert not hasattr(MalformedRequests, name), name
        setattr(MalformedRequests, name, lambda self, request=request: self.check(request))


add_tests()

if __name__ == "__main__":
    unittest.main()
