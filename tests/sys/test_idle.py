#!/usr/bin/env python3
"""10,000 idle connections cost less than 60 MB, and the server still answers."""
import os
import resource
import socket
import time

import lab
import traffic

CONNECTIONS = 10000
COST_MAX = 60 * 1000 * 1000


def memory(pids):
    """Proportional set size: shared pages are counted once."""
    total = 0
    for pid in pids:
        for line in open(f"/proc/{pid}/smaps_rollup"):
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def main():
    lab.enter()
    report = lab.Report()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = min(CONNECTIONS, hard - 100)
    a = lab.Host("a.example", "127.0.0.2")
    a.control("concurrencyincoming", "12000")
    a.control("concurrencyperip", "12000")
    a.user_maildir("joe")
    a.start()
    before = memory(a.pids("quire-smtpd"))
    idle = []
    for n in range(wanted):
        s = socket.create_connection(("127.0.0.2", 25), timeout=30)
        idle.append(s)
    for s in idle:
        if not s.recv(4).startswith(b"220"):
            break
    cost = memory(a.pids("quire-smtpd")) - before
    report.ok(len(idle) == CONNECTIONS, f"{len(idle)} connections were greeted")
    report.ok(cost < COST_MAX, f"they cost {cost / 1e6:.1f} MB, {cost / max(1, len(idle)):.0f} bytes each")
    c = traffic.SmtpClient("127.0.0.2")
    report.ok(c.send(b"Subject: x\n\nbody\n", b"s@x.example", [b"joe@a.example"]).startswith(b"250"), "mail goes in among them")
    for s in idle + [c]:
        s.close()
    a.control("concurrencyperip", "3")
    old = a.pids("quire-smtpd")
    os.kill(a.start_pid(), 1)
    # The old process counts its last connections until they are gone; at first it is the only one.
    deadline = time.monotonic() + 60
    while ((now := a.pids("quire-smtpd")) == old or len(now) != 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    report.ok(len(now) == 1 and now != old, "HUP replaces the process, the old one ends")
    few = [socket.create_connection(("127.0.0.2", 25), timeout=30) for _ in range(4)]
    greetings = [s.makefile("rb").readline() for s in few]
    report.ok(sorted(g[:3] for g in greetings) == [b"220"] * 3 + [b"421"], f"concurrencyperip holds {greetings}")
    if report.failed:
        print(a.tail())
    a.stop("--now")
    report.end()


main()
