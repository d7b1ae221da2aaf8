"""classic - a queue as a stopped qmail-send leaves it: written, and read back."""
import os
import pathlib


class ClassicQueue:
    """A queue as a stopped qmail-send leaves it: written, and read back."""

    def __init__(self, path, split=23, big_todo=False):
        self.path, self.split, self.big_todo = pathlib.Path(path), split, big_todo

    def make(self):
        for d in ("pid", "intd", "todo", "bounce", "lock"):
            (self.path / d).mkdir(parents=True)
        for d in ("mess", "info", "local", "remote") + (("todo", "intd") if self.big_todo else ()):
            for i in range(self.split):
                (self.path / d / str(i)).mkdir(parents=True)
        (self.path / "lock" / "sendmutex").touch()
        return self

    def name(self, kind, n):
        split = kind in ("mess", "info", "local", "remote") or (self.big_todo and kind in ("todo", "intd"))
        return self.path / kind / str(n % self.split) / str(n) if split else self.path / kind / str(n)

    def mess(self, body):
        tmp = self.path / "pid" / "new"
        tmp.write_bytes(body)
        n = tmp.stat().st_ino
        tmp.rename(self.name("mess", n))
        return n

    def put(self, kind, n, data, mtime=None):
        self.name(kind, n).write_bytes(data)
        if mtime:
            os.utime(self.name(kind, n), (mtime, mtime))

    def todo(self, body, sender, rcpts, mtime):
        n = self.mess(body)
        self.put("todo", n, b"u1000\0p77\0F%s\0" % sender + b"".join(b"T%s\0" % r for r in rcpts), mtime)
        return n

    def preprocessed(self, body, sender, birth, local=(), remote=(), bounce=b"", due=None):
        n = self.mess(body)
        self.put("info", n, b"F%s\0" % sender, birth)
        for kind, rcpts in (("local", local), ("remote", remote)):
            if rcpts:
                self.put(kind, n, b"".join(r + b"\0" for r in rcpts), due)
        if bounce:
            self.put("bounce", n, bounce)
        return n

    def messages(self):
        """{body: (sender, birth, local, remote, bounce)} of what is preprocessed."""
        found = {}
        for path in self.path.glob("info/*/*"):
            n = int(path.name)
            read = lambda kind: self.name(kind, n).read_bytes() if self.name(kind, n).exists() else b""
            records = lambda data: sorted(data.split(b"\0")[:-1])
            assert self.name("mess", n).stat().st_ino == n, "a mess file's name is its inode's number"
            found[read("mess")] = (path.read_bytes(), int(path.stat().st_mtime), records(read("local")), records(read("remote")), read("bounce"))
        return found
