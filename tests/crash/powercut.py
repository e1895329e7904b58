"""A power cut under load: the file system is shut down, the daemon killed, the volume mounted again, and all has to be there.

--database: where the rows are. `sqlite`: with the bytes on the volume; `outside`: in a PostgreSQL that the cut does not touch;
`inside`: in one whose data directory is on the same volume and which is killed with it.
"""
import contextlib
import os
import time

from scene import Scene
from volume import Postgres, Volume


def add_arguments(parser):
    parser.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--database", choices=("sqlite", "outside", "inside"), default="sqlite")
    parser.add_argument("--flush", type=int, choices=(0, 1), default=0, help="1: the file system's log is written out before")
    parser.add_argument("--cycles", type=int, default=5)


def run(options):
    with contextlib.ExitStack() as stack:
        volume = stack.enter_context(Volume(options.fs, 512 if options.database == "inside" else 320))
        postgres = None
        database = "sqlite"
        if options.database == "inside":
            postgres = stack.enter_context(Postgres(volume.path))
            database = postgres.url
        elif options.database == "outside":
            database = "postgres"
        scene = stack.enter_context(Scene(options, database, os.path.join(volume.path, "data"), alone=True))
        scene.start()
        for cycle in range(options.cycles):
            load = scene.load(cycle, clients=scene.chance.choice((8, 24)), tolerant=True)
            scene.run_for_a_while(load)
            # A machine that lost its power answers nothing. A file system that shut itself down after an error of its log is the
            # same but for that, and what is answered then counts as well. Not on ext4: fsync() that meets the shutdown half-way
            # may return 0 for a transaction whose commit was aborted (seen on Linux 6.18), and SQLite believes it.
            if options.fs == "ext4" or scene.chance.random() < 0.5:
                scene.freeze()
            scene.ledger.broken_at = time.monotonic()
            volume.cut(bool(options.flush))
            load.wait(seconds=scene.chance.uniform(0, 0.1))
            scene.kill(load)
            if postgres is not None:
                postgres.kill()
            volume.remount()
            if postgres is not None:
                postgres.start()
            if scene.chance.random() < 0.4:
                scene.kill_in_start_up(scene.chance.randrange(1, 3))
            scene.start()
            scene.audit(everything=cycle == options.cycles - 1)
        scene.finish()
        return scene.summary()
