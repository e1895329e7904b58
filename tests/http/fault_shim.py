"""System calls of an unchanged binary that fail on purpose: drives tests/shim/fault_shim.c, whose head says what a rule is.

    with FaultShim() as shim, DepotdServer(environment=shim.environment) as server:
        shim.set("write below=%s error=ENOSPC" % server.data_dir)
        ...                                    # now every write of a file of the store fails
        assert shim.hits()[0] > 0              # of the first rule
        shim.clear()                           # and now it works again

set() and clear() work while the server runs, at once and for all of its threads; counters begin anew with each. calls() says how
many calls each rule looked at: `any below=DIR` without an action counts what a later sweep can hit one by one.

A sanitizer's runtime wants to be the first library of a process, so its builds cannot be tested so: skip_unless_loadable() says it.
"""
import mmap
import os
import struct
import tempfile
import unittest

from depotd_server import BINARY

SHIM = os.environ.get("DEPOTD_TEST_SHIM", os.path.join(os.path.dirname(BINARY), "fault_shim.so"))
COUNTERS_AT, TEXT_AT, SIZE, RULES_MAX = 64, 4096, 65536, 64


def skip_unless_loadable():
    """Raises SkipTest where the binary cannot run under the shim."""
    with open(BINARY, "rb") as binary:
        whole = binary.read()
    for sign in (b"__asan_init", b"__tsan_init", b"__msan_init"):
        if sign in whole:
            raise unittest.SkipTest("a sanitizer's build does not run under LD_PRELOAD")
    if not os.path.exists(SHIM):
        raise unittest.SkipTest("%s is not built (make shim)" % SHIM)


class FaultShim:
    def __init__(self, rules=(), log=None):
        skip_unless_loadable()
        descriptor, self.path = tempfile.mkstemp(prefix="depotd-shim-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        try:
            os.ftruncate(descriptor, SIZE)
            self._map = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
        self.environment = {"LD_PRELOAD": SHIM, "FAULT_SHIM_CONTROL": self.path}
        if log:
            self.environment["FAULT_SHIM_LOG"] = log
        self._generation = 0
        self.set(*([rules] if isinstance(rules, str) else rules))

    def set(self, *rules):
        """These rules from now on, instead of those before; each is a line."""
        text = "\n".join(rules).encode() + b"\0"
        if len(text) > SIZE - TEXT_AT or len(rules) > RULES_MAX:
            raise ValueError("too many rules")
        self._number(0, self._generation + 1)  # odd: not to be read now
        self._map[TEXT_AT:TEXT_AT + len(text)] = text
        self._generation += 2
        self._number(0, self._generation)

    def clear(self):
        self.set()

    def _number(self, offset, value):
        self._map[offset:offset + 8] = struct.pack("=Q", value)

    def _counters(self, which):
        """Those of the rules of the last set(); 0 as long as the process has made no call since."""
        if struct.unpack_from("=Q", self._map, 8)[0] != self._generation:
            return [0] * RULES_MAX
        return list(struct.unpack_from("=%dQ" % (RULES_MAX * 2), self._map, COUNTERS_AT))[which::2]

    def calls(self):
        """How many calls matched each rule."""
        return self._counters(0)

    def hits(self):
        """How many of them it made fail, wait or die."""
        return self._counters(1)

    def close(self):
        self._map.close()
        os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
