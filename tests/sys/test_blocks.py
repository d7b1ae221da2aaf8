#!/usr/bin/env python3
"""The journal on real file systems whose disk is a loop device, so that blocks fail and not calls: what
strace can't do to io_uring.  Needs root, for loop devices.

thin   the disk is larger than what is behind it (a sparse file on a small tmpfs): writes of blocks that
       were promised fail, ENOSPC
cut    the disk is a file on forgetfs: the power goes, EIO for everybody, and what no flush had
       confirmed is gone, sector by sector

Both on ext4 and on xfs.  Arguments choose some of the cases."""
import collections
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import lab
import traffic
from faulty import ForgetFs, mails, new_host, recoveries, settle, sound, until

SOAK = "QUIRE_SOAK" in os.environ
ROUNDS = 25 if SOAK else 4
CUTS = 60 if SOAK else 6
DISK_BYTES = 512 << 20        # as the file system sees it; xfs is never smaller than 300 MB
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F", "-J", "size=8"], "xfs": ["mkfs.xfs", "-q", "-f"]}
FAILED = re.compile(r"(No space left on device|Input/output error|Read-only file system)")


class Disk:
    """A file with a file system in it, mounted as home/journal/0."""

    def __init__(self, host, image, kind):
        self.mount, self.image, self.kind = host.home / "journal" / "0", image, kind
        owner = self.mount.stat()
        with open(image, "wb") as f:
            f.truncate(DISK_BYTES)
        program, *args = MKFS[kind]
        # Where the machine has none: the unpacked one, with its libraries.
        libs = ":".join(str(p) for p in (*lab.PEERS.glob("usr/lib/*-linux-gnu"), *lab.PEERS.glob("lib/*-linux-gnu")))
        if not shutil.which(program):
            program = str(lab.PEERS / "sbin" / program)
        lab.run(program, *args, str(image), env=dict(os.environ, LD_LIBRARY_PATH=libs), stdout=subprocess.DEVNULL)
        self.up()
        os.chown(self.mount, owner.st_uid, owner.st_gid)
        os.chmod(self.mount, owner.st_mode & 0o777)
        os.sync()

    def up(self):
        # A device that is just being taken apart may still have the file.
        argv = ["mount", "-o", "loop", "-t", self.kind, str(self.image), str(self.mount)]
        if not until(lambda: subprocess.run(argv, stderr=subprocess.DEVNULL).returncode == 0, 60, 0.1):
            lab.run(*argv)
        # Linux' loop driver calls a write that was cut short for want of space a success.  A request of one page
        # can't be cut: it is stored, or it fails.
        for line in subprocess.run(["losetup", "-n", "-O", "NAME", "-j", str(self.image)], capture_output=True, text=True).stdout.split():
            pathlib.Path(f"/sys/block/{pathlib.Path(line).name}/queue/max_sectors_kb").write_text("4")

    def down(self, lazy=False):
        # A ring lets go of its files some ms after the end of its process.
        for _ in range(50):
            if subprocess.run(["umount", *(["-l"] if lazy else []), str(self.mount)], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.mount} can't be unmounted")


def sends(h):
    try:
        c = traffic.SmtpClient(h.ip, timeout=5)
        c.send(b"\nprobe\n", b"s@x.example", [b"probe@" + h.name.encode()])
        c.close()
        return True
    except (OSError, EOFError, traffic.Refused):
        return False


def thin(report, dice, kind, ip):
    where = lab.scratch / f"tmpfs-{kind}"
    where.mkdir()
    lab.run("mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(where))
    name = f"{kind}.thin.example"
    h = new_host(name, ip)
    box, ledger, texts, ballast = h.user_maildir("joe"), traffic.Ledger(), mails(dice), where / "ballast"
    h.user_maildir("probe")
    disk = Disk(h, where / "disk", kind)
    failed, again, broken = collections.Counter(), 0, 0
    for n in range(ROUNDS):
        h.control("concurrencylocal", dice.choice(["0", "10"]))
        h.start(QUIRE_LOOP="uring")
        load = traffic.Load(dice, h, [b"joe@" + name.encode()], ledger=ledger, mails=texts)
        time.sleep(dice.uniform(0.1, 0.4))
        load.stop(1)
        # What is zeros on the disk is not behind it any more: the thin disk of a provider who sold too much.
        h.stop("--now")
        disk.down()
        lab.run("fallocate", "--dig-holes", str(disk.image))
        disk.up()
        h.start(QUIRE_LOOP="uring")
        before = len(h.text())
        load = traffic.Load(dice, h, [b"joe@" + name.encode()], ledger=ledger, mails=texts)
        time.sleep(dice.uniform(0, 0.3))
        with open(ballast, "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 65536):
                    pass
            except OSError:
                pass
        until(lambda: FAILED.search(h.text()[before:]), 4)
        time.sleep(dice.uniform(0, 0.5))
        failed.update(re.sub(r"/\S*/", "", l) for l in h.text()[before:].splitlines() if FAILED.search(l))
        ballast.unlink()
        load.stop(0)
        # A file system that failed inside itself needs its administrator; else HUP is enough.
        read_only = any(l.split()[1] == str(disk.mount) and "ro" in l.split()[3].split(",") for l in pathlib.Path("/proc/mounts").read_text().splitlines())
        if not read_only and lab.alive(h.start_pid()):
            os.kill(h.start_pid(), signal.SIGHUP)
            until(lambda: sends(h), 15, 0.3)
        if read_only or not sends(h):
            broken += 1
            h.kill()
            disk.down()
            disk.up()
            h.start()
            again += until(lambda: sends(h), 15, 0.3)
            h.kill()
        else:
            again += 1
            h.stop("--now")
        disk.down()
        disk.up()
    for line, times in failed.items():
        print(f"# {times} times: {line}", flush=True)
    report.ok(failed.total() >= ROUNDS, f"{kind}: something failed {failed.total()} times in {ROUNDS} rounds")
    report.ok(again == ROUNDS, f"{kind}: when space was back, mail was taken {again} times ({broken} of them after a remount)")
    finish(report, h, disk, box, ledger)


def finish(report, h, disk, box, ledger):
    h.control("concurrencylocal", "20")
    h.start()
    report.ok(settle(h), f"{disk.kind}: the queue is empty ({recoveries(h)})")
    traffic.Audit(ledger, [box]).say(report)
    report.ok(len(ledger.kept) > 100, f"{disk.kind}: {len(ledger.kept)} messages were answered yes")
    sound(report, h)
    if report.failed:
        print(h.tail(100))
    h.stop("--now")
    disk.down()


def cut(report, dice, kind, ip):
    name = f"{kind}.cut.example"
    h = new_host(name, ip)
    box, ledger, texts = h.user_maildir("joe"), traffic.Ledger(), mails(dice)
    where = lab.scratch / f"forget-{kind}"
    where.mkdir()
    forget = ForgetFs(where, f"backing-{kind}", "delay=2000", "keep=40")
    forget.up(dice)
    disk, load, before = Disk(h, where / "disk", kind), None, 0
    for n in range(CUTS):
        h.control("concurrencylocal", "0" if n % 2 else "10")
        h.start(QUIRE_LOOP="uring")
        if not load:
            load = traffic.Load(dice, h, [b"joe@" + name.encode()], senders=12, pause=0.003, ledger=ledger, mails=texts)
        time.sleep(dice.uniform(0.2, 0.8))
        forget.cut()
        time.sleep(dice.uniform(0, 0.05))
        h.kill()
        disk.down(lazy=True)
        forget.down()
        forget.up(dice)
        disk.up()
    load.stop(0)
    cuts = forget.cuts()
    report.ok(sum(c[0] > 0 for c in cuts) > 0 and len(cuts) == CUTS, f"{kind}: {sum(c[0] > 0 for c in cuts)} of {len(cuts)} power cuts took something away "
              f"({sum(c[0] for c in cuts)} sectors), a start after each")
    failed = len(FAILED.findall(h.text()))
    report.ok(failed > 0, f"{kind}: journald met {failed} errors before it was killed")
    finish(report, h, disk, box, ledger)
    forget.down()


# A loop device over a file system that has just been cut off is not always let go of by Linux, and then the next mount fails:
# only the long run has these.
CASES = {f"{case.__name__}-{kind}": (case, kind) for case in ((thin, cut) if os.environ.get("QUIRE_SOAK") else (thin,)) for kind in MKFS}


def main():
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    if not report.ok(lab.privileged(), "this is root, who may use loop devices"):
        report.end()
    for n, name in enumerate(CASES):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        began = time.monotonic()
        case, kind = CASES[name]
        case(report, dice, kind, f"127.0.0.{50 + n}")
        print(f"# {name}: {time.monotonic() - began:.1f} s", flush=True)
    report.end()


main()
