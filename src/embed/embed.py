#!/usr/bin/env python3
"""Turns files into C at build time: the SQL, the page's assets, and the table of name extensions.

  embed.py files SYMBOL OUT ROOT FILE...     const struct embedded_file SYMBOL[], sorted by path below ROOT
  embed.py media_extensions OUT MIME_TYPES   const struct media_extension media_extensions[], sorted by extension
"""
import hashlib
import os
import sys


def c_bytes(data):
    """Decimal bytes, 24 a line: compilers take these faster than one long string, and no escape can go wrong."""
    lines = []
    for at in range(0, len(data), 24):
        lines.append("\t" + ",".join(str(b) for b in data[at:at + 24]) + ",")
    return "\n".join(lines)


def embed_files(symbol, out, root, paths):
    parts = ['#include "depotd/base/embedded.h"\n']
    rows = []
    for number, path in enumerate(sorted(paths)):
        with open(path, "rb") as f:
            data = f.read()
        parts.append("static const unsigned char file_%d[] = {\n%s\n\t0};\n" % (number, c_bytes(data)))
        rows.append('\t{"%s", (const char *)file_%d, %d, "%s"},\n' % (
            os.path.relpath(path, root), number, len(data), hashlib.sha256(data).hexdigest()))
    parts.append("const struct embedded_file %s[] = {\n%s\t{0, 0, 0, 0}};\n" % (symbol, "".join(rows)))
    write(out, "\n".join(parts))


def media_extensions(out, mime_types):
    table = {}
    with open(mime_types, encoding="utf-8") as f:
        for line in f:
            words = line.split("#")[0].split()
            for extension in words[1:]:
                extension = extension.lower()
                if extension.isascii() and '"' not in extension and "\\" not in extension:
                    table.setdefault(extension, words[0].lower())
    rows = "".join('\t{"%s", "%s"},\n' % row for row in sorted(table.items(), key=lambda r: r[0].encode()))
    write(out, '#include "depotd/base/embedded.h"\n\n'
               "const struct media_extension media_extensions[] = {\n%s};\n"
               "const unsigned media_extension_count = %d;\n" % (rows, len(table)))


def write(out, text):
    with open(out + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(out + ".new", out)


if __name__ == "__main__":
    if sys.argv[1] == "files":
        embed_files(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
    else:
        media_extensions(sys.argv[2], sys.argv[3])
