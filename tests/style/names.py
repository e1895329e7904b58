"""A test's name is a sentence (the class may give it its subject), and every cmocka test that is written is also run."""
import re

from _sources import Findings, files, line_of, read, without_comments

WORDS_MIN = 4
UNIT = re.compile(r"^static void (\w+)\(void \*\*state\)", re.M)
CLASS_OR_TEST = re.compile(r"^class (\w+)|^    (?:async )?def test_(\w+)\(", re.M)

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
        subject = ""
        for match in CLASS_OR_TEST.finditer(text):
            if match.group(1):
                subject = match.group(1)
                continue
            words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", subject) + match.group(2).split("_")
            if len(words) < WORDS_MIN - 1:
                findings.add(path, line_of(text, match.start()), "%s.%s is no sentence" % (subject, match.group(2)))
    findings.end()
