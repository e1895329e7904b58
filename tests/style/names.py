"""A test's name is a sentence: at least four words, and every cmocka test that is written is also run."""
import re

from _sources import Findings, files, line_of, read, without_comments

WORDS_MIN = 4
UNIT = re.compile(r"^static void (\w+)\(void \*\*state\)", re.M)
HTTP = re.compile(r"^    (?:async )?def test_(\w+)\(", re.M)

if __name__ == "__main__":
    findings = Findings()
    for path in files("tests/unit/*.c"):
        text = without_comments(read(path))
        for match in UNIT.finditer(text):
            name = match.group(1)
            uses = len(re.findall(r"\b%s\b" % name, text))
            if uses == 1:
                findings.add(path, line_of(text, match.start()), "%s is never run" % name)
            if len(name.split("_")) < WORDS_MIN:
                findings.add(path, line_of(text, match.start()), "%s is no sentence" % name)
    for path in files("tests/http/test_*.py", "tests/browser/test_*.py"):
        text = read(path)
        for match in HTTP.finditer(text):
            if len(match.group(1).split("_")) < WORDS_MIN:
                findings.add(path, line_of(text, match.start()), "%s is no sentence" % match.group(1))
    findings.end()
