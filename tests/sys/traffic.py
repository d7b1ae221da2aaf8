"""traffic - clients that send mail and know what they were promised.

Every attempt has a number of its own.  A Ledger knows of each: sent and answered yes (kept),
answered no, never answered (may or may not arrive), or broken off by us (must never arrive)."""
import collections
import pathlib
import socket
import threading

import lab


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.next = 0
        self.kept, self.refused, self.unknown, self.aborted = {}, set(), set(), set()
        self.body = {}

    def number(self, body, rcpt):
        with self.lock:
            n = self.next
            self.next += 1
            self.body[n] = body
            return n

    def settle(self, where, n, value=None):
        with self.lock:
            if where is self.kept:
                where[n] = value
            else:
                where.add(n)


class SmtpClient:
    """Just enough of RFC 5321 to send mail and to break off."""

    def __init__(self, ip, port=25, timeout=30):
        self.sock = socket.create_connection((ip, port), timeout=timeout)
        self.file = self.sock.makefile("rb")
        self.expect(b"220")
        self.command(b"EHLO client.example", b"250")

    def reply(self):
        lines = []
        while True:
            line = self.file.readline()
            if not line.endswith(b"\n"):
                raise EOFError("the server closed")
            lines.append(line)
            if line[3:4] != b"-":
                return b"".join(lines)

    def expect(self, code):
        r = self.reply()
        if not r.startswith(code):
            raise Refused(r)
        return r

    def command(self, line, code):
        self.sock.sendall(line + b"\r\n")
        return self.expect(code)

    @staticmethod
    def encode(message):
        """LF lines to the wire: CR LF, dots doubled; a last line without its end gets one."""
        lines = message.split(b"\n")
        tail = lines.pop()
        out = b"".join((b"." if l.startswith(b".") else b"") + l + b"\r\n" for l in lines)
        if tail:
            out += (b"." if tail.startswith(b".") else b"") + tail + b"\r\n"
        return out

    def send(self, message, sender, rcpts, abort=None):
        burst = b"MAIL FROM:<%s>\r\n" % sender + b"".join(b"RCPT TO:<%s>\r\n" % r for r in rcpts) + b"DATA\r\n"
        self.sock.sendall(burst)
        for _ in range(1 + len(rcpts)):
            self.expect(b"250")
        self.expect(b"354")
        wire = self.encode(message)
        if abort:  # the dice that say where to break off
            self.sock.sendall(wire[:abort.randrange(len(wire))])
            self.sock.close()
            return None
        self.sock.sendall(wire + b".\r\n")
        return self.expect(b"250")

    def close(self):
        self.sock.close()


class Refused(Exception):
    pass


class Sender(threading.Thread):
    """Posts messages until there are enough; reconnects whenever it is thrown out."""

    def __init__(self, ledger, dice, work, host, qmtp, pause=0):
        super().__init__(daemon=True)
        self.ledger, self.dice, self.work, self.host, self.qmtp, self.pause = ledger, dice, work, host, qmtp, pause
        self.client = None
        self.stop = threading.Event()

    def connect(self):
        while not self.stop.is_set():
            try:
                if self.qmtp:
                    return lab.QmtpClient(self.host.ip, self.host.qmtp, timeout=30)
                return SmtpClient(self.host.ip, self.host.smtp)
            except (OSError, EOFError, Refused):
                self.stop.wait(0.02)
        return None

    def run(self):
        while not self.stop.is_set():
            item = self.work()
            if item is None:
                return
            while not self.post(*item) and not self.stop.is_set():
                self.stop.wait(0.01)
            if self.pause:
                self.stop.wait(self.dice.uniform(0, 2 * self.pause))

    def post(self, body, sender, rcpt):
        l = self.ledger
        n = l.number(body, rcpt)
        abort = self.dice.random() < 0.04
        if not self.client:
            self.client = self.connect()
            if not self.client:
                return False
        try:
            if self.qmtp:
                return self.post_qmtp(n, body, sender, rcpt, abort)
            self.client.send(lab.mark(n, body), sender, [rcpt], self.dice if abort else None)
        except Refused:
            l.settle(l.refused, n)
            self.drop()
            return False
        except (OSError, EOFError, ValueError):
            l.settle(l.aborted if abort else l.unknown, n)
            self.drop()
            return False
        if abort:
            l.settle(l.aborted, n)
            self.client = None
        else:
            l.settle(l.kept, n, rcpt)
        return not abort

    def post_qmtp(self, n, body, sender, rcpt, abort):
        l = self.ledger
        package = self.client.package(lab.mark(n, body), sender, [rcpt])
        if abort:
            l.settle(l.aborted, n)
            self.client.sock.sendall(package[:self.dice.randrange(len(package))])
            self.drop()
            return False
        self.client.sock.sendall(package)
        if self.client.answer().startswith(b"K"):
            l.settle(l.kept, n, rcpt)
            return True
        l.settle(l.refused, n)
        return False

    def drop(self):
        if self.client:
            self.client.close()
            self.client = None

    def drop_hard(self):
        """From another thread: ends a wait for an answer."""
        client = self.client
        if client:
            try:
                client.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Load:
    """Senders that go on until stop(): mail of the corpus to one of the addresses, by SMTP and by QMTP."""

    def __init__(self, dice, host, rcpts, senders=6, pause=0.01, ledger=None, sender=b"sender@a.example", mails=None):
        self.ledger, self.ended = ledger or Ledger(), threading.Event()
        mails = mails or [m for _, m in lab.corpus()]

        def work():
            return None if self.ended.is_set() else (dice.choice(mails), sender, dice.choice(rcpts))
        self.senders = [Sender(self.ledger, dice, work, host, qmtp=i % 2 == 1, pause=pause) for i in range(senders)]
        for s in self.senders:
            s.start()

    def stop(self, patience=5):
        """What waits for an answer so long will never know."""
        self.ended.set()
        for s in self.senders:
            s.join(patience)
        for s in self.senders:
            s.stop.set()
            if s.is_alive():
                s.drop_hard()
        for s in self.senders:
            s.join(35)


class Audit:
    """What arrived, held against what was promised."""

    def __init__(self, ledger, boxes):
        self.ledger, self.arrived, self.wrong = ledger, collections.Counter(), 0
        for box in boxes:
            for path in (pathlib.Path(box) / "new").iterdir():
                n, text, _ = lab.unmark(path.read_bytes())
                self.arrived[n] += 1
                wanted = lab.mark(n, ledger.body[n]) if n in ledger.body else None
                # By SMTP the last line always ends.
                self.wrong += wanted is None or text not in (wanted, wanted + b"\n")
        self.lost = [n for n in ledger.kept if not self.arrived[n]]
        self.ghosts = [n for n in ledger.aborted if self.arrived[n]]
        self.twice = sum(c > 1 for c in self.arrived.values())

    def say(self, report):
        if not report.ok(not self.lost, f"{len(self.lost)} lost of {len(self.ledger.kept)} that were answered yes"):
            print("# lost:", self.lost[:20], flush=True)
        report.ok(not self.ghosts, f"{len(self.ghosts)} delivered whose end was never sent")
        report.ok(self.wrong == 0, f"{self.wrong} delivered with other bytes")
        print(f"# {self.twice} delivered twice; {len(self.ledger.refused)} refused, {len(self.ledger.unknown)} lost their answer", flush=True)
