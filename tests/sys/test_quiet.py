#!/usr/bin/env python3
"""A queue that waits costs nothing: no process writes or computes while all recipients are deferred.

QUIRE_QUIET=1000000 measures it with as many recipients."""
import os
import pathlib
import socketserver
import threading
import time

import lab

RECIPIENTS = int(os.environ.get("QUIRE_QUIET", 20000))
EACH = min(RECIPIENTS, 100000)
DOMAINS = min(1000, EACH // 20)
SECONDS = 20
SETTLE = 12                         # what is done once after a load: idle marks, indexes
WINDOWS = 5                         # on a busy machine the reserve's segments may still be written
SERVER = "127.0.0.4"
HZ = os.sysconf("SC_CLK_TCK")


class Later(socketserver.StreamRequestHandler):
    """A mail server that takes nobody, for now."""

    def handle(self):
        self.wfile.write(b"220 later.example\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n" if verb in (b"EHLO", b"HELO", b"RSET")
                             else b"451 4.3.0 later\r\n")
            if verb == b"QUIT":
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
    request_queue_size = 1000


def read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def spent(pids):
    """By process: CPU ticks, bytes read and written by calls, bytes to and from disks, and how often its threads woke."""
    what = {}
    for pid in pids:
        stat = read(f"/proc/{pid}/stat")
        if not stat:
            continue
        f = stat.rsplit(")", 1)[1].split()
        io = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
        woke = sum(int(line.split()[1]) for t in pathlib.Path(f"/proc/{pid}/task").iterdir()
                   for line in read(t / "status").splitlines() if line.startswith("voluntary"))
        ran = sum(int(read(t / "schedstat").split()[0]) for t in pathlib.Path(f"/proc/{pid}/task").iterdir())
        what[pid] = {"name": stat.split("(")[1].split(")")[0], "ticks": int(f[11]) + int(f[12]), "us": ran // 1000, "woke": woke,
                     **{k: int(io[k]) for k in ("rchar", "wchar", "read_bytes", "write_bytes")}}
    return what


def deferred(host):
    """Recipients that were tried and wait; from the log, as asking the queue has a price of its own."""
    return host.text().count(": deferral: ")


def window(pids):
    """What SECONDS cost: of each process, and in all; without a process that came or went."""
    before = spent(pids)
    time.sleep(SECONDS)
    after = spent(pids)
    cost = {f"{a['name']} {pid}": {k: a[k] - before[pid][k] for k in a if k != "name"} for pid, a in after.items()}
    total = {k: sum(c[k] for c in cost.values()) for k in ("ticks", "us", "woke", "rchar", "wchar", "read_bytes", "write_bytes")}
    return cost, total, before.keys() == after.keys()


def main():
    lab.enter()
    report = lab.Report()
    server = Server((SERVER, 25), Later)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    h = lab.Host("a.example", "127.0.0.2")
    for name in ("segmentsize", "ringsize"):
        (h.home / "control" / name).unlink()
    h.control("relayclients", "127.0.0.0/8")
    h.control("smtproutes", f":{SERVER}")
    h.control("concurrencyremote", "100")
    h.control("retryschedule", "1d")
    h.start()
    for k in range(RECIPIENTS // EACH):
        c = lab.QmtpClient("127.0.0.2", timeout=300)
        answers = c.send(b"Subject: a list\n\nbody\n", b"list@s.example", [b"r%d.%d@d%d.example" % (k, i, i % DOMAINS) for i in range(EACH)])
        c.close()
        if not all(a.startswith(b"K") for a in answers):
            report.ok(False, f"the list is taken: {answers[0]!r}")
            report.end()
    begin, deadline = time.monotonic(), time.monotonic() + 60 + RECIPIENTS / 1000
    while deferred(h) < RECIPIENTS and time.monotonic() < deadline:
        time.sleep(1)
    n = deferred(h)
    report.ok(n == RECIPIENTS, f"{n} recipients wait for their next try, {time.monotonic() - begin:.0f} s")
    time.sleep(SETTLE)
    for _ in range(WINDOWS):
        cost, total, same = window([h.start_pid()] + h.pids())
        for name, c in cost.items():
            print(f"# {name}: {c}", flush=True)
        if total["write_bytes"] == total["wchar"] == 0:
            break
    report.ok(same, "no process came or went")
    report.ok(total["write_bytes"] == total["wchar"] == 0, f"nothing was written in {SECONDS} s: {total}")
    # A look by the clock may be: what grows with the queue may not.
    report.ok(total["us"] < 1000 * SECONDS, f"{total['us']} microseconds of CPU in {SECONDS} s")
    report.ok(total["woke"] <= 5 * SECONDS, f"all threads together woke {total['woke']} times in {SECONDS} s")
    if report.failed:
        print(h.tail(20))
    h.stop("--now")
    report.end()


main()
