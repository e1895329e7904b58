"""A file opens by saying what it is for; .c files stay under 600 lines, headers under 150, functions under 80, comments of C
under 132 columns. What is declared stands on one line with its type."""
import re

from _sources import Findings, files, line_of, read, without_comments_and_strings

LIMITS = {".c": 600, ".h": 150}
FUNCTION_MAX = 80
COLUMNS_MAX = 132
# What clang-format makes of a declaration whose comment behind it is too long: that one goes above it.
TORN = re.compile(r"^[^\n/*#(]*(?:\*|\b[a-z_0-9]+)\n[ \t]+\**[a-z_]+\);? /\*|^\t+[a-z][a-z_0-9 ]*\*?\n\t+\**[a-z_]+; /\*", re.M)
BODY = re.compile(r"^\{.*?^\}", re.M | re.S)
OPENINGS = {
    ".c": r"/\*", ".h": r"/\*", ".py": r'(#!.*\n)?"""', ".sh": r"(#!.*\n)?#", ".sql": r"--", ".js": r"/[*/]", ".css": r"/\*",
}

if __name__ == "__main__":
    findings = Findings()
    for path in files("src/**/*.*", "include/**/*.*", "tests/**/*.*", "sql/**/*.*"):
        ending = "." + path.rsplit(".", 1)[-1]
        if ending not in OPENINGS or "tests/fuzz/corpus/" in path:
            continue
        text = read(path)
        if not re.match(OPENINGS[ending], text):
            findings.add(path, 1, "a file opens with a comment that says what it is for")
        if not text.endswith("\n"):
            findings.add(path, 1, "the last line has no end")
        if re.search(r"[ \t]+$", text, re.M) and ending != ".sql":
            findings.add(path, line_of(text, re.search(r"[ \t]+$", text, re.M).start()), "blanks at the end of a line")
        if ending in (".c", ".h"):
            for number, line in enumerate(text.split("\n"), 1):
                if len(line.expandtabs(8)) > COLUMNS_MAX:
                    findings.add(path, number, "more than %d columns" % COLUMNS_MAX)
            for match in TORN.finditer(text):
                findings.add(path, line_of(text, match.start()), "the comment behind a declaration is too long: put it above")
        if path.startswith("tests/"):
            continue
        lines = text.count("\n")
        if lines > LIMITS.get(ending, lines):
            findings.add(path, lines, "%d lines; %s files have at most %d" % (lines, ending, LIMITS[ending]))
        if ending == ".c":
            code = without_comments_and_strings(text)
            for match in BODY.finditer(code):
                length = match.group(0).count("\n") + 1
                if length > FUNCTION_MAX:
                    findings.add(path, line_of(code, match.start()), "a function of %d lines" % length)
    findings.end()
