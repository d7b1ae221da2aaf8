"""faulty - disks that fail, and what tests on them have in common."""
import base64
import collections
import os
import re
import signal
import subprocess
import time

import lab


class ForgetFs:
    """A directory on a file system that forgets; what is durable lies in `backing`."""

    def __init__(self, mount, name, *options):
        self.mount, self.backing, self.options = mount, lab.scratch / name, options
        self.backing.mkdir(mode=0o700)
        self.process = None

    def up(self, dice):
        argv = [str(lab.BUILD / "forgetfs"), str(self.backing), str(self.mount), f"seed={dice.randrange(1 << 62)}", *self.options]
        self.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not os.path.ismount(self.mount):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"forgetfs does not run: {self.process.poll()}")
            time.sleep(0.005)

    def cuts(self):
        """[(sectors dropped, sectors kept, changes of names dropped, kept)], one for each cut."""
        path = self.backing / "cuts"
        return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []

    def cut(self):
        n = len(self.cuts())
        self.process.send_signal(signal.SIGUSR1)
        while len(self.cuts()) == n:
            time.sleep(0.001)

    def down(self):
        subprocess.run(["umount", "-l", str(self.mount)], check=True)
        self.process.wait(20)


def new_host(name, ip, **control):
    h = lab.Host(name, ip)
    h.control("resolvers", "127.0.0.1")
    for key, value in control.items():
        h.control(key, str(value))
    return h


def mails(dice):
    """Real mail, and some that zstd can't make smaller, so that segments are soon full."""
    large = [b"Subject: large\n\n" + base64.encodebytes(dice.randbytes(150000)) for _ in range(20)]
    return [m for _, m in lab.corpus()] + large


def until(condition, seconds, pause=0.05):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause)
    return bool(condition())


def settle(h, seconds=60):
    """Everything tried at once, until the queue is empty."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not h.queue():
            return True
        os.kill(h.start_pid(), signal.SIGALRM)
        time.sleep(0.2)
    return False


def recoveries(h):
    """How often recovery found what."""
    return dict(collections.Counter(re.findall(r"journal=recovered how=(\w+)", h.text())))


def sound(report, *hosts):
    """Nothing of ours found itself in a state that it holds to be impossible."""
    odd = [l for h in hosts for l in h.text().splitlines() if re.search(r"check failed: |Sanitizer|: runtime error: |how=\"signal (6|11)\"", l)]
    report.ok(not odd, f"no check failed {odd[:3]}")
