"""docs/depotd.conf and depotd.conf(5) are what the table of keys says; depotd(8) and the README name what there is.

    generated_docs.py BINARY             compares
    generated_docs.py --write BINARY     writes the generated ones anew (`make docs`)
"""
import os
import re
import subprocess
import sys

from _sources import ROOT, Findings, read

BEGIN, END = ".\\\" begin: made by depotd config --manual\n", ".\\\" end: made by depotd config --manual\n"


def output(binary, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DEPOTD_")}
    return subprocess.run([binary, *arguments], check=True, stdout=subprocess.PIPE, env=environment).stdout.decode("utf-8")


def manual_with(text, keys):
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    return head + BEGIN + keys + END + tail


def write(binary):
    with open(os.path.join(ROOT, "docs/depotd.conf"), "w", encoding="utf-8") as file:
        file.write(output(binary, "config", "--sample"))
    manual = manual_with(read("docs/depotd.conf.5"), output(binary, "config", "--manual"))
    with open(os.path.join(ROOT, "docs/depotd.conf.5"), "w", encoding="utf-8") as file:
        file.write(manual)


def compare(binary, findings):
    if read("docs/depotd.conf") != output(binary, "config", "--sample"):
        findings.add("docs/depotd.conf", 1, "is not what the table says: make docs")
    manual = read("docs/depotd.conf.5")
    if manual != manual_with(manual, output(binary, "config", "--manual")):
        findings.add("docs/depotd.conf.5", 1, "is not what the table says: make docs")

    usage = output(binary, "--help")
    page = read("docs/depotd.8").replace("\\-", "-")
    readme = read("README.md")
    commands = re.findall(r"^  (\w+) {2,}\w", usage, re.M)
    if len(commands) < 4:
        findings.add("--help", 1, "names no commands")
    for command in commands:
        if not re.search(r"\b%s\b" % command, page):
            findings.add("docs/depotd.8", 1, "does not name the command %s" % command)
        if not re.search(r"\b%s\b" % command, readme):
            findings.add("README.md", 1, "does not name the command %s" % command)
        for flag in set(re.findall(r"^  (--[a-z-]+)[ =]", output(binary, command, "--help"), re.M)):
            if not re.search(re.escape(flag) + r"\b", page):
                findings.add("docs/depotd.8", 1, "does not name %s of %s" % (flag, command))
    section = ""
    for line in read("docs/depotd.conf").splitlines():
        match = re.match(r"\[(\w+)\]|#(\w+) =", line)
        if match and match.group(1):
            section = match.group(1)
        elif match and "%s.%s" % (section, match.group(2)) not in readme:
            findings.add("README.md", 1, "does not name the key %s.%s" % (section, match.group(2)))


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write(sys.argv[2])
    else:
        found = Findings()
        compare(sys.argv[1], found)
        found.end()
