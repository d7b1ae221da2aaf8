#!/usr/bin/env python3
"""What the journal's disk can do wrong, on the real machine: it forgets what was not synced at a power
cut, and its calls fail.

forget   the journal is on forgetfs (tests/sys/forgetfs.c), and the power goes again and again
lie      the same on a disk that says "synced" and is not: it must be found, or forget has no value
inject   strace makes journald's calls fail (on the epoll loop: it does not see what the ring does)
latch    two failed writes in a minute: no new mail until somebody has looked, and deliveries go on

Arguments choose some of the cases."""
import collections
import os
import signal
import subprocess
import sys
import time

import lab
import traffic
from faulty import ForgetFs, mails, new_host, recoveries, settle, sound, until

SOAK = "QUIRE_SOAK" in os.environ
CUTS = int(os.environ.get("QUIRE_CUTS", 300 if SOAK else 30))
LOOPS = ("uring", "epoll")


def power_cuts(report, dice, name, ip, cuts, *options):
    """Runs until the power goes, `cuts` times; the Audit of all of it, and the host."""
    h = new_host(name, ip)
    box, load, why = h.user_maildir("joe"), None, []
    # Some waits for the end of it all, so that there is something to copy out of nearly dead segments.
    late = h.user_maildir("late")
    rounds, aside = 0, late.rename(late.with_name("aside"))
    disk = ForgetFs(h.home / "journal" / "0", "forget-" + name, *options)
    for n in range(cuts):
        disk.up(dice)
        # Every other time nothing is delivered: what is in the queue then has to outlive several cuts.
        h.control("concurrencylocal", "0" if n % 2 else "10")
        try:
            h.start(QUIRE_LOOP=dice.choice(LOOPS))
        except RuntimeError as e:
            why.append(str(e).splitlines()[0])
            break
        if not load:
            load = traffic.Load(dice, h, [b"joe@" + name.encode()] * 15 + [b"late@" + name.encode()], mails=mails(dice))
        time.sleep(dice.uniform(0.1, 0.4))
        compacting = subprocess.Popen([lab.bin_dir() / "quire", "journal", "compact", "--home", str(h.home), "--quiet"],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(dice.uniform(0, 0.3))
        try:
            rounds += h.status()["space"]["rounds"]
        except (RuntimeError, ValueError):
            pass
        disk.cut()
        time.sleep(dice.uniform(0, 0.05))   # an answer given now was a lie
        h.kill()
        compacting.kill()
        compacting.wait()
        disk.down()
    aside.rename(late)
    if load:
        load.stop(0)
    if not why:
        disk.up(dice)
        h.control("concurrencylocal", "20")
        try:
            h.start()
            settle(h)
        except RuntimeError as e:
            why.append(str(e).splitlines()[0])
    return h, disk, traffic.Audit(load.ledger if load else traffic.Ledger(), [box, late]), why, rounds


def forget(report, dice):
    h, disk, audit, why, rounds = power_cuts(report, dice, "forget.example", "127.0.0.30", CUTS, "delay=1000", "keep=40")
    cuts = disk.cuts()
    hit, torn = sum(c[0] + c[2] > 0 for c in cuts), sum(c[0] > 0 and c[1] > 0 for c in cuts)
    report.ok(not why and len(cuts) == CUTS, f"{len(cuts)} power cuts, and a start after each {why}")
    report.ok(hit > CUTS / 3 and torn > 0, f"{hit} of them took something away, {torn} left a part of it "
              f"({sum(c[0] for c in cuts)} sectors, {sum(c[2] for c in cuts)} changes of names)")
    report.ok(rounds > 0, f"live mail was copied out of nearly dead segments {rounds} times before a cut")
    audit.say(report)
    report.ok(len(audit.ledger.kept) > CUTS * 5 and not why and h.queue() == [], f"the queue is empty ({recoveries(h)})")
    sound(report, h)
    if report.failed:
        print(h.tail(100))
    h.stop("--now")
    disk.down()


def lie(report, dice):
    """One in five syncs is not done: mail that was promised is gone, and this program sees it."""
    for n in range(5):
        h, disk, audit, why, _ = power_cuts(report, dice, f"lie{n}.example", f"127.0.0.{31 + n}", 2, "delay=1000", "lie=20")
        found = len(audit.lost) + audit.wrong
        h.kill()
        disk.down()
        if found:
            break
    report.ok(found, f"a disk that only says that it synced is found out ({found} of {len(audit.ledger.kept)} lost, {why})")


# ---- calls that fail

# journald's own calls: writes of batches and heads, fills of spares, directories, names.
FAULTS = [(call, error) for error in ("EIO", "ENOSPC") for call in ("pwritev2", "fsync", "openat", "renameat")]

WRAPPER = """#!/bin/sh
spec=$(cat {spec})
[ -n "$spec" ] || exec {real} "$@"
exec strace -D -f -qq -o {log}.$$ $spec {real} "$@"
"""


class Injector:
    """Programs of its own, whose journald runs below strace while there is a spec."""

    def __init__(self):
        bins = lab.bin_dir()
        real = bins / "real"
        real.mkdir()
        os.rename(bins / "quire-journald", real / "quire-journald")
        self.logs = lab.scratch / "strace"
        self.logs.mkdir()
        self.logs.chmod(0o777)
        self.spec = self.logs / "spec"
        self.set("")
        wrapper = bins / "quire-journald"
        wrapper.write_text(WRAPPER.format(spec=self.spec, real=real / "quire-journald", log=self.logs / "log"))
        wrapper.chmod(0o755)

    def set(self, spec):
        self.spec.write_text(spec + "\n")
        self.spec.chmod(0o644)

    def has_fired(self):
        return any("(INJECTED)" in path.read_text(errors="replace") for path in self.logs.glob("log.*"))

    def fired(self):
        """Calls that were made to fail since the last look."""
        n = 0
        for path in self.logs.glob("log.*"):
            n += path.read_text(errors="replace").count("(INJECTED)")
            path.unlink()
        return n


def strike(injector, h, call, error, first, attach):
    """From now on some of journald's calls fail: those of the one that runs, or of the next ones from their first call on."""
    spec = f"-e trace={call} -e inject={call}:error={error}:when={first}"
    pid = h.pids("quire-journald")[0]
    if attach:
        return subprocess.Popen(["strace", "-f", "-qq", "-o", str(injector.logs / "log.attached"), *spec.split(), "-p", str(pid)])
    injector.set(spec)
    os.kill(pid, signal.SIGKILL)
    return None


def inject(report, dice):
    injector, h = Injector(), new_host("inject.example", "127.0.0.36")
    box, texts = h.user_maildir("joe"), mails(dice)
    ledger, fired = traffic.Ledger(), collections.Counter()
    for call, error in FAULTS * (8 if SOAK else 1):
        for attach in (False, True):
            # What is delivered at once can't be lost any more: mostly the queue has to keep it.
            h.control("concurrencylocal", dice.choice(["0", "0", "10"]))
            h.start(QUIRE_LOOP="epoll")
            load = traffic.Load(dice, h, [b"joe@inject.example"], ledger=ledger, mails=texts)
            time.sleep(0.1)
            # Each thread counts its own calls.  The loader opens some files, and is not tested here.
            first = (8 if call == "openat" and not attach else 1) + dice.randrange(20 if call == "pwritev2" else 2)
            tracer = strike(injector, h, call, error, f"{first}+{dice.randrange(1, 20)}", attach)
            until(injector.has_fired, 4)
            time.sleep(dice.uniform(0, 1))   # with mail that comes and comes
            injector.set("")
            load.stop(0)
            h.kill()
            if tracer:
                tracer.wait(10)
            fired[f"{call} {error} {'running' if attach else 'from its start'}"] += injector.fired()
    for name, n in fired.items():
        print(f"# fired {n:4} times: {name}", flush=True)
    report.ok(all(fired.values()), f"{sum(fired.values())} calls failed, of each kind some")
    h.control("concurrencylocal", "20")
    h.start(QUIRE_LOOP="epoll")
    report.ok(settle(h), "the queue is empty at the end")
    traffic.Audit(ledger, [box]).say(report)
    report.ok(len(ledger.kept) > 100, f"{len(ledger.kept)} messages were answered yes")
    sound(report, h)
    if report.failed:
        print(h.tail(100))
    h.stop("--now")


def answer(h):
    """What the server says to a message."""
    try:
        c = traffic.SmtpClient(h.ip, timeout=5)
        return c.send(b"\nx\n", b"s@x.example", [b"joe@" + h.name.encode()])
    except traffic.Refused as e:
        return e.args[0]
    except (OSError, EOFError):
        return b""


def is_traced(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return "TracerPid:\t0" not in f.read()
    except OSError:
        return True     # it was, and what it wrote just then failed


def fail_a_write(h, logs):
    """The next write of the journald that runs fails, and so it ends."""
    pid = h.pids("quire-journald")[0]
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", str(logs), "-e", "trace=pwritev2", "-e", "inject=pwritev2:error=EIO:when=1", "-p", str(pid)])
    until(lambda: not lab.alive(pid) or is_traced(pid), 5)
    # Its threads are traced a little later: the first writes may still succeed.
    deadline = time.monotonic() + 30
    while lab.alive(pid) and time.monotonic() < deadline:
        answer(h)
        time.sleep(0.2)
    gone = not lab.alive(pid)
    if not gone:
        tracer.terminate()
    tracer.wait(60)
    return gone


def latch(report, dice):
    h = new_host("latch.example", "127.0.0.37")
    box = h.user_maildir("joe")
    aside = box.with_name("aside")
    box.rename(aside)                   # nobody can deliver to it
    h.start(QUIRE_LOOP="epoll")
    answers = [answer(h) for _ in range(10)]
    report.ok(all(a.startswith(b"250") for a in answers), "ten messages are taken, and deferred")
    report.ok(fail_a_write(h, lab.scratch / "latch1"), "a write fails: journald ends")
    report.ok(until(lambda: answer(h).startswith(b"250"), 20, 0.2), "after the first time mail is taken again")
    report.ok(fail_a_write(h, lab.scratch / "latch2"), "a write fails again")
    report.ok(until(lambda: answer(h).startswith(b"452 4.3.1"), 20, 0.2) and h.status()["space"]["latched"], f"now new mail is refused, and status says why: {answer(h)}")
    waiting = len(h.queue())
    aside.rename(box)
    os.kill(h.start_pid(), signal.SIGALRM)
    report.ok(until(lambda: not h.queue(), 20) and len(lab.maildir(box)) == waiting >= 11, f"deliveries go on ({waiting})")
    report.ok(answer(h).startswith(b"452 4.3.1"), "and mail is still refused")
    os.kill(h.start_pid(), signal.SIGHUP)
    report.ok(until(lambda: answer(h).startswith(b"250"), 20, 0.2) and not h.status()["space"]["latched"], "HUP ends it")
    sound(report, h)
    if report.failed:
        print("\n".join(l for l in h.text().splitlines() if l.startswith(("journald", "quire-start"))))
    h.stop("--now")


CASES = {"forget": forget, "lie": lie, "inject": inject, "latch": latch}


def main():
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    for name in sys.argv[1:] or CASES:
        began = time.monotonic()
        CASES[name](report, dice)
        print(f"# {name}: {time.monotonic() - began:.1f} s", flush=True)
    report.end()


main()
