"""traffic - clients that send mail and know what they were promised.

Every attempt has a number of its own.  A Ledger knows of each: sent and answered yes (kept),
answered no, never answered (may or may not arrive), or broken off by us (must never arrive)."""
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
