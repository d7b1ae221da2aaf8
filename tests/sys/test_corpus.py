#!/usr/bin/env python3
"""Real messages in by SMTP, QMTP and sendmail; out to Maildirs, and to an SMTP sink: the same bytes."""
import os
import socket
import subprocess
import threading

import lab
import traffic


class SmtpSink(threading.Thread):
    """Accepts everything and keeps the wire bytes of DATA; offers what it is told to."""

    def __init__(self, ip, port=25, extensions=(b"PIPELINING", b"8BITMIME", b"SIZE 0")):
        super().__init__(daemon=True)
        self.got, self.extensions = [], extensions
        self.listener = socket.create_server((ip, port))
        self.start()

    def run(self):
        while True:
            conn, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        f = conn.makefile("rb")
        say = lambda line: conn.sendall(line + b"\r\n")
        say(b"220 sink")
        rcpts = []
        for line in f:
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"EHLO":
                lines = [b"sink"] + list(self.extensions)
                for i, l in enumerate(lines):
                    say((b"250-" if i + 1 < len(lines) else b"250 ") + l)
            elif verb == b"RCPT":
                rcpts.append(line)
                say(b"250 ok")
            elif verb == b"DATA":
                say(b"354 go")
                data = b""
                while not (data.endswith(b"\r\n.\r\n") or data == b".\r\n"):
                    data += f.readline()
                self.got.append((rcpts, data[:-3]))
                rcpts = []
                say(b"250 kept")
            elif verb == b"QUIT":
                say(b"221 bye")
                break
            else:
                say(b"250 ok")
        conn.close()


def smtp_form(body):
    """What must leave by SMTP for a stored body: CR LF lines, stray CRs as spaces, dots doubled."""
    return traffic.SmtpClient.encode(body.replace(b"\r\n", b"\n").replace(b"\r", b" "))


def main():
    lab.enter()
    report = lab.Report()
    lab.NameServer({"b.example": "@ MX 12801 mx\nmx A 127.0.0.3\n",
                    "sink.example": "@ MX 10 mx\nmx A 127.0.0.4\n",
                    "old.example": "@ MX 10 mx\nmx A 127.0.0.5\n"})
    sink, old = SmtpSink("127.0.0.4"), SmtpSink("127.0.0.5", extensions=())
    a, b = lab.Host("a.example", "127.0.0.2"), lab.Host("b.example", "127.0.0.3")
    for h in (a, b):
        h.control("resolvers", "127.0.0.1")
        h.control("relayclients", "127.0.0.0/8")
    joe, ann = a.user_maildir("joe"), b.user_maildir("ann")
    a.start()
    b.start()
    mails = lab.corpus(6046 if "QUIRE_SOAK" in os.environ else 61)
    strange = [(b"bare\rCR\r\r\n.\n..dots\nno end", True), (b"\n", True), (b"", False), (b"Subject: x\n\n" + b"y" * 5000 + b"\n", True),
               (bytes(range(256)) * 3, False), (b"x\n" * 400000, True)]
    bodies = [(m, True) for _, m in mails] + strange
    rcpts = [b"joe@a.example", b"ann@b.example", b"x@sink.example", b"y@old.example"]

    smtp, qmtp = traffic.SmtpClient(a.ip), lab.QmtpClient(a.ip)
    sent = {}
    for n, (body, smtp_too) in enumerate(bodies):
        message = lab.mark(2 * n, body)
        answers = qmtp.send(message, b"s@a.example", rcpts)
        sent[2 * n] = message
        if not all(x.startswith(b"K") for x in answers):
            report.ok(False, f"QMTP took message {n}: {answers}")
        # A bare LF can't be sent by SMTP; encode() ends every line, so only a lone CR stays as it is.
        if smtp_too and b"\r\n" not in body:
            message = lab.mark(2 * n + 1, body)
            smtp.send(message, b"s@a.example", rcpts)
            sent[2 * n + 1] = message if message.endswith(b"\n") else message + b"\n"
    report.ok(True, f"{len(sent)} messages to {len(rcpts)} recipients each went in")
    report.ok(a.wait_empty(90) and b.wait_empty(60), "both queues ran empty")

    for name, box in (("a's", joe), ("b's", ann)):
        got = {}
        for data in lab.maildir(box):
            n, text, front = lab.unmark(data)
            got.setdefault(n, []).append((text, front))
        report.ok(sorted(got) == sorted(sent), f"{name} Maildir has every message ({len(got)})")
        report.ok(all(len(v) == 1 for v in got.values()), f"{name} Maildir has each once")
        bad = [n for n in sent if got.get(n, [(None, b"")])[0][0] != sent[n]]
        report.ok(not bad, f"{name} Maildir has the same bytes (differing: {bad[:10]})")
        front = got[0][0][1]
        report.ok(front.startswith(b"Return-Path: <s@a.example>\nDelivered-To: "), f"{name} files begin with Return-Path and Delivered-To")
    n, _, front = lab.unmark(lab.maildir(ann)[0])
    report.ok(front.count(b"Received: ") == 2 and front.count(b"with QMTP") >= 1, "b's copy came by QMTP, with one Received line a host")

    for name, server in (("the sink's", sink), ("the old server's", old)):
        got = {}
        for _, wire in server.got:
            at = 0 if wire.startswith(b"X-Lab: ") else wire.find(b"\r\nX-Lab: ") + 2
            got[int(wire[at + 7:wire.index(b"\r\n", at)])] = wire[at:]
        report.ok(sorted(got) == sorted(sent), f"{name} wire has every message ({len(got)})")
        bad = [n for n in sent if got.get(n) != smtp_form(sent[n])]
        report.ok(not bad, f"{name} bytes are right on the wire (differing: {bad[:10]})")
        report.ok(all(b"\n" not in w.replace(b"\r\n", b"") and b"\r" not in w.replace(b"\r\n", b"") for w in got.values()),
                  f"{name} wire never has a bare CR or LF")

    # sendmail and qmail-queue, as a user of the host.
    env = dict(os.environ, QUIRE_HOME=str(a.home))
    tool = lab.bin_dir()
    done = subprocess.run([tool / "sendmail", "-t", "-i"], env=env, capture_output=True,
                          input=b"To: joe@a.example\nBcc: ann@b.example\nSubject: by hand\n\n.\nbody\n")
    report.ok(done.returncode == 0, f"sendmail -t took it {done.stderr!r}")
    done = subprocess.run([tool / "sendmail", "-f", "me@a.example", "joe@a.example"], env=env, capture_output=True,
                          input=b"Subject: args\n\nbody\n")
    report.ok(done.returncode == 0, f"sendmail with arguments took it {done.stderr!r}")
    a.wait_empty(60), b.wait_empty(60)
    for name, box in (("To", joe), ("Bcc", ann)):
        hand = [d for d in lab.maildir(box) if b"\nSubject: by hand\n" in d]
        report.ok(len(hand) == 1 and hand[0].endswith(b"\n\n.\nbody\n"), f"the {name} copy arrived")
        head = hand[0].split(b"\n\n")[0] if hand else b""
        report.ok(b"\nDate: " in head and b"\nMessage-ID: <" in head and b"\nFrom: " in head and b"Bcc:" not in head,
                  f"the {name} copy has Date, From, Message-ID and no Bcc")
    report.ok(any(b"Received: (qmail " in d and b"invoked by uid" in d for d in lab.maildir(joe)), "mail of a local user says so")

    text = a.text()
    report.ok("status: local 0/10 remote 0/20" in text and "starting delivery 1: msg" in text and "delivery 1: success: " in text,
              "the log speaks as qmail-send's does")
    if report.failed:
        print(a.tail(80), b.tail(40), sep="\n----\n")
    a.stop()
    b.stop()
    report.ok("status: exiting" in a.text(), "stop waits for the end")
    report.end()


main()
