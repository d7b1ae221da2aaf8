#!/usr/bin/env python3
"""Local mail from the wire to its files: .qmail of all kinds, forwards, lists, loops, bursts; as
root also to a user of the system."""
import shutil
import time

import lab
import traffic

BODY = b"\n\nFrom here\nbody\n"


def subjects(box):
    return sorted(line[9:].decode() for m in lab.maildir(box) for line in m.split(b"\n") if line.startswith(b"Subject: "))


def until(seconds, condition):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def system_user(name):
    """A user with a Maildir at home and no .qmail."""
    home = lab.scratch / name
    for d in ("", "Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
        (home / d).mkdir()
    lab.run("useradd", "-M", "-d", str(home), name)
    lab.run("chown", "-R", f"{name}:{name}", str(home))
    return home


def main():
    lab.enter()
    report = lab.Report()
    a = lab.Host("a.example", "127.0.0.2")
    joe, ann = a.user_maildir("joe"), a.user_maildir("ann")
    alias = a.home / "alias"
    for name, text in {"forward": "# both\n&joe@a.example\nann@a.example\n./box\n",
                       "program": "./programbox\n|true\n",
                       "chain-default": "&forward@a.example\n",
                       "loop": "&loop@a.example\n",
                       "list": "+list\njoe@a.example\nann@a.example\n",
                       "list-owner": "./ownerbox\n",
                       "s": "./sbox\n"}.items():
        (alias / f".qmail-{name}").write_text(text)
    to = ["joe", "forward", "program", "chain-x-y", "nobody-here", "list", "loop"]
    (alias / ".qmail-default").unlink(missing_ok=True)
    if lab.privileged():
        shutil.chown(alias, "alias", "nofiles")
        bob = system_user("bob")
        to.append("bob")
    a.start()
    c = traffic.SmtpClient("127.0.0.2")
    for name in to:
        c.send(b"Subject: " + name.encode() + BODY, b"s@a.example", [name.encode() + b"@a.example"])

    # What stays is the mail that wants a program; two bounces are on their way to s.
    bounces = alias / "sbox"
    settled = until(30, lambda: len(a.queue()) == 1 and bounces.exists() and bounces.read_bytes().count(b"From MAILER-DAEMON ") == 2)
    report.ok(settled and a.queue()[0]["recipients"][0]["address"] == "program@a.example", "all is delivered but what wants a program")
    report.ok(not (alias / "programbox").exists(), "which has done nothing so far")
    report.ok(subjects(joe) == ["chain-x-y", "forward", "joe", "list"], f"joe has {subjects(joe)}")
    report.ok(subjects(ann) == ["chain-x-y", "forward", "list"], f"ann has {subjects(ann)}")
    box = (alias / "box").read_bytes()
    report.ok(box.count(b"\nDelivered-To: forward@a.example\n") == 2 and box.count(b"\n\n>From here\n") == 2, "the mbox has both, quoted")
    of_list = next(m for m in lab.maildir(joe) if b"Subject: list\n" in m)
    report.ok(of_list.startswith(b"Return-Path: <list-owner@a.example>\nDelivered-To: joe@a.example\nReceived: ")
              and b"\nDelivered-To: list@a.example\nReceived: " in of_list, "the list's mail comes from its owner")
    told = bounces.read_bytes()
    report.ok(b"Sorry, no mailbox here by that name. (#5.1.1)" in told and b"This message is looping" in told, "the sender is told why")
    if lab.privileged():
        mail = list((bob / "Maildir" / "new").iterdir())
        report.ok(len(mail) == 1 and mail[0].owner() == "bob" and mail[0].stat().st_mode & 0o777 == 0o600, "bob's mail is bob's alone")

    for n in range(200):
        c.send(b"Subject: burst" + BODY, b"s@a.example", [b"joe@a.example"])
    report.ok(until(60, lambda: len(lab.maildir(joe)) == 204), "200 more come to joe")
    report.ok(0 < len(a.pids("quire-local")) <= 10, f"by {len(a.pids('quire-local'))} workers")
    a.stop()
    report.ok(until(5, lambda: not a.pids("quire-local")), "which are gone when the host is")
    if report.failed:
        print(a.tail())
    report.end()


main()
