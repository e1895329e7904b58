"""A real device that fails: its writes fail for a moment and work again, or its write cache is lost with the power.

What was answered stays; an fsync that failed is never answered as stored, though the next one would succeed. After the failure
the file system may have shut itself down; it is mounted anew, as an operator would.
"""
import contextlib
import os
import time

from device import Device
from scene import Scene


def add_arguments(parser):
    parser.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--fault", choices=("error", "cache"), default="error")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--cycles", type=int, default=5)


def run(options):
    with contextlib.ExitStack() as stack:
        volume = stack.enter_context(Device(options.fs, options.fault))
        scene = stack.enter_context(Scene(options, options.store, os.path.join(volume.path, "data"), alone=True))
        scene.start()
        for cycle in range(options.cycles):
            load = scene.load(cycle, clients=scene.chance.choice((4, 16)), tolerant=True)
            scene.run_for_a_while(load)
            if options.fault == "error":
                with volume.failing():
                    time.sleep(scene.chance.choice((0.001, 0.01, 0.1)))
                load.wait(seconds=scene.chance.uniform(0.05, 0.4))  # and now it is well again
            else:
                volume.cut()
                load.wait(seconds=scene.chance.uniform(0, 0.1))
            scene.kill(load)
            volume.remount()
            scene.start()
            scene.audit(everything=cycle == options.cycles - 1)
        scene.finish()
        return scene.summary()
