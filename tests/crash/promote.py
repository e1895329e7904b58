"""A standby is promoted under load, and the daemon may die meanwhile: no upload and no download by id fails, and every answer holds.

The daemon knows both hosts (target_session_attrs=read-write). The standby is a synchronous one, so it has what was committed; what
the daemon committed without waiting for the disk it may lack. --forgetful: a primary that writes out nothing before somebody asks
for it, so that all of that is lost with it, and a journal of the smallest size.
"""
import contextlib
import urllib.parse

from scene import Broken, Scene
from postgres_cluster import PostgresCluster

FORGETFUL = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
WAYS = ("kill", "freeze", "stop")
DEATHS = ("", "", "before", "after", "meanwhile")


def add_arguments(parser):
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--forgetful", action="store_true")


class Pair:
    """A primary and its standby, whose directories stay the same while the clusters in them come and go."""

    def __init__(self, settings):
        self.primary = self.standby = None
        self.primary = PostgresCluster(settings)
        self.primary.start()
        self.primary.execute("CREATE DATABASE depot")
        self.standby = self.primary.standby()
        self.url = "postgresql:///depot?host=%s&user=postgres&target_session_attrs=read-write" % ",".join(
            urllib.parse.quote(one.directory, safe="/") for one in (self.primary, self.standby))

    def promote(self):
        self.standby.promote()

    def replace(self):
        """The old primary is gone for good; a new cluster in its place follows the one that was promoted."""
        old, self.primary, self.standby = self.primary, self.standby, None
        if old.running:
            old.kill()
        old.remove()
        self.standby = self.primary.standby(directory=old.directory)

    def close(self):
        for one in (self.primary, self.standby):
            if one is not None:
                one.remove()


def promote_under_load(scene, pair, cycle):
    way, death = scene.chance.choice(WAYS), scene.chance.choice(DEATHS)
    scene.say("%s, %s", way, "the daemon dies " + death if death else "the daemon lives")
    load = scene.load(cycle, clients=16, tolerant=("patch", "delete"))
    load.wait(answers=scene.chance.randrange(50, 300), seconds=1.0)
    load.limit = load.answers + 600  # what has to be there within 2 s is counted by this harness, which is slow
    getattr(pair.primary, way)()
    load.wait(seconds=scene.chance.choice((0, 0.05, 0.5)))
    if death in ("before", "meanwhile"):
        scene.kill(load)
    if death == "before":
        scene.start()
    pair.promote()
    if death == "meanwhile":
        scene.start()
    elif not death or death == "after":
        load.wait(seconds=scene.chance.uniform(0, 0.5))
        if death:
            scene.kill(load)
            scene.start()
        else:
            load.stop()


def run(options):
    if options.forgetful and not options.journal:
        options.journal = "3M"
    with contextlib.ExitStack() as stack:
        pair = Pair(FORGETFUL if options.forgetful else {})
        stack.callback(pair.close)
        scene = stack.enter_context(Scene(options, pair.url, flags=["--database.connect_timeout", "1s"]))
        scene.start()
        for cycle in range(options.cycles):
            promote_under_load(scene, pair, cycle)
            scene.audit(everything=cycle == options.cycles - 1)
            refused = {status: n for status, n in scene.ledger.counts.items() if status.startswith("5")}
            if refused:
                raise Broken("uploads were refused: %s" % refused)
            pair.replace()
        scene.finish()
        return scene.summary()
