#!/usr/bin/env python3
"""Two journalds on one journal: there is never more than one.

Two hosts with homes of their own share a journal, as an administrator's mistake would have it (a
copied unit, a mount that is there twice)."""
import fcntl
import os
import signal
import time

import lab
import traffic

REFUSED = "journal is in use by another quire-journald"
RACES = 60 if "QUIRE_SOAK" in os.environ else 8


def until(condition, seconds, pause=0.05):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(pause)
    return bool(condition())


def serves(h):
    try:
        traffic.SmtpClient(h.ip, timeout=2).close()
        return True
    except (OSError, EOFError, traffic.Refused):
        return False


def send(h):
    c = traffic.SmtpClient(h.ip, timeout=5)
    c.send(b"Subject: lock\n\nx\n", b"s@x.example", [b"joe@a.example"])
    c.close()


def main():
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    a, b = lab.Host("a.example", "127.0.0.40"), lab.Host("b.example", "127.0.0.41")
    for h in (a, b):
        h.control("resolvers", "127.0.0.1")
        h.control("concurrencylocal", "0")
    b.control("locals", "a.example")
    b.control("rcpthosts", "a.example")
    lab.run("mount", "--bind", str(a.home / "journal"), str(b.home / "journal"))

    a.start()
    send(a)
    began = time.monotonic()
    done = b.quire("start", "--detach", check=False)
    seconds = time.monotonic() - began
    lines = done.stdout.splitlines()
    report.ok(done.returncode == 111 and len(lines) == 1 and str(b.home / "journal" / "0") in lines[0] and "journald" in lines[0],
              f"the second is refused: exit {done.returncode}, {lines}")
    report.ok(seconds < 5 and not serves(b) and not b.pids(), f"after {seconds:.1f} s it is gone, with all of its processes")
    send(a)
    report.ok(len(a.queue()) == 2, "the first did not notice")

    # Everything of the first dies at once: the second may have the journal as soon as the kernel lets go.
    sent = 2
    for n in range(RACES):
        first, second = (a, b) if n % 2 == 0 else (b, a)
        first.kill()
        done = second.quire("start", "--detach", check=False)
        if done.returncode:
            break
        lab.Host.running.append(second)
        send(second)
        sent += 1
    report.ok(done.returncode == 0, f"{n + 1} times killed and taken over at once: {done.stdout.strip()!r}")
    holder, other = (a, b) if a.start_pid() and lab.alive(a.start_pid()) else (b, a)
    report.ok(len(holder.queue()) == sent, f"the queue has all {sent}")

    # Only journald dies: its next one and the other's race for the journal.
    won = {a.name: 0, b.name: 0}
    for n in range(RACES):
        said = holder.text().count(REFUSED)
        os.kill(holder.pids("quire-journald")[0], signal.SIGKILL)
        time.sleep(dice.choice([0, 0.05, 0.1, 0.15]))
        done = other.quire("start", "--detach", check=False)
        if done.returncode == 0:
            # The other has it; the one that was first tries in vain from now on.
            lab.Host.running.append(other)
            if not until(lambda: holder.text().count(REFUSED) > said, 15):
                break
            holder.kill()
            holder, other = other, holder
        elif REFUSED not in done.stdout:
            break
        if not until(lambda: serves(holder), 20):
            break
        send(holder)
        sent += 1
        won[holder.name] += 1
    report.ok(sum(won.values()) == RACES, f"{RACES} races, of which each had one winner and one that was refused: {won}")
    report.ok(len(holder.queue()) == sent, f"the queue has all {sent}")

    # The lock is all: whatever holds it keeps journald out, and its end lets journald in.
    holder.stop("--now")
    lock = a.home / "journal" / "0" / "lock"
    with open(lock, "r+b") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        done = holder.quire("start", "--detach", check=False)
    report.ok(done.returncode == 111, f"a lock that somebody holds keeps journald out: {done.stdout.strip()!r}")
    holder.start()
    report.ok(len(holder.queue()) == sent, "and its end lets journald in")
    if report.failed:
        print(a.tail(30), b.tail(30), sep="\n----\n")
    holder.stop("--now")
    report.end()


main()
