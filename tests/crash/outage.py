"""The database goes away under load, and the daemon is killed while it is away: uploads that were answered 202 are rows, each
once, within 2 s of both being back, whichever comes back first.

--forgetful: a PostgreSQL that writes out nothing before somebody asks for it, so that each crash takes what was committed with
synchronous_commit off; that crashes again when it is hardly back; and a journal of the smallest size, whose checkpoints follow
one another. What the daemon remembers is then all that there is of most uploads.
"""
import contextlib
import shutil
import tempfile
import time

import raw_http
from scene import Broken, Scene
from volume import Postgres

AWAY = ("kill", "stop", "freeze")


def add_arguments(parser):
    parser.add_argument("--cycles", type=int, default=6)
    parser.add_argument("--forgetful", action="store_true")


FORGETFUL = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "fsync": "off"}


def leave(postgres, how):
    if how == "freeze":
        postgres.freeze(True)
    elif how == "kill":
        postgres.kill()
    else:
        postgres.stop()


def come_back(postgres, how):
    if how == "freeze":
        postgres.freeze(False)
    else:
        postgres.start()


def downloads_go_on(scene):
    """Without the database: what was answered is read by its id."""
    with raw_http.Connection((scene.server.host, scene.server.port), deadline=15) as connection:
        for one in scene.chance.sample(scene.ledger.live(), min(40, len(scene.ledger.live()))):
            response = connection.exchange("GET", "/files/" + one.id)
            if response.status != 200 or response.body != one.attempt.data(one.index):
                scene.ledger.violation("the database is away: GET %s (answered %s) gives %d and %d bytes of %d", one.id,
                                       one.attempt.answer, response.status, len(response.body), one.record["size"])


def run(options):
    with contextlib.ExitStack() as stack:
        directory = tempfile.mkdtemp(prefix="depotd-crash-outage-")
        stack.callback(shutil.rmtree, directory, True)
        postgres = stack.enter_context(Postgres(directory, FORGETFUL if options.forgetful else ()))
        flags = ["--storage.journal_size", "3M"] if options.forgetful and not options.journal else []
        scene = stack.enter_context(Scene(options, postgres.url, directory + "/data",
                                          ["--database.connect_timeout", "1s", *flags]))
        scene.start()
        for cycle in range(options.cycles):
            how = scene.chance.choice(AWAY)
            order = scene.chance.choice(("database first", "daemon first", "no crash"))
            scene.say("%s, %s", how, order)
            load = scene.load(cycle, clients=16, tolerant=("patch", "delete"))
            load.wait(answers=scene.chance.randrange(50, 300), seconds=1.0)
            load.limit = load.answers + 600  # what has to be there within 2 s is counted by this harness, which is slow
            leave(postgres, how)
            load.wait(seconds=scene.chance.uniform(0.05, 1.0))
            if order == "no crash":
                come_back(postgres, how)
                load.wait(seconds=scene.chance.uniform(0, 0.3))
                load.stop()
            else:
                scene.kill(load)
                if order == "daemon first":
                    scene.start()
                    downloads_go_on(scene)
                come_back(postgres, how)
                if order == "database first":
                    scene.start()
            if options.forgetful and scene.chance.random() < 0.7:
                time.sleep(scene.chance.choice((0, 0.05, 0.3, 1.0)))
                postgres.kill()
                postgres.start()
            scene.audit(everything=cycle == options.cycles - 1)
        scene.finish()
        return scene.summary()
