"""lab - hosts of quire, a real name server and a network of their own, for system tests and the demo.

enter() puts the calling program into namespaces: network (so that 127.0.0.2:25 is free and nothing
leaves the machine), mounts and, as root, a private copy of /etc in which `quire init` may make its
users.  Everything lives in one scratch directory that goes away at the end, with all processes:
the program is the first process of a pid namespace, and its end is theirs."""
import atexit
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("QUIRE_BUILD", TOP / "build"))
if not BUILD.is_absolute():
    BUILD = TOP / BUILD
# The sanitizers' build lies below the one that has the peers.
PEERS = next((d for d in (BUILD, BUILD.parent, TOP / "build") if (d / "peers").is_dir()), BUILD) / "peers" / "root"
CORPUS = TOP / "tests" / "data" / "mail"
ENTERED = "QUIRE_LAB"
scratch = None


def enter(private_etc=True):
    """Re-executes this program inside its namespaces; returns there, with `scratch` made."""
    global scratch
    root = os.geteuid() == 0
    user = os.environ.pop("QUIRE_LAB_USER", None)
    if root and user and ENTERED not in os.environ:
        sys.exit(as_user(user))
    if ENTERED not in os.environ:
        where = tempfile.mkdtemp(prefix="quire-lab.", dir=os.environ.get("QUIRE_LAB_DIR"))
        flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if not root:
            flags = ["--user", "--map-root-user"] + flags
        env = dict(os.environ, **{ENTERED: where, "PYTHONDONTWRITEBYTECODE": "1"})
        if not root:
            env["QUIRE_LAB_MAPPED"] = "1"
        try:
            code = subprocess.call(["unshare"] + flags + [sys.executable] + sys.argv, env=env)
        except KeyboardInterrupt:
            code = 130
        finally:
            subprocess.call(["umount", "-lq", where + "/tmpfs"], stderr=subprocess.DEVNULL)
            shutil.rmtree(where, ignore_errors=True)
        sys.exit(code)
    scratch = pathlib.Path(os.environ[ENTERED])
    scratch.chmod(0o755)
    run("ip", "link", "set", "lo", "up")
    if os.environ.get("QUIRE_LAB_MAPPED") is None and private_etc:
        shutil.copytree("/etc", scratch / "etc", symlinks=True, ignore_dangling_symlinks=True)
        run("mount", "--bind", str(scratch / "etc"), "/etc")
    atexit.register(lambda: [h.kill() for h in list(Host.running)])


def as_user(user):
    """The same program as an ordinary user, from a copy of the tree that this user can read."""
    import pwd
    who = pwd.getpwnam(user)
    where = pathlib.Path(tempfile.mkdtemp(prefix="quire-user.", dir=os.environ.get("QUIRE_LAB_DIR")))
    try:
        shutil.copytree(TOP / "tests", where / "tests")
        shutil.copytree(BUILD / "bin", where / "build" / "bin")
        shutil.copytree(PEERS, where / "build" / "peers" / "root", symlinks=True)
        (where / "lab").mkdir()
        run("chown", "-R", f"{who.pw_uid}:{who.pw_gid}", str(where))
        where.chmod(0o755)
        env = dict(os.environ, QUIRE_BUILD=str(where / "build"), QUIRE_LAB_DIR=str(where / "lab"), HOME=str(where))
        program = where / "tests" / pathlib.Path(sys.argv[0]).resolve().relative_to(TOP / "tests")
        return subprocess.call(["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups", "/usr/bin/python3",
                                str(program), *sys.argv[1:]], env=env, cwd=where)
    finally:
        shutil.rmtree(where, ignore_errors=True)


def run(*argv, **kw):
    return subprocess.run(argv, check=True, **kw)


def bin_dir():
    """The programs where every user can read them: the tree may lie below a closed directory."""
    target = scratch / "bin"
    if not target.exists():
        shutil.copytree(BUILD / "bin", target)
        target.chmod(0o755)
    return target


def privileged():
    return os.geteuid() == 0 and "QUIRE_LAB_MAPPED" not in os.environ


class Host:
    """One home and its processes."""

    running = []

    def __init__(self, name, ip, smtp=25, qmtp=209, where=None):
        self.name, self.ip, self.smtp, self.qmtp = name, ip, smtp, qmtp
        self.home = pathlib.Path(where or scratch) / name
        self.log = self.home / "run" / "log"
        self.quire("init", "--me", name, "--smtp", f"{ip}:{smtp}", "--qmtp", f"{ip}:{qmtp}")
        self.control("segmentsize", "8388608")
        self.control("ringsize", "8388608")

    def quire(self, verb, *args, check=True, **kw):
        argv = [str(bin_dir() / "quire"), *verb.split(), "--home", str(self.home), *args]
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.STDOUT)
        try:
            done = subprocess.run(argv, text=True, timeout=kw.pop("timeout", 120), **kw)
        except subprocess.TimeoutExpired as e:
            raise RuntimeError(f"{' '.join(argv)}: no answer in {e.timeout} s\n{self.tail()}") from e
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout}\n{self.tail()}")
        return done

    def tail(self, lines=40):
        return "\n".join(self.text().splitlines()[-lines:])

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def control(self, name, *lines):
        (self.home / "control" / name).write_text("".join(line + "\n" for line in lines))

    def user_maildir(self, local):
        """Mail for `local` goes to a Maildir of that name in alias/."""
        alias = self.home / "alias"
        box = alias / f"Maildir-{local}"
        for d in (box, box / "tmp", box / "new", box / "cur"):
            d.mkdir(mode=0o700, exist_ok=True)
            if privileged():
                shutil.chown(d, "alias", "nofiles")
        (alias / f".qmail-{local}").write_text(f"./{box.name}/\n")
        return box

    def start(self, **env):
        self.quire("start", "--detach", env=dict(os.environ, **env))
        if self not in Host.running:
            Host.running.append(self)

    def stop(self, *args):
        self.quire("stop", *args)
        if self in Host.running:
            Host.running.remove(self)

    def start_pid(self):
        try:
            return int((self.home / "run" / "start.pid").read_text())
        except (OSError, ValueError):
            return 0

    def pids(self, program=None):
        """The daemons below our quire-start, workers of lspawn too."""
        parents, names = {}, {}
        for p in pathlib.Path("/proc").iterdir():
            if p.name.isdigit():
                try:
                    stat = (p / "stat").read_text()
                except OSError:
                    continue
                pid, rest = int(p.name), stat.rsplit(")", 1)[1].split()
                names[pid] = stat.split("(", 1)[1].rsplit(")", 1)[0]
                if rest[0] != "Z":
                    parents.setdefault(int(rest[1]), []).append(pid)
        found, todo = [], [self.start_pid()]
        while todo:
            for child in parents.get(todo.pop(), []):
                found.append(child)
                todo.append(child)
        return [p for p in found if not program or names[p].startswith(program[:15])]

    def kill(self):
        """SIGKILL to every process at once: what a power cut leaves of them."""
        start = self.start_pid()
        victims = ([start] if start else []) + self.pids()
        for pid in victims:
            try:
                os.kill(pid, signal.SIGSTOP)
            except ProcessLookupError:
                pass
        for pid in victims + self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 10
        while any(alive(p) for p in victims) and time.monotonic() < deadline:
            time.sleep(0.005)
        if self in Host.running:
            Host.running.remove(self)
        return len(victims)

    def status(self):
        return json.loads(self.quire("status", "--json", timeout=15).stdout)

    def queue(self):
        return [json.loads(line) for line in self.quire("queue", "--json").stdout.splitlines()]

    def wait_empty(self, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.queue():
                return True
            time.sleep(0.1)
        return False


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class NameServer:
    """nsd, unpacked by tools/fetch-peers, with the zones given: {"b.example": "text of the zone"}."""

    def __init__(self, zones, ip="127.0.0.1", port=53):
        where = scratch / f"nsd-{ip}"
        where.mkdir()
        zone_lines = ""
        for name, text in zones.items():
            path = where / f"{name}.zone"
            path.write_text(f"$ORIGIN {name}.\n$TTL 60\n@ SOA ns.{name}. root.{name}. 1 60 60 60 60\n@ NS ns.{name}.\n"
                            f"ns A {ip}\n{text}\n")
            zone_lines += f'zone:\n  name: "{name}"\n  zonefile: "{path}"\n'
        conf = where / "nsd.conf"
        conf.write_text(f'server:\n  ip-address: {ip}@{port}\n  username: ""\n  chroot: ""\n  zonesdir: ""\n'
                        f'  database: ""\n  pidfile: "{where}/pid"\n  xfrdfile: "{where}/xfrd"\n  zonelistfile: "{where}/list"\n'
                        f'  xfrdir: "{where}"\n  server-count: 1\n  hide-version: yes\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\nremote-control:\n  control-enable: no\n{zone_lines}')
        self.process = subprocess.Popen([str(PEERS / "usr/sbin/nsd"), "-d", "-c", str(conf)],
                                        stdout=subprocess.DEVNULL, stderr=open(where / "log", "w"))
        wait_port(ip, port, self.process, where / "log")


def wait_port(ip, port, process, log=None, seconds=20):
    """Until somebody listens there, or the process that should is gone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as s:
            if s.connect_ex((ip, port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{process.args[0]} does not listen on {ip}:{port}: " + (log.read_text() if log else ""))


def netstring(data):
    return b"%d:%s," % (len(data), data)


class QmtpClient:
    """A client of the Quick Mail Transfer Protocol, written from its specification."""

    def __init__(self, ip, port=209, timeout=60):
        self.sock = socket.create_connection((ip, port), timeout=timeout)
        self.file = self.sock.makefile("rb")

    @staticmethod
    def package(message, sender, rcpts, marker=b"\n"):
        return netstring(marker + message) + netstring(sender) + netstring(b"".join(netstring(r) for r in rcpts))

    def post(self, message, sender, rcpts, marker=b"\n"):
        self.sock.sendall(self.package(message, sender, rcpts, marker))

    def answer(self):
        digits = b""
        while True:
            c = self.file.read(1)
            if not c:
                raise EOFError("the server closed")
            if c == b":":
                break
            digits += c
        text = self.file.read(int(digits))
        if self.file.read(1) != b",":
            raise ValueError("no comma")
        return text

    def send(self, message, sender, rcpts, marker=b"\n"):
        self.post(message, sender, rcpts, marker)
        return [self.answer() for _ in rcpts]

    def close(self):
        self.sock.close()


def corpus(limit=None):
    """[(name, bytes)]: the sample in the tree; the whole corpus where it was fetched and a limit is not met."""
    paths = sorted(CORPUS.glob("*.eml"))
    whole = PEERS.parent / "corpus"
    if limit is not None and limit > len(paths) and whole.is_dir():
        paths = sorted(whole.glob("*.eml"))
    return [(p.name, p.read_bytes()) for p in (paths[:limit] if limit else paths)]


def mark(number, data):
    """A message that can be recognised, and told from what was put in front of it."""
    return b"X-Lab: %d\n" % number + data


def unmark(data):
    """(number, the message from its mark on, what stands in front); number is None without a mark."""
    at = 0 if data.startswith(b"X-Lab: ") else data.find(b"\nX-Lab: ") + 1
    if at == 0 and not data.startswith(b"X-Lab: "):
        return None, b"", data
    return int(data[at + 7:data.index(b"\n", at)]), data[at:], data[:at]


def maildir(box):
    """Contents of the files delivered to a Maildir."""
    return [p.read_bytes() for p in sorted((pathlib.Path(box) / "new").iterdir())]


class Report:
    """ok and not ok lines; tests/run counts them."""

    def __init__(self):
        self.failed = 0

    def ok(self, condition, text):
        print(("ok - " if condition else "not ok - ") + text, flush=True)
        self.failed += not condition
        return condition

    def end(self):
        sys.exit(1 if self.failed else 0)


def seed():
    """The seed of this run, printed; QUIRE_SEED repeats one."""
    s = int(os.environ.get("QUIRE_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"# seed {s}", flush=True)
    return random.Random(s)
