#!/usr/bin/env python3
"""The journal stays small: one message in a hundred waits for days while many pass through, and what
is on the disk is never more than twice what lives, and four segments.

passing  the mail, with kills and restarts of everything and of single processes in between
history  control/journalkeep keeps what left the queue, by size and by age

Arguments choose some of the cases."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import lab
from faulty import sound, until

SOAK = "QUIRE_SOAK" in os.environ
PASSING = int(os.environ.get("QUIRE_PASSING", 5000000 if SOAK else 60000))
CHUNK = 1000                  # messages of one run of quire-bench; ten more are deferred
SEGMENT = 8 << 20
MB = 1 << 20


class CountingSink:
    """Takes mail by QMTP; knows how often each number came, and what was in it that is not of the corpus."""

    def __init__(self, ip, known, port=209):
        self.times, self.wrong, self.known, self.lock = {}, 0, known, threading.Lock()
        self.listener = socket.create_server((ip, port), backlog=200)
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
        return f.read(int(digits[:-1]) + 1)[:-1]

    def serve(self, conn):
        f = conn.makefile("rb", buffering=1 << 16)
        try:
            while True:
                body, _, rest = self.netstring(f), self.netstring(f), self.netstring(f)
                names = []
                while rest:
                    n, rest = rest.split(b":", 1)
                    names.append(rest[:int(n)])
                    rest = rest[int(n) + 1:]
                # Received: lines stand in front of what was sent, and nothing else changes.
                sound = body.endswith(self.known)
                with self.lock:
                    self.wrong += not sound
                    for name in names:
                        self.count(name)
                conn.sendall(lab.netstring(b"Kok") * len(names))
        except (EOFError, OSError, ValueError):
            conn.close()

    def count(self, name):
        """Addresses are <chunk>x<number in it>@domain."""
        chunk, number = name.split(b"@")[0].split(b"x")
        row = self.times.setdefault(int(chunk), bytearray(CHUNK))
        row[int(number)] += row[int(number)] < 255

    def missing(self, chunks, each):
        return sum(self.times.get(c, bytearray(CHUNK))[:each].count(0) for c in range(chunks))

    def twice(self):
        return sum(n > 1 for row in self.times.values() for n in row)


def has_head(path):
    """Without one of its own it is the next segment, prepared: part of the pool."""
    head = path.open("rb").read(40)
    return head[:8] == b"quireseg" and int.from_bytes(head[32:40], "little") == int(path.name[4:], 16)


class Sampler(threading.Thread):
    """Looks at the directory and at quire status, again and again."""

    def __init__(self, h):
        super().__init__(daemon=True)
        self.h, self.stop, self.seen, self.over, self.worst, self.most = h, threading.Event(), 0, [], 0, 0
        self.starts = []      # when journald ended; written by who ends it

    def files(self):
        """Bytes of everything but what is not yet, or not any more, a segment of the queue."""
        total = 0
        for p in (self.h.home / "journal" / "0").iterdir():
            if p.name.startswith(("seg-", "bad-", "idx-")):
                try:
                    if not p.name.startswith("seg-") or has_head(p):
                        total += p.stat().st_size
                except FileNotFoundError:
                    pass
        return total

    def look(self):
        before = self.h.status()["space"]
        used = self.files()
        after = self.h.status()["space"]
        live = max(before["live_bytes"], after["live_bytes"])
        history = max(before["history_bytes"], after["history_bytes"])
        if not before["segments"]:
            raise ValueError("it does not know yet what lives")
        # The newest segment of a run that ended is left alone for a minute: its last write may still come.
        waiting = sum(time.monotonic() - t < 65 for t in self.starts)
        return used, 2 * live + (4 + waiting) * SEGMENT + history, after

    def run(self):
        while not self.stop.wait(0.05):
            try:
                used, allowed, space = self.look()
            except (RuntimeError, ValueError, KeyError, OSError):
                continue      # it is down, or not ready
            self.seen += 1
            self.most = max(self.most, used)
            self.worst = max(self.worst, used / allowed)
            if used > allowed:
                self.over.append((round(used / MB, 1), round(allowed / MB, 1), space))


def post(h, name, clients, messages, mails):
    argv = [lab.bin_dir() / "quire-bench", "inject", "--to", f"{h.ip}:209", "--qmtp", "--messages", str(messages), "--clients", str(clients),
            "--mails", str(mails), "--sender", "s@space.example", "--rcpt", name]
    for attempt in range(10):
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode == 0 and '"refused":0' in done.stdout.replace(" ", ""):
            return attempt
        # Somebody that was killed a moment ago cut it off: all of it again, it may come twice.
        # A journald that was started anew takes mail a little later than others do.
        time.sleep(0.5)
        until(lambda: serves(h), 10)
    raise RuntimeError(f"no mail can be sent: {done.stdout} {done.stderr} {h.tail()}")


def disturb(h, dice, starts):
    """Something is killed, or all of it is started anew; nobody is sending."""
    what = dice.choice(["all", "stop", "quire-journald", "quire-sched", "quire-body", "quire-remote"])
    if what in ("all", "stop", "quire-journald"):
        starts.append(time.monotonic())
    if what == "all":
        h.kill()
        h.start()
    elif what == "stop":
        h.stop()
        h.start()
    else:
        os.kill(dice.choice(h.pids(what)), signal.SIGKILL)
        until(lambda: h.pids(what), 10)
    return what


def is_small(sampler):
    used, allowed, space = sampler.look()
    return space["live_bytes"] < SEGMENT and used <= allowed


def serves(h):
    try:
        lab.QmtpClient(h.ip, timeout=5).close()
        return h.status()["ready"]
    except (OSError, RuntimeError, ValueError):
        return False


def passing(report, dice):
    lab.NameServer({"ok.example": "@ MX 12801 mx\nmx A 127.0.0.71\n", "late.example": "@ MX 12801 mx\nmx A 127.0.0.72\n"})
    small = lab.scratch / "mails"
    small.mkdir()
    for name, data in lab.corpus():
        if len(data) < 8000 and data.endswith(b"\n"):
            (small / name).write_bytes(data)
    known = tuple(p.read_bytes() for p in small.iterdir())
    mean = sum(map(len, known)) // len(known)
    sink = CountingSink("127.0.0.71", known)
    h = lab.Host("space.example", "127.0.0.70")
    for key, value in {"resolvers": "127.0.0.1", "relayclients": "127.0.0.0/8", "segmentsize": SEGMENT, "concurrencyremote": 40}.items():
        h.control(key, str(value))
    h.start()
    sampler = Sampler(h)
    sampler.start()
    chunks, repeated, disturbed = max(PASSING // CHUNK, 1), 0, []
    late = 0
    for c in range(chunks):
        until(lambda: serves(h), 20)
        repeated += post(h, f"{c}x%llu@ok.example", 10, CHUNK, small)
        repeated += post(h, f"{c}x%llu@late.example", 1, CHUNK // 100, small)
        late += CHUNK // 100
        if dice.random() < 8 / min(chunks, 100):
            disturbed.append(disturb(h, dice, sampler.starts))
    print(f"# {repeated} of the runs of quire-bench had to be repeated", flush=True)
    report.ok(True, f"{chunks * CHUNK} messages went in, and {late} that wait")
    report.ok(len(disturbed) > 0, f"disturbed: {disturbed}")
    arrived = until(lambda: len(h.queue()) == late, 60, 0.5)
    report.ok(arrived and sink.missing(chunks, CHUNK) == 0 and sink.wrong == 0,
              f"all that could be delivered is ({sink.missing(chunks, CHUNK)} missing, {sink.wrong} changed, {sink.twice()} twice)")
    if not arrived:
        print("# still there:", [(m["queue_id"], m["queue_name"], m["recipients"]) for m in h.queue() if "ok.example" in str(m["recipients"])][:5])
        ids = {m["queue_id"] for m in h.queue() if "ok.example" in str(m["recipients"])}
        print("\n".join([l for l in h.text().splitlines() if any(i in l for i in list(ids)[:3])][:20]))
    sampler.stop.set()
    sampler.join()
    used, allowed, space = sampler.look()
    report.ok(sampler.seen > 20 and not sampler.over, f"looked {sampler.seen} times, {len(sampler.over)} times more than allowed; at most "
              f"{sampler.most / MB:.0f} MB and {sampler.worst:.2f} of it; now {used / MB:.0f} of {allowed / MB:.0f} MB; {space}")
    for line in sampler.over[:5]:
        print("#", line)
    # Outcomes live as long as a MSG of theirs lies somewhere, in the last segment of a run that ended for a minute.
    report.ok(space["live_bytes"] < 3 * late * mean + SEGMENT, f"what lives is counted as {space['live_bytes']} bytes, {late} messages of {mean}")
    report.ok(space["given_up"] >= chunks * CHUNK * 300 // SEGMENT, f"{space['given_up']} segments were given up by this run of journald")
    h.stop()
    h.start()
    report.ok(len(h.queue()) == late, "after another start they wait as before")
    lates = CountingSink("127.0.0.72", known)
    deadline = time.monotonic() + 60
    while h.queue() and time.monotonic() < deadline:
        os.kill(h.start_pid(), signal.SIGALRM)
        time.sleep(0.5)
    report.ok(not h.queue() and lates.missing(chunks, CHUNK // 100) == 0 and lates.wrong == 0,
              f"and are delivered in the end ({lates.missing(chunks, CHUNK // 100)} missing, {lates.wrong} changed, {lates.twice()} twice)")
    report.ok(until(lambda: is_small(sampler), 30, 0.5), f"then the journal is as small as an empty one: {h.status()['space']}")
    sound(report, h)
    if report.failed:
        print(h.tail(60))
    h.stop()


def fill(h, mails, name, segments):
    """So many segments more than now are begun, and all of it is delivered."""
    wanted, n = newest(h) + segments, 0
    while newest(h) < wanted:
        post(h, f"{n}x%llu@ok.example", 10, CHUNK, mails)
        n += 1
    h.wait_empty(30)


def newest(h):
    """The highest number of a segment as mail came."""
    return max(n for n in (int(p.name[4:], 16) for p in (h.home / "journal" / "0").glob("seg-*")) if n < 1 << 33)


def history(report, dice):
    """journalkeep: so many bytes, and none that is older; space that is needed comes first."""
    # Large mail: what is written, not what is sent, is what counts here.
    large = lab.scratch / "large"
    large.mkdir()
    for n in range(8):
        (large / str(n)).write_bytes(b"Subject: large\n\n" + b"".join(dice.randbytes(36).hex().encode() + b"\n" for _ in range(400)))
    known = tuple(p.read_bytes() for p in large.iterdir())
    lab.NameServer({"ok.example": "@ MX 12801 mx\nmx A 127.0.0.75\n"}, ip="127.0.0.2")
    sink, h = CountingSink("127.0.0.75", known), lab.Host("keep.example", "127.0.0.74")
    keep = 5 * SEGMENT
    for key, value in {"resolvers": "127.0.0.2", "relayclients": "127.0.0.0/8", "segmentsize": SEGMENT, "concurrencyremote": 40,
                       "journalkeep": f"{keep} 1"}.items():
        h.control(key, str(value))
    h.start()
    most = [0]

    def kept():
        space = h.status()["space"]
        most[0] = max(most[0], space["history_bytes"])
        return space["history_bytes"]
    fill(h, large, "a", 4)
    report.ok(until(lambda: kept() >= 2 * SEGMENT, 20, 0.2), f"what left the queue is kept: {h.status()['space']}")
    fill(h, large, "b", 8)
    report.ok(until(lambda: keep - SEGMENT <= kept() <= keep, 20, 0.2) and most[0] <= keep, f"up to {keep / MB:.0f} MB of it: {most[0] / MB:.0f} MB at most")
    first = sorted(p.name for p in (h.home / "journal" / "0").glob("seg-*"))[0]
    h.kill()
    h.start()
    report.ok(until(lambda: kept() >= keep - SEGMENT, 10, 0.2), "it is there after a kill")
    fill(h, large, "c", 3)
    report.ok(until(lambda: not (h.home / "journal" / "0" / first).exists(), 20, 0.2) and most[0] <= keep, "the oldest goes first")
    h.control("journalkeep", "0 0")
    os.kill(h.start_pid(), signal.SIGHUP)
    time.sleep(1)
    fill(h, large, "d", 2)
    report.ok(until(lambda: kept() == 0, 20, 0.2), f"when nothing is to be kept, nothing is: {h.status()['space']}")
    report.ok(sink.wrong == 0, "the mail came through all of it")
    sound(report, h)
    if report.failed:
        print(h.tail(40))
    h.stop()


CASES = {"passing": passing, "history": history}


def main():
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    for name in sys.argv[1:] or CASES:
        began = time.monotonic()
        CASES[name](report, dice)
        print(f"# {name}: {time.monotonic() - began:.1f} s", flush=True)
    report.end()


main()
