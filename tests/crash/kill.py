"""kill -9 under load, at random moments, and again while it recovers."""
import signal

from scene import Scene
from postgres_cluster import PostgresCluster


def add_arguments(parser):
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--cycles", type=int, default=10)


def run(options):
    if options.store == "postgres":
        PostgresCluster.shared()
    with Scene(options, options.store) as scene:
        scene.start()
        for cycle in range(options.cycles):
            load = scene.load(cycle, clients=scene.chance.choice((4, 16, 24)))
            scene.run_for_a_while(load)
            if scene.chance.random() < 0.1:  # a polite end keeps no less than a rude one
                load.broken.set()
                scene.server.signal(signal.SIGTERM)
                if scene.chance.random() < 0.5:
                    scene.server.wait()
                else:
                    load.wait(seconds=scene.chance.uniform(0, 0.02))
                scene.kill(load)
            else:
                scene.kill(load)
            if scene.chance.random() < 0.4:
                scene.kill_in_start_up(scene.chance.randrange(1, 4))
            scene.start()
            scene.audit(everything=cycle == options.cycles - 1)
        scene.finish()
        return scene.summary()
