"""journal_home - a journal made by a real home: several starts, a kill, deferrals, bounces, mail of every kind.

Also copies of it, and damage to them."""
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sys"))
import lab


def strange_mail(dice):
    """What no corpus has: nothing, one byte, every byte, more than one part, what looks like our own records."""
    yield b""
    yield b"\n"
    yield bytes(range(256)) * 3 + b"\n"
    yield b"QCHB" * 3000 + b"quireseg" * 100 + b"\n"
    yield dice.randbytes(300000) + b"\n"
    yield b"the same line, again and again\n" * 20000


def make(dice, name="a.example", ip="127.0.0.2"):
    host = lab.Host(name, ip)
    host.user_maildir("joe")
    # Nothing is forgotten while the test looks at it.
    host.control("journalkeep", "1000000000 30")
    # A Maildir that is not there: each try is deferred.
    (host.home / "alias" / ".qmail-later").write_text("./not-there/Maildir/\n")
    return host


def fill(host, dice, n=150):
    """Sends n messages of the corpus and some strange ones; returns the (body, sender, recipients) of those answered yes."""
    sent = []
    mails = [m for _, m in lab.corpus()]
    client = lab.QmtpClient(host.ip)
    strange = list(strange_mail(dice))
    for i in range(n + len(strange)):
        body = strange[i - n] if i >= n else dice.choice(mails)
        sender = dice.choice([b"joe@a.example", b"joe@a.example", b"", b"j\xc3\xb6rg@a.example", b"sm\xf6rg@a.example"])
        rcpts = [b"joe@a.example"]
        if dice.random() < 0.2:
            rcpts = [b"later@a.example"]
        elif dice.random() < 0.15:
            rcpts = [b"nobody-here@a.example"]
        elif dice.random() < 0.1:
            rcpts = [b"joe@a.example", b"later@a.example", b"unknown@a.example"] + [b"joe@a.example"] * 40
        answers = client.send(body, sender, rcpts)
        taken = [r for r, a in zip(rcpts, answers) if a.startswith(b"K")]
        if taken:
            sent.append((body, sender, taken))
    client.close()
    return sent


def directory(host):
    return host.home / "journal" / "0"


def settled(host, seconds=30):
    """Until nothing but what is deferred is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if all(m["queue_name"] == "deferred" for m in host.queue()):
            return True
        time.sleep(0.1)
    return False


def build(dice, starts=3, n=120, cut=False):
    """A stopped home with all of that, and what was answered yes.  cut: it ends with a kill."""
    host = make(dice)
    sent = []
    for i in range(starts):
        host.start()
        sent += fill(host, dice, n)
        if i % 2 == 0:
            settled(host)
            host.stop()
        else:
            host.kill()
    host.start()
    if cut:
        sent += fill(host, dice, n)
        host.kill()
    else:
        settled(host)
        host.stop()
    return host, sent


def copy(source, name):
    where = lab.scratch / name
    if where.exists():
        shutil.rmtree(where)
    shutil.copytree(source, where)
    return where


def tool(verb, where, *args, asan=False, timeout=120, **kw):
    argv = [str(lab.bin_dir() / "quire"), "journal", verb, "--dir", str(where), *args]
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **kw)


def used_blocks(where):
    """(file, offset) of each block that is not zeros, of all segments."""
    found = []
    for path in sorted(pathlib.Path(where).glob("seg-*")):
        data = path.read_bytes()
        found += [(path, at) for at in range(0, len(data), 4096) if any(data[at:at + 4096])]
    return found


def flip(path, offset, dice):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ (1 << dice.randrange(8))]))
