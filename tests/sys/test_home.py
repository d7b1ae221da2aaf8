#!/usr/bin/env python3
"""quire init, start, stop, status, queue: what they do, and the one clear line when they can't."""
import fcntl
import os
import pathlib
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time

import lab


def start_fails(report, host, expected, what, **env):
    done = host.quire("start", "--detach", check=False, env=dict(os.environ, **env))
    text = done.stdout.strip()
    report.ok(done.returncode == 111 and expected in text and len(text.splitlines()) == 1,
              f"{what}: {text!r} (exit {done.returncode})")
    time.sleep(0.1)
    report.ok(not host.pids(), f"{what}: nothing is left running")


def tree(path):
    return {str(p): p.read_bytes() for p in sorted(pathlib.Path(path).rglob("*")) if p.is_file()}


def main():
    lab.enter()
    report = lab.Report()
    a = lab.Host("a.example", "127.0.0.2")

    before = tree(a.home)
    again = a.quire("init", "--me", "other.example")
    report.ok(tree(a.home) == before and "kept" in again.stdout, "init never overwrites, and says what it kept")
    report.ok((a.home / "control/me").read_text() == "a.example\n", "init writes control/me")
    if lab.privileged():
        for user in ("alias", "qmaild", "qmailq", "qmailb", "qmails", "qmailr"):
            report.ok(bool(pwd.getpwnam(user)), f"init as root made the user {user}")
    bad = subprocess.run([lab.bin_dir() / "quire", "init", "--home", lab.scratch / "x"], capture_output=True, text=True)
    report.ok(bad.returncode == 100 and "--me" in bad.stderr, "init without --me is told what is missing")

    # What stands in the way of a start.
    nowhere = subprocess.run([lab.bin_dir() / "quire", "start", "--detach", "--home", lab.scratch / "nowhere"], capture_output=True, text=True)
    report.ok(nowhere.returncode == 111 and "No such file" in nowhere.stderr and len(nowhere.stderr.splitlines()) == 1,
              f"a home that is missing: {nowhere.stderr.strip()!r}")
    with socket.create_server(("127.0.0.2", 25)):
        start_fails(report, a, "control/smtplisten:1: 127.0.0.2:25: Address already in use", "a port that is taken")
    for name, text, expected in (("qmtplisten", "127.0.0.2:209\nnonsense here\n", "control/qmtplisten:2"),
                                 ("resolvers", "not-an-address\n", "control/resolvers:1"),
                                 ("segmentsize", "12345\n", "control/segmentsize:1"),
                                 ("relayclients", "127.0.0.0/99\n", "control/relayclients:1")):
        path = a.home / "control" / name
        old = path.read_bytes() if path.exists() else None
        path.write_text(text)
        start_fails(report, a, expected, f"a bad control/{name}")
        path.unlink() if old is None else path.write_bytes(old)

    # A good start.
    a.start()
    s = a.status()
    report.ok(isinstance(s, dict) and s, "status --json is one object")
    report.ok(a.quire("status").stdout.count("\n") > 5, "status for people has lines")
    report.ok(a.queue() == [], "queue --json of an empty queue is empty")
    second = a.quire("start", "--detach", check=False)
    report.ok(second.returncode == 111 and "running already" in second.stdout, f"a second start: {second.stdout.strip()!r}")
    run = a.home / "run"
    report.ok(stat.S_IMODE((run / "submit").stat().st_mode) == 0o666, "run/submit is for everybody")
    report.ok(stat.S_IMODE((run / "control").stat().st_mode) == 0o600, "run/control is for the owner")
    if lab.privileged():
        users = {}
        for pid in a.pids():
            name = open(f"/proc/{pid}/comm").read().strip()
            users[name] = os.stat(f"/proc/{pid}").st_uid
            status = open(f"/proc/{pid}/status").read()
            users[name + " new privileges"] = "NoNewPrivs:\t1" not in status
        wanted = {"quire-journald": "qmailq", "quire-sched": "qmails", "quire-body": "qmailb", "quire-remote": "qmailr",
                  "quire-smtpd": "qmaild", "quire-qmtpd": "qmaild"}
        for program, user in wanted.items():
            uid = [int(l.split()[1]) for p in a.pids(program) for l in open(f"/proc/{p}/status") if l.startswith("Uid:")]
            report.ok(uid == [pwd.getpwnam(user).pw_uid], f"{program} runs as {user}")
            report.ok(not users.get(program + " new privileges", True), f"{program} can gain no privileges")

    # A message that waits: the next hop refuses the connection.
    a.control("smtproutes", "far.example:127.0.0.9")
    os.kill(a.start_pid(), signal.SIGHUP)
    time.sleep(0.5)
    env = dict(os.environ, QUIRE_HOME=str(a.home))
    sent = subprocess.run([lab.bin_dir() / "sendmail", "-f", "me@a.example", "you@far.example"], input=b"Subject: wait\n\nx\n", env=env)
    report.ok(sent.returncode == 0, "sendmail takes mail for a host that is down")
    queue = []
    for _ in range(100):
        queue = a.queue()
        if queue and queue[0]["recipients"] and queue[0]["recipients"][0].get("delay_reason"):
            break
        time.sleep(0.1)
    entry = queue[0] if queue else {}
    names = {"queue_name", "queue_id", "arrival_time", "message_size", "forced_expire", "sender", "recipients"}
    report.ok(len(queue) == 1 and names <= set(entry), f"queue --json has postqueue's field names: {sorted(entry)}")
    report.ok(entry.get("queue_name") == "deferred" and entry.get("recipients", [{}])[0].get("address") == "you@far.example",
              "the message is deferred, its recipient named")
    report.ok("you@far.example" in a.quire("queue").stdout, "queue for people names the recipient")
    ident = entry.get("queue_id")

    # users/cdb counts from the next HUP.
    uid, gid = (pwd.getpwnam("alias").pw_uid, pwd.getpwnam("alias").pw_gid) if lab.privileged() else (os.getuid(), os.getgid())
    box = a.user_maildir("other")
    (a.home / "users/assign").write_text(f"=joe:alias:{uid}:{gid}:{a.home}/alias:-:other:\n.\n")
    newu = subprocess.run([lab.bin_dir() / "qmail-newu"], env=env, capture_output=True, text=True)
    report.ok(newu.returncode == 0, f"qmail-newu compiles users/assign {newu.stderr}")
    os.kill(a.start_pid(), signal.SIGHUP)
    time.sleep(0.5)
    subprocess.run([lab.bin_dir() / "sendmail", "-f", "me@a.example", "joe@a.example"], input=b"Subject: cdb\n\nx\n", env=env, check=True)
    for _ in range(100):
        if lab.maildir(box):
            break
        time.sleep(0.1)
    report.ok(len(lab.maildir(box)) == 1, "and after HUP joe's mail goes where it says")

    # Rebuilt from the journal: after stop, and after a kill; on the other loop as well.
    a.stop()
    report.ok(a.quire("stop", check=False).returncode == 100, "stop says when nothing runs")
    report.ok(a.quire("status", check=False).returncode == 100, "so does status")
    for loop in ("uring", "epoll"):
        a.start(QUIRE_LOOP=loop)
        queue = a.queue()
        report.ok([m["queue_id"] for m in queue] == [ident], f"the queue is rebuilt from the journal ({loop})")
        a.kill()
    a.start()
    report.ok([m["queue_id"] for m in a.queue()] == [ident], "and after SIGKILL to everything")
    a.stop("--now")

    # The journal itself.
    journal = a.home / "journal" / "0"
    with open(journal / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start_fails(report, a, "in use", "a journal that somebody else has")
    segments = sorted(journal.glob("seg-*"))
    keep = lab.scratch / "keep"
    shutil.copytree(journal, keep)
    # A lost segment is said at each start, the rest is delivered, and nothing forgets that it belongs to us.
    def verified():
        done = a.quire("journal verify", "--json", check=False)
        return done.returncode, done.stdout
    report.ok(verified()[0] == 0, "quire journal verify finds nothing wrong")
    holder = next(s for s in segments if f"{int(ident)}" in a.quire("journal dump", "--json", "--segment", str(int(s.name[4:], 16))).stdout)
    holder.rename(lab.scratch / "away")
    for again in ("", " again"):
        mark = len(a.text())
        a.start()
        a.quire("journal compact", check=False)
        said = a.text()[mark:]
        report.ok(holder.name in said and "missing" in said, f"a lost segment is named in the log{again}")
        report.ok(a.queue() == [], f"what was in it is not in the queue{again}")
        a.stop("--now")
        report.ok(verified()[0] == 99 and holder.name in verified()[1], f"verify says so{again}")
    (lab.scratch / "away").rename(holder)
    a.start()
    report.ok([m["queue_id"] for m in a.queue()] == [ident], "with the segment back it starts")
    a.stop("--now")
    report.end()


main()
