"""multipart/form-data bodies, built byte by byte: nothing is checked, so that broken ones can be built as well."""

BOUNDARY = "----depot-test-boundary-7MA4YWxkTrZu0gW"


class Part:
    """One part. `disposition` replaces the whole Content-Disposition value; `headers` are further lines of the part."""

    def __init__(self, name=None, data=b"", filename=None, type=None, headers=(), disposition=None):
        self.data = data if isinstance(data, bytes) else data.encode("utf-8")
        if disposition is None:
            disposition = b'form-data; name="%s"' % quoted(name)
            if filename is not None:
                disposition += b'; filename="%s"' % quoted(filename)
        elif isinstance(disposition, str):
            disposition = disposition.encode("utf-8")
        lines = [b"Content-Disposition: " + disposition]
        if type is not None:
            lines.append(b"Content-Type: " + type.encode("ascii"))
        lines += [h if isinstance(h, bytes) else h.encode("utf-8") for h in headers]
        self.lines = lines


def quoted(value):
    """As browsers have it (WHATWG HTML): raw UTF-8, with three characters percent-encoded."""
    if isinstance(value, str):
        value = value.encode("utf-8")
    return value.replace(b"\n", b"%0A").replace(b"\r", b"%0D").replace(b'"', b"%22")


def file(name, filename, data=b"content", type="application/octet-stream", **rest):
    return Part(name, data, filename=filename, type=type, **rest)


def field(name, value):
    return Part(name, value)


def no_file_chosen(name="file"):
    """What a browser sends for a file input that was left alone."""
    return Part(name, b"", filename="", type="application/octet-stream")


def encode_form(parts, boundary=BOUNDARY, preamble=b"", epilogue=b"\r\n", padding=b""):
    mark = b"--" + boundary.encode("ascii")
    out = bytearray(preamble)
    for part in parts:
        out += mark + padding + b"\r\n" + b"\r\n".join(part.lines) + b"\r\n\r\n" + part.data + b"\r\n"
    out += mark + b"--" + epilogue
    return bytes(out)


def content_type(boundary=BOUNDARY):
    return "multipart/form-data; boundary=" + boundary
