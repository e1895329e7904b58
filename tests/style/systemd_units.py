"""The units are valid, their exposure is 1.5 or better, and the account and directory snippets can be applied."""
import os
import shutil
import subprocess
import sys
import tempfile

from _sources import ROOT, read


def run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        print(" ".join(command), "\n", result.stdout)
    return result.returncode == 0


def main():
    if shutil.which("systemd-analyze") is None:
        print("systemd-analyze is not here: nothing checked")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        # verify wants the program to be there: any will do.
        for name in ("depotd.service", "depotd.socket"):
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(read("systemd/" + name).replace("/usr/local/bin/depotd", "/bin/true"))
        service = os.path.join(directory, "depotd.service")
        good = run("systemd-analyze", "verify", "--man=no", service, os.path.join(directory, "depotd.socket"))
        good &= run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", service)
        root = os.path.join(directory, "root")
        os.makedirs(os.path.join(root, "etc"))
        if shutil.which("systemd-sysusers"):
            good &= run("systemd-sysusers", "--root=" + root, os.path.join(ROOT, "systemd/depotd.sysusers"))
            with open(os.path.join(root, "etc/passwd"), encoding="utf-8") as file:
                good &= "depotd:" in file.read()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
