#!/usr/bin/env python3
"""qmail-queue and sendmail as other programs run them, against a running host, into Maildirs."""
import os
import socket
import subprocess
import time

import lab


class Tools:
    def __init__(self, host):
        self.host = host
        self.env = {"PATH": "/usr/bin:/bin", "QUIRE_HOME": str(host.home), "USER": "joe"}

    def sendmail(self, *args, message=b"", before=(), name="sendmail", **env):
        return subprocess.run([*before, str(lab.bin_dir() / name), *args], input=message, env=dict(self.env, **env),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=90)

    def queue(self, message, envelope, sockets=False):
        """Descriptors 0 and 1 as pipes or sockets; the envelope's stays open until the program ends."""
        ends = []
        for _ in range(2):
            if sockets:
                a, b = socket.socketpair()
                ends.append((a.detach(), b.detach()))
            else:
                ends.append(os.pipe())
        p = subprocess.Popen([str(lab.bin_dir() / "qmail-queue"), "ignored", "arguments"], stdin=ends[0][0], stdout=ends[1][0],
                             stderr=subprocess.PIPE, env=self.env)
        os.close(ends[0][0])
        os.close(ends[1][0])
        os.write(ends[0][1], message)
        os.close(ends[0][1])
        os.write(ends[1][1], envelope)
        if not envelope.endswith(b"\0\0"):
            os.close(ends[1][1])
        text = p.communicate(timeout=90)[1]
        if envelope.endswith(b"\0\0"):
            os.close(ends[1][1])
        return p.returncode, text


def arrives(box, text, seconds=30):
    """The delivered message that holds text, without what delivery put in front."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for message in lab.maildir(box):
            if text in message:
                return message
        time.sleep(0.05)
    return b""


def below_received(message):
    """(Return-Path and Delivered-To, Received, the rest)"""
    lines = message.split(b"\n", 3)
    return (lines[:2], lines[2], lines[3]) if len(lines) == 4 else ([], b"", b"")


def main():
    lab.enter()
    report = lab.Report()
    host = lab.Host("a.example", "127.0.0.2")
    joe, ann = host.user_maildir("joe"), host.user_maildir("ann")
    host.control("concurrencyremote", "0")
    host.start()
    tools = Tools(host)

    whole = b"Date: d\nMessage-ID: m\nFrom: f\nX-Odd :  y \nTo: Joe <joe>\nBcc: ann\n\nfirst\n..\n.\nlast"
    done = tools.sendmail("-t", "-i", "-f", "list@l.example", message=whole)
    report.ok((done.returncode, done.stdout, done.stderr) == (0, b"", b""), f"sendmail -t is silent and exits 0: {done}")
    for box in (joe, ann):
        head, received, rest = below_received(arrives(box, b"first"))
        report.ok(head[:1] == [b"Return-Path: <list@l.example>"], f"the sender of -f is the envelope's: {head}")
        report.ok(received.startswith(b"Received: (qmail ") and b" invoked by uid " in received, f"one Received line: {received}")
        report.ok(rest == whole.replace(b"Bcc: ann\n", b""), f"the message is as it was, without Bcc: {rest}")

    done = tools.sendmail("joe", message=b"Subject: bare\n\nbody\n.\nnever\n")
    got = below_received(arrives(joe, b"Subject: bare"))[2]
    report.ok(done.returncode == 0 and b"\nFrom: joe@a.example\n" in got and b".qmail@a.example>\n" in got and
              got.startswith(b"Date: ") and got.endswith(b"\nSubject: bare\n\nbody\n"), f"what is missing is added, a dot ends it: {got}")

    for sockets in (False, True):
        kind = "sockets" if sockets else "pipes"
        code = tools.queue(f"by {kind}\r\n\0\xff".encode("latin1"), b"Fs@b.example\0Tann@a.example\0\0", sockets)
        got = below_received(arrives(ann, f"by {kind}".encode()))[2]
        report.ok(code == (0, b"") and got == f"by {kind}\r\n\0\xff".encode("latin1"), f"qmail-queue with {kind}: {code} {got}")
        report.ok(tools.queue(b"cut", b"Fs@b.example\0Tann@a.example\0", sockets) == (54, b""), f"a cut envelope by {kind} is 54")
    report.ok(tools.queue(b"cut", b"Xs@b.example\0\0")[0] == 91, "a bad letter is 91")
    report.ok(tools.queue(b"cut", b"F\0T" + b"x" * 1003 + b"\0\0")[0] == 11, "1003 bytes of address are 11")

    big = b"Subject: big\n\n" + b"some line of a large body\n" * 500000
    done = tools.sendmail("-oi", "far@b.example", message=big)
    listed = tools.sendmail("-bp").stdout
    report.ok(done.returncode == 0 and b"far@b.example" in listed and b"cut" not in listed, f"a body of 13 MB is queued, -bp shows it: {listed}")
    for name, code in (("mailq", 0), ("newaliases", 100)):
        link = lab.bin_dir() / name
        link.symlink_to("sendmail")
        report.ok(tools.sendmail(name=name).returncode == code, f"called as {name}: exit {code}")

    done = tools.sendmail("-bs", message=b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<ann@a.example>\r\nDATA\r\nSubject: session\r\n\r\nx\r\n.\r\nQUIT\r\n")
    report.ok(done.returncode == 0 and arrives(ann, b"Subject: session"), f"-bs speaks SMTP: {done.stdout}")

    if lab.privileged():
        done = tools.sendmail("ann", message=b"Subject: hard\n\n",
                              before=("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"))
        received = below_received(arrives(ann, b"Subject: hard"))[1]
        report.ok(done.returncode == 0 and b" invoked by uid 65534)" in received, f"any user, without new privileges: {received}")

    code = tools.sendmail("joe", message=b"x\n", QUIRE_HOME="/nonexistent")
    report.ok(code.returncode == 111 and code.stderr.count(b"\n") == 1, f"no home is 111: {code.stderr}")
    host.stop()
    waiting = subprocess.Popen([str(lab.bin_dir() / "sendmail"), "joe"], stdin=subprocess.PIPE, env=tools.env)
    waiting.stdin.write(b"Subject: patient\n\n")
    waiting.stdin.close()
    time.sleep(1)
    report.ok(waiting.poll() is None, "it waits while nobody runs")
    host.start()
    report.ok(waiting.wait(60) == 0 and arrives(joe, b"Subject: patient"), "and goes on when somebody does")
    report.end()


if __name__ == "__main__":
    main()
