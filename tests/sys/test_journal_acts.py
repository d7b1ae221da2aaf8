#!/usr/bin/env python3
"""quire journal import, export, replay, salvage, compact: real mail in and out of a classic queue and of a damaged journal."""
import fcntl
import json
import mailbox
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time

import lab
from classic import ClassicQueue

BLOCK = 4096


class SmtpSink(threading.Thread):
    """Accepts everything; keeps recipients and the wire bytes of DATA."""

    def __init__(self, ip, port):
        super().__init__(daemon=True)
        self.got = []
        self.listener = socket.create_server((ip, port))
        self.start()

    def run(self):
        while True:
            conn, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        f, rcpts = conn.makefile("rb"), []
        try:
            self.talk(conn, f, rcpts)
        except ConnectionError:
            pass                        # whoever says QUIT need not wait for the answer

    def talk(self, conn, f, rcpts):
        conn.sendall(b"220 sink\r\n")
        for line in f:
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"EHLO":
                conn.sendall(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                conn.sendall(b"354 go\r\n")
                data = b""
                while not data.endswith(b"\r\n.\r\n"):
                    data += f.readline()
                self.got.append((rcpts, data[:-3]))
                rcpts = []
                conn.sendall(b"250 kept\r\n")
            else:
                rcpts += [line] if verb == b"RCPT" else []
                conn.sendall(b"250 ok\r\n")


def hosts():
    a, b = lab.Host("a.example", "127.0.0.2"), lab.Host("b.example", "127.0.0.3")
    for h in (a, b):
        h.control("relayclients", "127.0.0.0/8")
        h.control("smtproutes", "b.example:[127.0.0.3]:25", "a.example:[127.0.0.2]:25", "dead.example:[127.0.0.9]:9")
        h.control("virtualdomains", "virt.example:joe")
    return a, b


def tool(host, verb, *args):
    argv = [str(lab.bin_dir() / "quire"), "journal", verb, "--home", str(host.home), *args]
    return subprocess.run(argv, text=True, timeout=120, capture_output=True)


def journal(host, verb, *args, code=0):
    """Its exit code is what is expected; its output as text, or as objects where --json was asked for."""
    done = tool(host, verb, *args)
    if done.returncode != code:
        raise RuntimeError(f"journal {verb} {args}: exit {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()] if "--json" in args else done.stdout


def is_notice(data):
    return b"\nSubject: failure notice\n" in data and b"\nHi. This is the" in data


def boxes(*dirs):
    """{number of the message: [its bytes]} of Maildirs; notices hold copies, and are not counted."""
    got = {}
    for d in dirs:
        for data in lab.maildir(d):
            if is_notice(data):
                continue
            n, text, _ = lab.unmark(data)
            got.setdefault(n, []).append(text)
    return got


def fill_classic(queue, mails, now):
    """All states.  Returns who must get which message, by box."""
    want = {"joe": set(), "ann": set(), "joe-x": set()}
    failures = set()
    for i, (_, body) in enumerate(mails):
        body = lab.mark(i, body)
        state = i % 5
        birth = now - 3600 - i
        if state == 0:                  # as submitted
            queue.todo(body, b"s@a.example", [b"joe@a.example", b"ann@b.example", b"x@virt.example"], birth)
            want["joe"].add(i), want["ann"].add(i), want["joe-x"].add(i)
        elif state == 1:                # some are done; what is local was rewritten
            queue.preprocessed(body, b"s@a.example", birth, [b"Tjoe-x@virt.example", b"Djoe@a.example"], [b"Dann@b.example", b"Tann@b.example"])
            want["joe-x"].add(i), want["ann"].add(i)
        elif state == 2:                # a failure nobody was told of, one recipient is left
            queue.preprocessed(body, b"joe@a.example", birth, [b"Tjoe@a.example"], [b"Dgone@b.example"],
                               b"<gone@b.example>:\nno such user number %d\nsorry\n\n" % i)
            want["joe"].add(i)
            failures.add(i)
        elif state == 3:                # only the bounce is left
            queue.preprocessed(body, b"joe@a.example", birth, (), [b"Dgone@b.example"], b"<gone@b.example>:\nno such user number %d\nsorry\n\n" % i)
            failures.add(i)
        else:                           # all is done, or it was never handed in
            if i % 2:
                queue.preprocessed(body, b"s@a.example", birth, [b"Djoe@a.example"])
            else:
                queue.mess(body)
    return want, failures


def test_import(report, a, b, mails):
    joe, joe_x, ann = a.user_maildir("joe"), a.user_maildir("joe-x"), b.user_maildir("ann")
    queue, now = ClassicQueue(lab.scratch / "classic").make(), int(time.time())
    want, failures = fill_classic(queue, mails, now)
    queue.preprocessed(lab.mark(9999, b"Subject: later\n\nlater\n"), b"s@a.example", now - 86400, (), [b"Tann@b.example"], due=now + 3000)
    queue.todo(lab.mark(9998, b"Subject: dead\n\ndead\n"), b"s@a.example", [b"y@dead.example"], now - 4000)

    held = open(queue.path / "lock" / "sendmutex", "w")
    fcntl.flock(held, fcntl.LOCK_EX)
    done = tool(a, "import", "--qmail-queue", str(queue.path))
    report.ok(done.returncode == 111, f"while qmail-send runs nothing is imported ({done.stderr.strip()})")
    held.close()
    before = sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in queue.path.rglob("*"))
    told = journal(a, "import", "--qmail-queue", str(queue.path), "--dry-run", "--json")[-1]
    messages = len(mails) - sum(i % 5 == 4 for i in range(len(mails))) + 2
    report.ok(told["imported"] == messages, f"a dry run counts {told['imported']} of {messages} messages")
    report.ok(not list((a.home / "journal" / "0").glob("seg-*")), "and writes nothing")

    kills = kill_imports(a, queue)
    report.ok(kills > 0, f"imports were killed in the middle: {kills}")
    told = journal(a, "import", "--qmail-queue", str(queue.path), "--json")[-1]
    report.ok(told["imported"] + told["already"] == messages, f"the one after them took the rest: {told}")
    report.ok(len(journal(a, "ls", "--json")) == messages, "each message is in the journal once")
    again = journal(a, "import", "--qmail-queue", str(queue.path), "--json")[-1]
    report.ok(again["imported"] == 0 and again["already"] == messages, "a further import takes nothing twice")
    after = sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in queue.path.rglob("*"))
    report.ok(before == after, "the classic queue is unchanged")

    b.start()
    a.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(a.queue()) > 2:
        time.sleep(0.2)
    queue_now = a.queue()
    report.ok(len(queue_now) == 2, f"all but the two that wait are delivered ({[m['recipients'] for m in queue_now]})")
    times = sorted(m["arrival_time"] for m in queue_now)
    report.ok(times == [now - 86400, now - 4000], "times of birth are kept")
    report.ok(b.wait_empty(), "b's queue ran empty")
    for name, box in (("joe", joe), ("joe-x", joe_x), ("ann", ann)):
        got = {n: texts for n, texts in boxes(box).items() if n is not None}
        texts = {n: t for n, t in got.items() if n in want[name]}
        report.ok(set(texts) == want[name] and all(len(t) == 1 for t in texts.values()), f"{name} got what was left for it, once ({len(texts)})")
        wrong = [n for n in texts if texts[n][0] != lab.mark(n, mails[n][1])]
        report.ok(not wrong, f"{name}'s messages have the same bytes")
    ann_got = boxes(ann)
    report.ok(9999 not in ann_got, "what was not due yet waits")
    notices = [d for d in lab.maildir(joe) if is_notice(d)]
    told = {i for i in failures for d in notices if b"no such user number %d\nsorry\n" % i in d}
    report.ok(told == failures and len(notices) == len(failures), f"failures of the old queue were reported, once each ({len(notices)} of {len(failures)})")
    joe_only = set(boxes(joe)) - want["joe"] - failures - {None}
    report.ok(not joe_only, "nobody got what was done for him")
    a.stop()
    again = journal(a, "import", "--qmail-queue", str(queue.path), "--json")[-1]
    b.stop()
    report.ok(again["imported"] == 0, "after delivery an import takes nothing twice")
    return joe, joe_x, ann


def kill_imports(a, queue):
    """SIGKILL soon after the journal was opened; how often it hit one at work, and how many messages were there then."""
    dice, kills, seen = random.Random(5), 0, []
    notes = a.home / "journal" / "0" / "imported"
    argv = [str(lab.bin_dir() / "quire"), "journal", "import", "--home", str(a.home), "--qmail-queue", str(queue.path), "--quiet"]
    size = lambda: notes.stat().st_size if notes.exists() else 0
    for k in range(15):
        before = size()
        p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while size() == before and p.poll() is None:
            pass                        # it writes there once the journal is open
        time.sleep(dice.uniform(0.0, k * 0.004))
        if p.poll() is not None:
            break
        p.send_signal(signal.SIGKILL)
        kills += p.wait() == -signal.SIGKILL
        seen.append(len(tool(a, "ls", "--json").stdout.splitlines()))
    print(f"# messages in the journal after each kill: {seen}")
    return kills


def test_export(report, a, mails):
    """What waits, out to three places; and from the classic queue into another home."""
    maildir, mbox, classic = lab.scratch / "out", lab.scratch / "out.mbox", ClassicQueue(lab.scratch / "out-queue")
    whole = [m for m in mails if m[1]][:25]
    queue = ClassicQueue(lab.scratch / "classic2").make()
    now = int(time.time())
    odd = [b"", b"no newline at the end", b"From me\n>From you\n>>From all\nFrom", b"\n\n", b"x" * 700000 + b"\n"]
    bodies = [lab.mark(20000 + i, body) for i, (_, body) in enumerate(whole)] + odd
    for i, body in enumerate(bodies):
        queue.preprocessed(body, b"s@a.example", now - 500 - i, [b"Djoe@a.example", b"Tjoe-y@virt.example"], [b"Tz@dead.example"],
                           b"<w@dead.example>:\nwhy %d\n\n" % i if i % 2 else b"")
    journal(a, "import", "--qmail-queue", str(queue.path))
    sent = sorted(bodies)
    told = journal(a, "export", "--maildir", str(maildir), "--since", "20m", "--json")[-1]
    report.ok(sorted(lab.maildir(maildir)) == sent, f"a Maildir has {told['exported']} messages, byte for byte")
    told = journal(a, "export", "--maildir", str(maildir), "--since", "20m", "--json")[-1]
    report.ok(told["exported"] == 0 and len(lab.maildir(maildir)) == len(sent), "once more writes nothing twice")
    journal(a, "export", "--mbox", str(mbox), "--since", "20m")
    box = mailbox.mbox(str(mbox), create=False)
    unquoted = []
    for key in box.keys():
        data = box.get_bytes(key)
        unquoted.append(b"\n".join(l[1:] if l.lstrip(b">").startswith(b"From ") and l.startswith(b">") else l for l in data.split(b"\n")))
    ended = lambda m: m if m.endswith(b"\n") or not m else m + b"\n"
    report.ok(sorted(ended(m) for m in unquoted) == sorted(ended(m) for m in sent), f"an mbox of {len(unquoted)} says the same, quoted")
    journal(a, "export", "--qmail-queue", str(classic.path), "--since", "20m")
    found, source = classic.messages(), queue.messages()
    same = [b for b in source if b in found and found[b] == (source[b][0], source[b][1], [b"Tjoe-y@virt.example"], source[b][3], source[b][4])]
    report.ok(len(found) == len(source) == len(same), f"a classic queue has what is left, with birth times and bounces ({len(same)} of {len(source)})")
    owners = {p.owner() for p in classic.path.glob("mess/*/*")} | {p.owner() for p in classic.path.glob("info/*/*")}
    report.ok(not lab.privileged() or owners == {"qmailq", "qmails"}, f"its files belong to {sorted(owners)}")
    done = tool(a, "export", "--qmail-queue", str(classic.path))
    report.ok(done.returncode == 100, "a queue that has messages is left alone")
    c = lab.Host("c.example", "127.0.0.4")
    told = journal(c, "import", "--qmail-queue", str(classic.path), "--json")[-1]
    key = lambda host: sorted((m["arrival_us"], m["size"], m["sender"], m["left"]) for m in journal(host, "ls", "--json", "--since", "20m"))
    report.ok(told["imported"] == len(bodies) and key(a) == key(c), "which another home imports: the same messages")


def test_replay(report, a, b, joe, ann, mails):
    a.start()
    b.start()
    qmtp = lab.QmtpClient(a.ip)
    sent = {}
    for i, (_, body) in enumerate(mails[:20]):
        sent[30000 + i] = lab.mark(30000 + i, body)
        qmtp.send(sent[30000 + i], b"s%d@a.example" % (i % 2), [b"joe@a.example", b"ann@b.example"])
    deadline = time.monotonic() + 60
    fresh = lambda box: {n: t for n, t in boxes(box).items() if n in sent}
    while time.monotonic() < deadline and (len(fresh(joe)) < 20 or len(fresh(ann)) < 20):
        time.sleep(0.1)
    time.sleep(0.5)
    dry = journal(a, "replay", "--sender", "s0@*", "--domain", "a.example", "--since", "5m", "--dry-run", "--json")
    total = dry[-1]
    report.ok(total["messages"] == 10 and total["recipients"] == 10, f"a dry run says what would be: {total}")
    report.ok(all(len(t) == 1 for t in fresh(joe).values()), "and delivers nothing")
    report.ok(tool(a, "replay").returncode == 100, "without a filter nothing is replayed")
    done = journal(a, "replay", "--sender", "s0@*", "--domain", "a.example", "--since", "5m", "--json")
    while time.monotonic() < deadline and sum(len(t) for t in fresh(joe).values()) < 30:
        time.sleep(0.1)
    time.sleep(0.5)
    twice = {n for n, t in fresh(joe).items() if len(t) == 2}
    report.ok(twice == {n for n in sent if n % 2 == 0}, f"those that fit came again to joe ({len(twice)})")
    report.ok(all(t == sent[n] for n, texts in fresh(joe).items() for t in texts), "with the same bytes")
    received = [d for d in lab.maildir(joe) if lab.unmark(d)[0] in twice]
    report.ok(all(lab.unmark(d)[2].count(b"invoked by") == 0 for d in received), "and without a new Received line")
    report.ok(all(len(t) == 1 for t in fresh(ann).values()), "ann, who was not asked for, got nothing again")
    text = a.text()
    pairs = [(d["new"], d["id"]) for d in done if d["event"] == "replayed"]
    report.ok(len(pairs) == 10 and all(f"replay msg {new}: of msg {old}" in text for new, old in pairs), "each is marked in the log")
    again = journal(a, "replay", "--sender", "s0@*", "--domain", "a.example", "--since", "5m", "--dry-run", "--json")[-1]
    report.ok(again["messages"] == 10, "replays are not replayed unasked")
    by_user = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "python3", "-c", FORGED % (str(a.home / "run" / "submit"),)], capture_output=True) \
        if lab.privileged() else None
    report.ok(not by_user or b"Z91" in by_user.stdout, "another user may not say that it is a replay")

    sink = SmtpSink("127.0.0.5", port=2525)
    before = a.status()
    told = journal(a, "replay", "--sender", "s1@*", "--since", "5m", "--to", "127.0.0.5:2525", "--json")
    wires = sorted(w for _, w in sink.got)
    report.ok(len(wires) == 10 and sum(len(r) for r, _ in sink.got) == 20, f"--to brought {len(wires)} messages to a host by SMTP")
    marks = lambda ws: sorted(int(w[w.index(b"X-Lab: ") + 7:].split(b"\r")[0]) for w in ws)
    report.ok(marks(wires) == sorted(n for n in sent if n % 2), "those that were asked for")
    report.ok(a.status()["ring"]["messages"] == before["ring"]["messages"], "past the queue")
    done = tool(a, "replay", "--sender", "s1@*", "--to", "127.0.0.8:9")
    report.ok(done.returncode == 111, f"a host that is not there is said ({done.stderr.strip().splitlines()[-1]})")
    told = journal(a, "compact", "--json")
    report.ok(told[-1]["event"] == "done", f"compact ends: {told[-1]['space']['given_up']} segments given up")
    a.stop()
    report.ok(tool(a, "compact").returncode == 100, "a stopped journal is not compacted, and it says so")


FORGED = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(%r)
s.sendall(b"quire-replay 1\\n" + bytes([7, 0, 0, 0, 0, 0, 0, 0]) + b"\\1\\0\\0\\0x\\0\\0\\0\\0Fs\\0Tr\\0\\0")
print(s.recv(100).decode())
"""


def damage(directory, dice, blocks):
    """Flipped bits and zeroed blocks in what was written."""
    fired = 0
    segments = sorted(directory.glob("seg-*"))
    for _ in range(blocks):
        path = dice.choice(segments)
        with open(path, "r+b") as f:
            used = [i for i in range(1, path.stat().st_size // BLOCK) if (f.seek(i * BLOCK), any(f.read(BLOCK)))[1]]
            if not used:
                continue
            at = dice.choice(used) * BLOCK
            f.seek(at)
            data = bytearray(f.read(BLOCK))
            if dice.random() < 0.5:
                data[dice.randrange(BLOCK)] ^= 1 << dice.randrange(8)
            else:
                data = bytes(BLOCK)
            f.seek(at)
            f.write(data)
            fired += 1
    return fired


def test_salvage(report, dice, mails):
    c = lab.Host("d.example", "127.0.0.6")
    box = c.user_maildir("joe")
    queue, now = ClassicQueue(lab.scratch / "classic3").make(), int(time.time())
    bodies = {40000 + i: lab.mark(40000 + i, body) for i, (_, body) in enumerate(mails * 4)}
    for i, (n, body) in enumerate(bodies.items()):
        queue.todo(body, b"", [b"joe@d.example"], now - i)
    journal(c, "import", "--qmail-queue", str(queue.path))
    where = c.home / "journal" / "0"
    new = lab.scratch / "new"
    told = journal(c, "salvage", "--into", str(new), "--json")
    report.ok(len(told) == 1 and told[0]["saved"] == len(bodies), f"of a whole journal all is saved ({told[-1]['saved']})")
    shutil.rmtree(new)
    fired = damage(where, dice, 30)
    report.ok(fired > 0, f"blocks damaged: {fired}")
    pieces = lab.scratch / "pieces"
    told = journal(c, "salvage", "--into", str(new), "--pieces", str(pieces), "--json", code=99)
    total, lost = told[-1], {d["id"] for d in told if d.get("lost") == "message"}
    report.ok(total["saved"] + total["cut"] <= len(bodies) and total["saved"] > len(bodies) // 2 and total["saved"] < len(bodies),
              f"of a damaged one {total['saved']} of {len(bodies)} are saved; {total['cut']} in part, {total['without_end']} without end, {total['gaps']} gaps")
    report.ok({p.name.split(".")[0] for p in pieces.iterdir()} == lost, f"what is left of the others is kept for a person ({len(lost)})")
    done = tool(c, "verify", "--dir", str(new))
    report.ok(done.returncode == 0, f"the new journal is whole: {done.stdout.strip().splitlines()[-1:]}")
    report.ok(tool(c, "salvage", "--into", str(new)).returncode == 100, "a directory with a journal is left alone")
    where.rename(lab.scratch / "old")
    new.rename(where)
    c.start()
    report.ok(c.wait_empty(), "quire runs on it, and delivers all")
    got = boxes(box)
    report.ok(len(got) == total["saved"] and all(len(t) == 1 and t[0] == bodies[n] for n, t in got.items()), "each once, with its bytes")
    c.stop()


def test_salvage_of_packed(report, a, mails):
    """What a real journald wrote: frames that need the dictionary of their segment, bounces, outcomes."""
    a.start()
    qmtp, new = lab.QmtpClient(a.ip), lab.scratch / "packed"
    for i, (_, body) in enumerate(mails[:30]):
        qmtp.send(lab.mark(50000 + i, body), b"t@a.example", [b"joe@a.example", b"z@dead.example"])
    deadline = time.monotonic() + 60
    waiting = lambda: [m for m in a.queue() if m["sender"] == "t@a.example" and len(m["recipients"]) == 1]
    while time.monotonic() < deadline and len(waiting()) < 30:
        time.sleep(0.2)
    a.stop()
    dicts = sum("dict" in line.split() for line in journal(a, "dump").splitlines())
    told = journal(a, "salvage", "--into", str(new), "--json")[-1]
    key = lambda objects: sorted((m["id"], m["arrival_us"], m["size"], m["left"], m["all"], m["sender"]) for m in objects)
    listed, saved = journal(a, "ls", "--json"), journal(a, "ls", "--dir", str(new), "--json")
    report.ok(len(listed) >= 30 and key(listed) == key(saved), f"salvage of what journald wrote has the same queue ({told['saved']} messages, {dicts} dictionaries)")
    for where, args in (("from", []), ("to", ["--dir", str(new)])):
        journal(a, "export", "--maildir", str(lab.scratch / where), *args)
    report.ok(lab.maildir(lab.scratch / "from") == lab.maildir(lab.scratch / "to"), "and the same bytes")
    report.ok(tool(a, "verify", "--dir", str(new)).returncode == 0, "and is whole")


def main():
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    a, b = hosts()
    mails = lab.corpus(61)
    joe, joe_x, ann = test_import(report, a, b, mails * 5)
    test_export(report, a, mails)
    test_replay(report, a, b, joe, ann, mails)
    test_salvage_of_packed(report, a, mails)
    test_salvage(report, dice, mails)
    for h in (a, b):
        if report.failed:
            print(h.tail(60))
        h.stop("--now") if h in lab.Host.running else None
    report.end()


main()
