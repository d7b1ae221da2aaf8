#!/usr/bin/env python3
"""The edges, end to end: large mail, many recipients, held queues, a stop in the middle, a
damaged journal, bounces, clients that vanish, other machines than ours.

Arguments choose some of the cases by their number."""
import base64
import collections
import ctypes
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import lab
import traffic

MB = 1000 * 1000
ZONES = {
    "b.example": "@ MX 12801 mx\nmx A 127.0.0.3\n",
    "sink.example": "@ MX 10 mx\nmx A 127.0.0.4\n",
    "bulk.example": "* MX 12801 mx.bulk.example.\nmx A 127.0.0.5\n",
    "slow.example": "@ MX 10 mx\nmx A 127.0.0.6\n",
    "dead.example": "@ MX 10 mx\n* MX 10 mx\nmx A 127.0.0.7\n",
}


def until(condition, seconds=20, pause=0.05):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause)
    return bool(condition())


class SmtpSink:
    """Takes mail and keeps what came; answers the dot late, or recipients with a refusal, where told to."""

    def __init__(self, ip, port=25, dot_seconds=0, refused=()):
        self.got, self.dot_seconds, self.refused = [], dot_seconds, refused
        self.in_data = 0
        self.listener = socket.create_server((ip, port))
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            conn, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            self.talk(conn, conn.makefile("rb", buffering=1 << 20))
        except OSError:
            pass
        conn.close()

    def talk(self, conn, f):
        say = lambda line: conn.sendall(line + b"\r\n")
        say(b"220 sink")
        rcpts = []
        for line in f:
            verb = line[:4].upper()
            if verb == b"EHLO":
                say(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME")
            elif verb == b"RCPT":
                address = line[line.index(b"<") + 1:line.index(b">")]
                if address in self.refused:
                    say(b"550 5.1.1 nobody of that name")
                else:
                    rcpts.append(address)
                    say(b"250 ok")
            elif verb == b"DATA":
                say(b"354 go")
                lines = []
                while not lines or lines[-1] != b".\r\n":
                    lines.append(f.readline())
                    if not lines[-1]:
                        return
                self.in_data += 1
                time.sleep(self.dot_seconds)
                self.got.append((rcpts, b"".join(l[1:] if l.startswith(b".") else l for l in lines[:-1])))
                rcpts = []
                say(b"250 kept")
            elif verb == b"QUIT":
                return say(b"221 bye")
            else:
                say(b"250 ok")


class QmtpSink:
    """Takes packages and counts each recipient."""

    def __init__(self, ip, port=209):
        self.rcpts, self.packages, self.lock = collections.Counter(), 0, threading.Lock()
        self.listener = socket.create_server((ip, port), backlog=500)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            conn, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    @staticmethod
    def netstring(f):
        digits = b""
        while not digits.endswith(b":"):
            c = f.read(1)
            if not c:
                raise EOFError
            digits += c
        data = f.read(int(digits[:-1]) + 1)
        return data[:-1]

    def serve(self, conn):
        f = conn.makefile("rb")
        try:
            while True:
                self.netstring(f), self.netstring(f)
                rest, names = self.netstring(f), []
                while rest:
                    n, rest = rest.split(b":", 1)
                    names.append(rest[:int(n)])
                    rest = rest[int(n) + 1:]
                with self.lock:
                    self.packages += 1
                    self.rcpts.update(names)
                conn.sendall(lab.netstring(b"Kok") * len(names))
        except (EOFError, OSError):
            conn.close()


def host(name, ip, **control):
    h = lab.Host(name, ip)
    h.control("resolvers", "127.0.0.1")
    h.control("relayclients", "127.0.0.0/8")
    for key, value in control.items():
        h.control(key, str(value))
    return h


def hup(h, wanted="event=\"control files reread\""):
    """Until the log says how it ended."""
    n = h.text().count(wanted)
    os.kill(h.start_pid(), signal.SIGHUP)
    return until(lambda: h.text().count(wanted) > n, 5)


def send_soon(h, port):
    """What the server says to a message; a connection that the old front end accepted last hears 421."""
    while True:
        try:
            return traffic.SmtpClient(h.ip, port, timeout=5).send(b"\nx\n", b"s@x.example", [b"joe@" + h.name.encode()])[:3]
        except traffic.Refused as e:
            if not e.args[0].startswith(b"421"):
                raise


def queue_program(h, body, sender, rcpts):
    """qmail-queue as it is meant: the message on 0, the envelope on 1."""
    r, w = os.pipe()
    envelope = b"F" + sender + b"\0" + b"".join(b"T" + x + b"\0" for x in rcpts) + b"\0"
    feeder = threading.Thread(target=lambda: (os.fdopen(w, "wb").write(envelope)))
    p = subprocess.Popen([lab.bin_dir() / "qmail-queue"], stdin=subprocess.PIPE, stdout=r, close_fds=True,
                         env=dict(os.environ, QUIRE_HOME=str(h.home)))
    os.close(r)
    feeder.start()
    p.stdin.write(body)
    p.stdin.close()
    feeder.join()
    return p.wait(60)


def high_water(h):
    """The most memory of each program that is running, in bytes."""
    top = collections.Counter()
    for pid in h.pids():
        try:
            name = open(f"/proc/{pid}/comm").read().strip()
            for line in open(f"/proc/{pid}/status"):
                if line.startswith("VmHWM:"):
                    top[name] = max(top[name], int(line.split()[1]) * 1024)
        except OSError:
            pass
    return top


def show(*hosts):
    for h in hosts:
        print(f"---- {h.name}", h.tail(60), sep="\n", flush=True)


# ---- 1

def large_mail(report):
    a, b = host("a.example", "127.0.0.2"), host("b.example", "127.0.0.3")
    joe, ann = a.user_maildir("joe"), b.user_maildir("ann")
    sink = SmtpSink("127.0.0.4")
    a.start()
    b.start()
    dice = random.Random(1)
    body = b"Subject: large\n\n" + base64.encodebytes(dice.randbytes(30 * MB))
    rcpts = [b"joe@a.example", b"ann@b.example", b"x@sink.example"]
    sent = {n: lab.mark(n, body) for n in (1, 2)}
    c = traffic.SmtpClient(a.ip, timeout=60)
    c.send(sent[1], b"s@a.example", rcpts)
    q = lab.QmtpClient(a.ip)
    answers = q.send(sent[2], b"s@a.example", rcpts)
    report.ok(all(x.startswith(b"K") for x in answers), f"{len(body) / MB:.0f} MB went in by SMTP and by QMTP")
    report.ok(a.wait_empty(30) and b.wait_empty(30), "large mail leaves the queues")
    for name, box in (("local", joe), ("QMTP", ann)):
        got = {n: text for n, text, _ in map(lab.unmark, lab.maildir(box))}
        report.ok(len(lab.maildir(box)) == 2 and got == sent, f"large mail: {name} bytes are exact")
    got = {int(d[d.index(b"X-Lab: ") + 7:][:1]): d[d.index(b"X-Lab: "):].replace(b"\r\n", b"\n") for _, d in sink.got}
    report.ok(len(sink.got) == 2 and got == sent, "large mail: SMTP bytes are exact")
    for h in (a, b):
        tops = high_water(h)
        # A local body is a file in memory, shared by all who deliver it: its pages are not the worker's.
        del tops["quire-local"]
        text = ", ".join(f"{k[6:]} {v / MB:.1f}" for k, v in sorted(tops.items()))
        # The journal's ring (4 MB here) is shared by journald, sched and body.
        report.ok(max(tops.values()) < 24 * MB, f"large mail: memory of {h.name} in MB: {text}")
    if report.failed:
        show(a, b)
    a.stop()
    b.stop()


# ---- 2

def many_recipients(report):
    a, sink = host("many.example", "127.0.0.12"), QmtpSink("127.0.0.5")
    a.start()
    rcpts = [b"user%d@d%d.bulk.example" % (i, i % 500) for i in range(50000)]
    began = time.monotonic()
    code = queue_program(a, b"Subject: list\n\nto all\n", b"list@many.example", rcpts)
    report.ok(code == 0, f"50,000 recipients go in by qmail-queue (exit {code}, {time.monotonic() - began:.1f} s)")
    empty = a.wait_empty(40)
    seconds = time.monotonic() - began
    report.ok(empty and sink.rcpts == collections.Counter(rcpts),
              f"each of {len(sink.rcpts)} came once ({sum(sink.rcpts.values())}), in {sink.packages} packages, {seconds:.1f} s")
    s = a.status()
    report.ok(s["delivered"] == 50000 and s["recipients"] == 0 and s["destinations"] == 0, "status agrees")
    if report.failed:
        show(a)
    a.stop()


# ---- 3

def held_and_reread(report):
    a = host("hold.example", "127.0.0.13", concurrencylocal=0, concurrencyremote=0)
    joe, sink = a.user_maildir("joe"), SmtpSink("127.0.0.4", 2525)
    a.control("smtproutes", "far.example:127.0.0.4:2525")
    a.start()
    c = traffic.SmtpClient(a.ip)
    for _ in range(5):
        c.send(b"Subject: held\n\nx\n", b"s@x.example", [b"joe@hold.example", b"y@far.example"])
    time.sleep(0.5)
    q = a.queue()
    report.ok(len(q) == 5 and all(len(m["recipients"]) == 2 and m["queue_name"] == "hold" for m in q) and not lab.maildir(joe),
              "concurrency 0 holds mail on both channels")
    (a.home / "control" / "concurrencylocal").write_text("10\n")
    (a.home / "control" / "relayclients").write_text("127.0.0.0/99\n")
    report.ok(hup(a, "control files not reread") and "control/relayclients:1" in a.text() and
              a.status()["local"]["limit"] == 0 and len(a.queue()) == 5, "a bad control file is named, and nothing changes")
    a.control("relayclients", "127.0.0.0/8")
    report.ok(hup(a) and until(lambda: len(lab.maildir(joe)) == 5, 5), "HUP releases the local channel")
    report.ok(all([r["address"] for r in m["recipients"]] == ["y@far.example"] for m in a.queue()) and len(a.queue()) == 5,
              "and the remote one is still held")
    a.control("concurrencyremote", "20")
    report.ok(hup(a) and a.wait_empty(5) and len(sink.got) == 5, "HUP releases the remote channel")

    # Another port beside the old one: the old one never refuses.
    refused, stop = [], threading.Event()

    def knock():
        while not stop.is_set():
            try:
                with socket.create_connection((a.ip, 25), timeout=5) as s:
                    # 421 from the old one, which is on its way out; but nobody serves who can't take mail.
                    s.sendall(b"MAIL FROM:<s@x.example>\r\nQUIT\r\n")
                    lines = s.makefile("rb").read().splitlines()
                    if not lines or any(l[:3] not in (b"220", b"250", b"221", b"421") for l in lines):
                        refused.append(f"heard {lines}")
            except OSError as e:
                refused.append(str(e))

    t = threading.Thread(target=knock)
    t.start()
    for lines in (["127.0.0.13:25", "127.0.0.13:2526"], ["127.0.0.13:25"], ["127.0.0.13:25", "127.0.0.13:2526"]):
        a.control("smtplisten", *lines)
        report.ok(hup(a), f"HUP with {len(lines)} listeners")
        time.sleep(0.2)
    stop.set()
    t.join()
    report.ok(not refused, f"a listener that is kept never refuses {refused[:3]}")
    report.ok(send_soon(a, 2526) == b"250", "the new one takes mail")
    a.control("smtplisten", "127.0.0.13:2526")
    kept = traffic.SmtpClient(a.ip)
    for line, code in ((b"MAIL FROM:<s@x.example>", b"250"), (b"RCPT TO:<joe@hold.example>", b"250"), (b"DATA", b"354")):
        kept.command(line, code)
    hup(a)
    report.ok(kept.command(b"\r\nx\r\n.", b"250"), "a message on its way over the old port goes on")
    with socket.socket() as s:
        gone = until(lambda: s.connect_ex((a.ip, 25)) != 0, 3)
    report.ok(gone and traffic.SmtpClient(a.ip, 2526), "the listener moved to the other port")
    with socket.create_server(("127.0.0.13", 2527)):
        a.control("smtplisten", "127.0.0.13:2526", "127.0.0.13:2527")
        report.ok(hup(a, "control files not reread: control/smtplisten:2: 127.0.0.13:2527: Address already in use") and traffic.SmtpClient(a.ip, 2526), "a port that is taken changes nothing, and is named")
    # One that stays in the middle of a message may not keep the port from its next front end.
    stalled = traffic.SmtpClient(a.ip, 2526)
    stalled.sock.sendall(b"MAIL FROM:<s@x.example>\r\n")
    stalled.expect(b"250")
    answers = []
    for _ in range(3):
        hup(a)
        answers.append(send_soon(a, 2526))
    report.ok(answers == [b"250"] * 3, f"HUP, again and again, with a client that stalls: {answers}")
    kept.close()
    if report.failed:
        show(a)
    a.stop()


# ---- 4

def stop_waits(report):
    a, sink = host("stop.example", "127.0.0.14"), SmtpSink("127.0.0.6", dot_seconds=2)
    a.start()
    traffic.SmtpClient(a.ip).send(b"Subject: slow\n\nx\n", b"s@x.example", [b"x@slow.example"])
    report.ok(until(lambda: sink.in_data == 1, 5), "a delivery waits for the answer to its dot")
    stalled = traffic.SmtpClient(a.ip)
    stalled.sock.sendall(b"MAIL FROM:<s@x.example>\r\nRCPT TO:<x@slow.example>\r\nDATA\r\nhalf a l")
    time.sleep(0.2)
    began = time.monotonic()
    a.stop()
    seconds = time.monotonic() - began
    report.ok(seconds < 9 and "clients are cut off" in a.text(), "a client in the middle of a message can't hold it up")
    report.ok(len(sink.got) == 1 and seconds > 0.5 and "success: " in a.text(), f"stop waited for it ({seconds:.1f} s)")
    a.start()
    time.sleep(0.3)
    report.ok(a.queue() == [] and sink.in_data == 1, "the next start knows that it was delivered")
    if report.failed:
        show(a)
    a.stop()


# ---- 5

def xxh3():
    """XXH3 of some bytes, or None where the machine has it not."""
    try:
        f = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    except (OSError, AttributeError):
        return None
    f.restype, f.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    return lambda data: f(data, len(data))


def damage(report):
    a = host("damage.example", "127.0.0.16", concurrencylocal=0)
    joe = a.user_maildir("joe")
    a.start()
    dice, c = random.Random(6), traffic.SmtpClient(a.ip)
    for n in range(20):
        c.send(lab.mark(n, b"Subject: x\n\n" + base64.encodebytes(dice.randbytes(100000))), b"s@x.example", [b"joe@damage.example"])
    a.stop()
    a.control("concurrencylocal", "10")
    segment = sorted((a.home / "journal" / "0").glob("seg-*"))[0]
    at = 1200000 // 4096 * 4096 + 100
    with open(segment, "r+b") as f:
        f.seek(at)
        old = f.read(1)
        f.seek(at)
        f.write(bytes([old[0] ^ 1]))
    before = len(a.text())
    a.start()
    text = a.text()[before:]
    lines = [l for l in text.splitlines() if segment.name in l]
    told = re.search(r"is damaged from offset (\d+) to (\d+)", "".join(lines))
    report.ok(told and int(told[1]) <= at < int(told[2]), f"a flipped byte is told with segment and offset: {lines[:1]}")
    report.ok(a.status()["ring"]["damaged"] is True, "status says so")
    a.wait_empty(5)
    got = sorted(lab.unmark(d)[0] for d in lab.maildir(joe))
    missing = sorted(set(range(20)) - set(got))
    report.ok(len(got) == len(set(got)) and len(missing) == 1, f"all but the one that was hit is delivered (missing: {missing}, queued: {len(a.queue())})")
    if report.failed:
        show(a)
    a.stop()
    a.start()
    time.sleep(0.5)
    report.ok(len(lab.maildir(joe)) == len(got), "and nothing twice after another start")
    a.stop()
    hashed = xxh3()
    segment = [p for p in sorted((a.home / "journal" / "0").glob("seg-*")) if p.read_bytes()[:8] == b"quireseg"][-1]
    if not report.ok(hashed, "XXH3 is at hand"):
        return
    whole = segment.read_bytes()[:4096]
    report.ok(hashed(whole[:4088]) == int.from_bytes(whole[4088:], "little"), "the checksum of a block is what docs/journal.md says")
    newer = whole[:8] + (2).to_bytes(4, "little") + whole[12:4088]
    with open(segment, "r+b") as f:
        f.write(newer + hashed(newer).to_bytes(8, "little"))
    done = a.quire("start", "--detach", check=False)
    report.ok(done.returncode == 111 and "newer version of quire" in done.stdout and segment.name in done.stdout and len(done.stdout.splitlines()) == 1,
              f"a journal of a newer version: {done.stdout.strip()!r}")


# ---- 6

def notices(box):
    return [d for d in lab.maildir(box) if b"\nHi. This is the qmail-send program at " in d]


def bounces(report):
    a = host("bounce.example", "127.0.0.17")
    sink = SmtpSink("127.0.0.4", 2527, refused=(b"nobody@far.example",))
    a.control("smtproutes", "far.example:127.0.0.4:2527")
    joe, master = a.user_maildir("joe"), a.user_maildir("postmaster")
    alias = a.home / "alias"
    (alias / ".qmail-loop").write_text("&pool@bounce.example\n")
    (alias / ".qmail-pool").write_text("&loop@bounce.example\n")
    a.start()
    c = traffic.SmtpClient(a.ip)
    text = b"Subject: one\n\nfirst line\n.dots\n--- dashes\n"
    c.send(text, b"joe@bounce.example", [b"unknown@bounce.example"])
    report.ok(until(lambda: notices(joe), 5) and a.wait_empty(5), "an unknown local user bounces")
    n = notices(joe)
    n = n[0] if len(n) == 1 else b""
    report.ok(n.startswith(b"Return-Path: <>\nDelivered-To: joe@bounce.example\nReceived: "), "one notice, with Return-Path <>")
    head, body = n.split(b"\n\n", 1) if n else (b"", b"")
    paragraphs = body.split(b"\n--- Below")[0].split(b"\n\n")
    report.ok(len([p for p in paragraphs if p.startswith(b"<")]) == 1 and b"<unknown@bounce.example>:\n" in body,
              f"it has one paragraph, for the recipient: {paragraphs[1:]}")
    report.ok(b"\nReturn-Path: <joe@bounce.example>\n" in body and body.endswith(b"\n" + text), "the original is below, whole")
    report.ok(b"\nFrom: MAILER-DAEMON@bounce.example\nTo: joe@bounce.example\nSubject: failure notice" in head, "its header is a notice's")

    c.send(b"Subject: three\n\nx\n", b"joe@bounce.example", [b"a@far.example", b"nobody@far.example", b"b@far.example"])
    report.ok(until(lambda: len(notices(joe)) == 2, 5) and a.wait_empty(5), "one of three at an SMTP host is refused: one notice")
    n = [d for d in notices(joe) if b"\nSubject: three\n" in d][0]
    report.ok(n.count(b"\n<") == 1 and b"\n<nobody@far.example>:\n" in n and b"550 5.1.1 nobody of that name" in n, "with the server's words")
    report.ok(sorted(sum((r for r, _ in sink.got), [])) == [b"a@far.example", b"b@far.example"], "the other two are delivered")

    c.send(b"Subject: double\n\nx\n", b"gone@bounce.example", [b"unknown@bounce.example"])
    report.ok(until(lambda: lab.maildir(master), 5) and a.wait_empty(5), "a bounce that bounces goes to postmaster")
    d = lab.maildir(master)
    report.ok(len(d) == 1 and d[0].startswith(b"Return-Path: <#@[]>\n") and b"\nSubject: double\n" in d[0] and b"\n<gone@bounce.example>:\n" in d[0] and
              b"--- Below this line is the original bounce.\n\nReturn-Path: <>\n" in d[0], "once, with both below")
    a.control("doublebounceto", "noone")
    hup(a)
    c = traffic.SmtpClient(a.ip)
    c.send(b"Subject: triple\n\nx\n", b"gone@bounce.example", [b"unknown@bounce.example"])
    report.ok(until(lambda: "triple bounce: discarding bounce/" in a.text(), 5) and a.wait_empty(5), "a triple one is discarded, and logged")

    c.send(b"Subject: round\n\nx\n", b"joe@bounce.example", [b"loop@bounce.example"])
    report.ok(until(lambda: len(notices(joe)) == 3, 10) and a.wait_empty(5), "a loop of forwards ends in one notice")
    n = [d for d in notices(joe) if b"\nSubject: round\n" in d]
    report.ok(len(n) == 1 and b"loop" in n[0], "which says that it is a loop")
    time.sleep(0.3)
    report.ok(len(notices(joe)) == 3 and len(lab.maildir(master)) == 1, "nobody got more")
    if report.failed:
        show(a)
        for d in lab.maildir(joe) + lab.maildir(master):
            print(d.decode(errors="replace"), "=======")
    a.stop()


# ---- 7

def ticks(h):
    total = 0
    for pid in [h.start_pid()] + h.pids():
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total


def deferred(report):
    a = host("deferred.example", "127.0.0.18", concurrencyremote=0)
    a.start()
    total = 30000
    bench = subprocess.run([lab.bin_dir() / "quire-bench", "inject", *INJECT(a, total)], capture_output=True, text=True)
    report.ok(bench.returncode == 0, f"30,000 messages go in {bench.stderr}")
    a.control("concurrencyremote", "100")
    began = time.monotonic()
    hup(a)
    report.ok(until(lambda: a.status()["deferred"] >= total, 30, 0.2), f"all are deferred ({time.monotonic() - began:.1f} s)")
    s = a.status()
    report.ok(s["messages"] == total and s["waiting_runs"] == total, f"and wait ({s['messages']}, {s['waiting_runs']})")
    a.kill()
    began = time.monotonic()
    a.start()
    seconds = time.monotonic() - began
    s = a.status()
    report.ok(s["messages"] == total and s["replay_ms"] < 2000, f"restart in {seconds:.2f} s, replay {s['replay_ms']} ms")
    began = time.monotonic()
    q = a.queue()
    report.ok(len(q) == total and len({m["queue_id"] for m in q}) == total and all(m["queue_name"] == "deferred" for m in q) and
              all("delay_reason" in m["recipients"][0] for m in q), f"queue --json lists all of them ({time.monotonic() - began:.1f} s)")
    sched = a.pids("quire-sched")
    os.kill(sched[0], signal.SIGKILL)
    answers, replaying = 0, 0
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            s = a.status()
        except RuntimeError:
            continue        # it had asked the one that is dead
        answers += 1
        replaying += not s["ready"]
    report.ok(answers > 5 and s["ready"] and s["messages"] == total, f"status answers while sched replays ({answers} times, {replaying} during it)")
    time.sleep(1)
    before = ticks(a)
    time.sleep(5)
    used = ticks(a) - before
    report.ok(used <= 2, f"an idle queue of 30,000 costs {used} ticks in 5 s")
    if report.failed:
        show(a)
    a.stop()


INJECT = lambda h, n: ["--to", f"{h.ip}:209", "--qmtp", "--messages", str(n), "--clients", "10", "--size", "500", "--sender", "s@deferred.example",
                       "--rcpt", "x@d%llu.dead.example"]


# ---- 8

def descriptors(h, program):
    return sum(len(os.listdir(f"/proc/{p}/fd")) for p in h.pids(program))


def vanishing(report):
    a = host("vanish.example", "127.0.0.19")
    joe = a.user_maildir("joe")
    a.start()
    traffic.SmtpClient(a.ip).send(b"\nwarm\n", b"s@x.example", [b"joe@vanish.example"])
    lab.QmtpClient(a.ip).send(b"warm\n", b"s@x.example", [b"joe@vanish.example"])
    a.wait_empty(5)
    time.sleep(0.3)
    programs = ("quire-smtpd", "quire-qmtpd", "quire-journald")
    before = {p: descriptors(a, p) for p in programs}
    dice, ended = random.Random(9), 0
    start, rcpt = b"EHLO x\r\nMAIL FROM:<s@x.example>\r\n", b"RCPT TO:<joe@vanish.example>\r\n"
    big = b"x" * 70 + b"\r\n"
    package = lab.QmtpClient.package(b"y\n" * 5000, b"s@x.example", [b"joe@vanish.example"])
    for n in range(2000):
        stage = n % 8
        s = socket.create_connection((a.ip, 209 if stage >= 6 else 25), timeout=10)
        if dice.random() < 0.5:           # a reset instead of an end
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wire = [b"", start, start + rcpt, start + rcpt + b"DATA\r\n", start + rcpt + b"DATA\r\n" + big * (5000 if n % 10 == 4 else 20),
                start + rcpt + b"DATA\r\n" + big * 3 + b".\r\n", package[:dice.randrange(len(package))], package][stage]
        try:
            s.sendall(wire)
        except OSError:
            pass
        ended += stage in (5, 7)
        s.close()

    def settled():
        return a.status()["ring"]["open_submissions"] == 0 and {p: descriptors(a, p) for p in programs} == before
    report.ok(until(settled, 15), f"2,000 clients vanished: descriptors {before} -> { {p: descriptors(a, p) for p in programs} }, "
              f"open submissions {a.status()['ring']['open_submissions']}")
    report.ok(a.wait_empty(20) and len(lab.maildir(joe)) <= 2 + ended, f"what had its end was delivered at most once ({len(lab.maildir(joe)) - 2} of {ended})")
    report.ok(all(b"warm" in d or d.endswith((b"y\n", b"x\n")) for d in lab.maildir(joe)), "and nothing that had no end")
    odd = [l for l in a.text().splitlines() if "event=ended" in l or "check" in l]
    report.ok(not odd, f"nothing died of it {odd[:3]}")
    if report.failed:
        show(a)
    a.stop()


# ---- 9

def other_machines(report):
    where = lab.scratch / "ramfs"
    where.mkdir()
    lab.run("mount", "-t", "ramfs", "-o", "mode=755", "ramfs", str(where))
    where.chmod(0o755)
    a = lab.Host("other.example", "127.0.0.20", where=where)
    joe = a.user_maildir("joe")
    for loop, name in (("epoll", "epoll"), ("uring", "io_uring")):
        a.start(QUIRE_LOOP=loop)
        traffic.SmtpClient(a.ip).send(b"\nx\n", b"s@x.example", [b"joe@other.example"])
        s = a.status()
        report.ok(a.wait_empty(5) and s["loop"].startswith(name) and s["ring"]["uring"] is (loop == "uring"), f"{loop}: it runs, and status says so")
        line = [l for l in a.text().splitlines() if "journal=open" in l][-1]
        report.ok(f"loop={name}" in line, f"and the log: {line}")
        report.ok(s["ring"]["direct"] is False and "writes=direct" not in line, "where O_DIRECT is refused it writes the other way, and says so")
        if report.failed:
            show(a)
        a.stop()
    report.ok(len(lab.maildir(joe)) == 2, "mail is delivered")


CASES = {"1": large_mail, "2": many_recipients, "3": held_and_reread, "4": stop_waits, "5": damage, "6": bounces,
         "7": deferred, "8": vanishing, "9": other_machines}


def main():
    lab.enter()
    report = lab.Report()
    lab.NameServer(ZONES)
    for name in sys.argv[1:] or CASES:
        began = time.monotonic()
        CASES[name](report)
        print(f"# case {name}: {time.monotonic() - began:.1f} s", flush=True)
    report.end()


main()
