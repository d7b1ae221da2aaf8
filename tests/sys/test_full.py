#!/usr/bin/env python3
"""A full disk: mail is refused, what was taken is delivered, its outcomes are kept, and all is well again
when there is room, whoever made it: an administrator, or the deliveries.

The journal is on a small tmpfs; what is delivered goes elsewhere.  Arguments choose some of the cases."""
import base64
import collections
import os
import signal
import subprocess
import sys
import time

import lab
import traffic
from faulty import sound, until

MB = 1000 * 1000
STORM_SECONDS = 120 if "QUIRE_SOAK" in os.environ else 12


class FullHost:
    """A host whose home is on a tmpfs of so many MB, of which a ballast of some can be given back."""

    def __init__(self, name, ip, size=176, ballast=32, **control):
        where = lab.scratch / f"tmpfs-{name}"
        where.mkdir()
        lab.run("mount", "-t", "tmpfs", "-o", f"size={size}m,mode=755", "tmpfs", str(where))
        self.ballast = where / "ballast"
        self.ballast.write_bytes(b"\0" * ballast * MB)
        self.h = lab.Host(name, ip, where=where)
        self.name = name.encode()
        self.joe, self.sender = self.box("joe"), self.box("sender")
        for key, value in control.items():
            self.h.control(key, str(value))
        self.h.control("resolvers", "127.0.0.1")
        self.h.control("relayclients", "127.0.0.0/8")
        self.sent, self.failing, self.bounces = [], 0, True

    def box(self, local):
        box = self.h.user_maildir(local)
        elsewhere = lab.scratch / f"boxes-{self.h.name}-{local}"
        lab.run("cp", "-a", str(box), str(elsewhere))
        (self.h.home / "alias" / f".qmail-{local}").write_text(f"{elsewhere}/\n")
        return elsewhere

    def send(self, body, rcpt=b"joe"):
        c = traffic.SmtpClient(self.h.ip)
        try:
            return c.send(body, b"sender@" + self.name, [rcpt + b"@" + self.name])
        finally:
            c.close()

    def fill(self, dice):
        """Until mail is refused; what the server said then.  Every tenth message bounces."""
        body = base64.encodebytes(dice.randbytes(300000))
        c = traffic.SmtpClient(self.h.ip)
        for n in range(1000):
            rcpt = b"unknown" if n % 10 == 9 and self.bounces else b"joe"
            number = len(self.sent) + self.failing + 1
            try:
                c.send(lab.mark(number, b"Subject: fill\n\n" + body), b"sender@" + self.name, [rcpt + b"@" + self.name])
            except traffic.Refused as e:
                c.close()
                return e.args[0]
            if rcpt == b"joe":
                self.sent.append(number)
            else:
                self.failing += 1
        return b""

    def takes_mail(self):
        try:
            self.send(b"\nprobe\n", b"probe")
            return True
        except (traffic.Refused, EOFError, OSError):
            return False

    def arrived(self):
        return sorted(lab.unmark(d)[0] for d in lab.maildir(self.joe))

    def space(self):
        return self.h.status()["space"]

    def hup(self):
        os.kill(self.h.start_pid(), signal.SIGHUP)


def queue_program(h, body, sender, rcpt):
    """qmail-queue as it is meant: the message on 0, the envelope on 1.  Its exit code."""
    r, w = os.pipe()
    os.write(w, b"F" + sender + b"\0T" + rcpt + b"\0\0")
    os.close(w)
    return subprocess.run([lab.bin_dir() / "qmail-queue"], input=body, stdout=r, env=dict(os.environ, QUIRE_HOME=str(h.home)), timeout=60).returncode


def refusals(report, f):
    try:
        answer = f.send(b"\nx\n")
    except traffic.Refused as e:
        answer = e.args[0]
    report.ok(answer.startswith(b"452 4.3.1"), f"new mail is refused as long as the disk is full: {answer}")
    answers = lab.QmtpClient(f.h.ip).send(b"x\n", b"s@x.example", [b"joe@" + f.name])
    report.ok(answers[0].startswith(b"Z") and b"#4.3.1" in answers[0], f"by QMTP as well: {answers}")
    code = queue_program(f.h, b"\nx\n", b"s@x.example", b"joe@" + f.name)
    report.ok(code == 53, f"qmail-queue says so as well (exit {code})")


def deliveries(report, dice):
    """Deliveries alone lead out of a full disk."""
    f = FullHost("full.example", "127.0.0.60", concurrencylocal=0)
    f.box("probe")
    f.h.start()
    said = f.fill(dice)
    report.ok(said.startswith(b"452 4.3.1") and len(f.sent) > 20, f"a full disk refuses: {said} after {len(f.sent) + f.failing}")
    refusals(report, f)
    space = f.space()
    report.ok(space["room"] == "no mail" and space["reserve"] >= 3, f"status says so: {space}")
    report.ok(len(f.h.queue()) == len(f.sent) + f.failing, "what was taken is queued")
    # A start needs a segment, too: the reserve has it.
    f.h.kill()
    f.h.start()
    report.ok(until(lambda: f.space()["room"] == "no mail", 5) and len(f.h.queue()) == len(f.sent) + f.failing, "a start in the middle of it changes nothing")
    refusals(report, f)
    f.h.control("concurrencylocal", "10")
    f.hup()
    report.ok(f.h.wait_empty(60), f"deliveries go on: {f.space()}")
    report.ok(f.arrived() == f.sent, f"what was taken is delivered, once ({len(f.sent)})")
    notices = [d for d in lab.maildir(f.sender) if b"\n<unknown@full.example>:\n" in d]
    report.ok(len(notices) == f.failing, f"what failed meanwhile is reported ({len(notices)})")
    report.ok(until(f.takes_mail, 30, 0.2), f"mail is taken again, and nobody made room: {f.space()}")
    f.h.wait_empty(10)
    f.h.kill()
    f.h.start()
    time.sleep(0.5)
    report.ok(f.h.queue() == [] and f.arrived() == f.sent and len(lab.maildir(f.sender)) == f.failing,
              "after a kill nothing comes again: the outcomes are on the disk")
    again = f.fill(dice)
    report.ok(again == b"" or again.startswith(b"452 4.3.1"), f"it can be filled again: {len(f.sent)}, {again}")
    report.ok(f.h.wait_empty(60) and f.arrived() == f.sent, "and nothing is lost")
    sound(report, f.h)
    if report.failed:
        print(f.h.tail(60))
    f.h.stop("--now")


def returns(report, dice):
    """Space comes back while nothing can be delivered."""
    f = FullHost("back.example", "127.0.0.61", concurrencylocal=0)
    f.box("probe")
    f.h.start()
    said = f.fill(dice)
    report.ok(said.startswith(b"452 4.3.1"), f"a full disk refuses: {said}")
    before = f.space()
    f.ballast.unlink()
    report.ok(until(f.takes_mail, 20, 0.2), "when there is room again, mail is taken again, without a restart")
    report.ok(until(lambda: f.space()["room"] == "plenty", 10), f"status says so: {before} -> {f.space()}")
    f.h.control("concurrencylocal", "10")
    f.hup()
    report.ok(f.h.wait_empty(60) and f.arrived() == f.sent, f"all is delivered ({len(f.sent)})")
    sound(report, f.h)
    if report.failed:
        print(f.h.tail(60))
    f.h.stop()


def storm(report, dice):
    """Nothing can be delivered, and every attempt writes: outcomes must not fill what is left of the disk."""
    f = FullHost("storm.example", "127.0.0.62", concurrencylocal=20, outcomedelay=1)
    f.box("probe")
    f.bounces, away = False, f.joe.with_name("away")
    f.joe.rename(away)
    f.h.start()
    c = lab.QmtpClient(f.h.ip)
    for n in range(1, 2001):
        c.post(lab.mark(n, b"small\n"), b"sender@" + f.name, [b"joe@" + f.name])
        f.sent.append(n)
    report.ok(all(c.answer().startswith(b"K") for _ in f.sent), "2,000 small messages are taken, and deferred")
    c.close()
    said = f.fill(dice)
    report.ok(said.startswith(b"452 4.3.1"), f"then others, until the disk is full: {said}")
    rooms, before, least = collections.Counter(), f.h.status(), 99
    deadline = time.monotonic() + STORM_SECONDS
    while time.monotonic() < deadline:
        os.kill(f.h.start_pid(), signal.SIGALRM)
        time.sleep(0.2)
        space = f.space()
        rooms[space["room"]] += 1
        least = min(least, space["reserve"])
    after = f.h.status()
    written = after["ring"]["bytes_written"] - before["ring"]["bytes_written"]
    report.ok(after["deferred"] - before["deferred"] > 2000, f"{after['deferred'] - before['deferred']} attempts wrote {written / MB:.0f} MB; "
              f"room was {dict(rooms)}, at least {least} segments were in reserve")
    report.ok(len(f.h.queue()) == len(f.sent), f"nothing is forgotten ({len(f.sent)})")
    away.rename(f.joe)

    def nudge():
        os.kill(f.h.start_pid(), signal.SIGALRM)
        return f.h.queue() == []
    report.ok(until(nudge, 90, 0.5) and f.arrived() == f.sent, f"when it can be, all is delivered, once: {f.space()}")
    report.ok(until(f.takes_mail, 30, 0.2), f"and mail is taken again: {f.space()}")
    sound(report, f.h)
    if report.failed:
        print(f.h.tail(60))
    f.h.stop("--now")


CASES = {"deliveries": deliveries, "returns": returns, "storm": storm}


def main():
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    for name in sys.argv[1:] or CASES:
        began = time.monotonic()
        try:
            CASES[name](report, dice)
        except Exception:
            for h in lab.Host.running:
                print(h.tail(60), h.status(), sep="\n", flush=True)
            raise
        print(f"# {name}: {time.monotonic() - began:.1f} s", flush=True)
    report.end()


main()
