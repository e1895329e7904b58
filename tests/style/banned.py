"""Functions that this house does without, logging below the floors that log, JSON made by hand, unfinished notes."""
import re

from _sources import TOKEN, Findings, files, line_of, read, without_comments_and_strings

FUNCTIONS = {
    "strcpy strncpy strcat strncat stpcpy sprintf vsprintf gets": "use buf or snprintf",
    "strtok alloca atoi atol atoll atof": "not used here",
    "system popen": "no shell",
    "localtime gmtime asctime ctime strftime mktime localtime_r": "use base/clock",
    "tmpnam mktemp tempnam rand srand random": "use O_TMPFILE, base/uuid",
    "setlocale": "all of depotd is independent of the locale",
    "sleep usleep": "wait on a condition",
}
WHY = {name: why for names, why in FUNCTIONS.items() for name in names.split()}
CALL = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(WHY))
LOG = re.compile(r"\blog_(event|access)\s*\(")
LOGS = re.compile(r"src/(app|http|front)/|src/work/pool\.c|src/base/log")
# A literal in which a quote follows a brace or a comma.
JSON = re.compile(r'[{\[,]\s*\\"\w')
MAKES_JSON = re.compile(r"src/base/json|tests/")
NOTES = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
PLACES = re.compile(r"(?<![\w.])/(home|root|Users)/\w")


def check_code(path, findings):
    text = read(path)
    code = without_comments_and_strings(text)
    if not path.startswith("tests/"):
        for match in CALL.finditer(code):
            findings.add(path, line_of(code, match.start()), "%s(): %s" % (match.group(1), WHY[match.group(1)]))
        for match in LOG.finditer(code):
            if not LOGS.match(path) and not path.endswith(".h"):
                findings.add(path, line_of(code, match.start()), "this floor returns errors and does not log them")
    if not MAKES_JSON.match(path):
        for match in TOKEN.finditer(text):
            if JSON.search(match.group(0)) and match.group(0).startswith('"'):
                findings.add(path, line_of(text, match.start()), "JSON is written by base/json only")


if __name__ == "__main__":
    findings = Findings()
    for source in files("src/**/*.[ch]", "include/**/*.h", "tests/**/*.[ch]"):
        check_code(source, findings)
    everything = files("src/**/*.*", "include/**/*.*", "tests/**/*.*", "sql/**/*.*", "systemd/*", "docs/*.*", "*.md", "Makefile",
                       ".ci/run", ".clang-*")
    for path in everything:
        if re.search(r"\.(png|pyc)$|tests/fuzz/corpus/|tests/style/", path):
            continue
        text = read(path)
        for match in [*NOTES.finditer(text), *PLACES.finditer(text)]:
            findings.add(path, line_of(text, match.start()), "%r has no place here" % match.group(0))
    findings.end()
