"""A module includes only from floors below it, and libraries only in the files that wrap them (docs/architecture.md)."""
import os
import re

from _sources import Findings, files, line_of, read, without_comments

MAY_USE = {
    "base": set(),
    "model": {"base"},
    "work": {"base"},
    "metadata": {"model", "base"},
    "blob": {"model", "base"},
    "journal": {"base"},
    "core": {"metadata", "blob", "journal", "work", "model", "base"},
    "http": {"work", "model", "base"},
    "front": {"http", "core", "model", "base", "front"},
    "app": {"front", "http", "core", "metadata", "blob", "journal", "work", "model", "base"},
}

# Library header → the only files that may include it.
LIBRARIES = {
    r"microhttpd\.h": r"src/http/",
    r"libpq-fe\.h|libpq/.*|postgres.*": r"src/metadata/(driver_)?postgres",
    r"sqlite3\.h": r"src/metadata/(driver_)?sqlite",
    r"systemd/.*": r"src/app/supervision\.c$",
    r"ini\.h": r"src/app/config_read\.c$",
    r"openssl/.*": r"src/base/",
    r"uuid/.*": r"src/base/",
    r"jansson\.h": r"(src|include/depotd)/base/",
    r"zlib\.h": r"src/journal/",
}

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)


def module_of(path):
    """src/front/rest/x.c → front; include/depotd/core/core.h → core; src/main.c → app."""
    parts = path.split("/")
    if parts[0] == "include":
        return parts[2]
    return "app" if path == "src/main.c" else parts[1]


def check(path, findings):
    text = without_comments(read(path))
    module = module_of(path)
    if module not in MAY_USE:
        findings.add(path, 1, "no floor is known for module %s" % module)
        return
    for match in INCLUDE.finditer(text):
        kind, header = match.groups()
        line = line_of(text, match.start(2))
        if kind == "<":
            for library, where in LIBRARIES.items():
                if re.fullmatch(library, header) and not re.match(where, path):
                    findings.add(path, line, "<%s> is for %s only" % (header, where))
        elif header.startswith("depotd/"):
            used = header.split("/")[1]
            if used != module and used not in MAY_USE[module]:
                findings.add(path, line, "%s may not use %s" % (module, used))
            if header.endswith("_private.h"):
                findings.add(path, line, "%s is private and has no place below include/" % header)
        elif not os.path.exists(os.path.join(os.path.dirname(path), header)):
            findings.add(path, line, '"%s" is not a header of this module' % header)
        elif not header.endswith("_private.h") or "/" in header:
            findings.add(path, line, '"%s": what a module keeps to itself is NAME_private.h in its folder' % header)


if __name__ == "__main__":
    findings = Findings()
    for source in files("src/**/*.[ch]", "include/**/*.h"):
        check(source, findings)
    findings.end()
