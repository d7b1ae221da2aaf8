#!/usr/bin/env python3
"""The log, as programs read it that know qmail's: logwatch, isoqlog and awstats from Debian report what really
happened; fail2ban's and multitail's expressions find what they look for; and the JSON form of the log tells the same.

What really happened is never taken from the log: it is what the test posted, what lies in the Maildirs (each
message has a recipient who got it, but for notices, which lie inside other notices), what an SMTP sink took and
answered, and what `quire queue` said of a recipient that had to wait."""
import collections
import datetime
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sys"))
import lab      # noqa: E402
import traffic  # noqa: E402

LOGWATCH = lab.PEERS / "usr/share/logwatch"
AWSTATS = lab.PEERS / "usr/share/doc/awstats/examples/maillogconvert.pl", lab.PEERS / "usr/lib/cgi-bin/awstats.pl"
ISOQLOG = lab.PEERS / "usr/bin/isoqlog"
FAIL2BAN_OURS = r"smtpd: peer=<HOST> refused=5\d\d "
RETRY = 8   # seconds until a second attempt: what the test needs to put things right in the meantime
TZ = dict(os.environ, TZ="UTC", LC_ALL="C")


# A sender made of what is written differently in both forms of the log.
ODD = 'o"d\\d\n\x01\xe9\x7f%s@x.example'


def safe(text):
    """docs/qmail.md 12.2"""
    return "".join("/" if c == "\n" else "_" if not 33 <= ord(c) <= 126 or c == "%" else c for c in text)


# Lines that a stranger would like to see in the log.
FORGED = (b"info msg 1: bytes 99999 from <forged@x.example> qp 1 uid 0", b"starting delivery 1: msg 1 to local forged@x.example",
          b"starting delivery 2: msg 1 to remote forged@x.example", b"delivery 1: failure: Remote_host_said:_599_x/")


# ---- what happens

class Sink:
    """An SMTP server that refuses nobody@, says 451 once to each slow@, refuses mail about `triple`, and knows what it took."""

    def __init__(self, ip):
        self.came, self.said, self.lock = [], collections.Counter(), threading.Lock()
        self.listener = socket.create_server((ip, 25))
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            conn, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def recipient(self, rcpt):
        with self.lock:
            if rcpt.startswith("nobody@"):
                answer = b"550 5.1.1 nobody of that name"
            elif rcpt.startswith("slow@") and not self.said[(rcpt, b"451")]:
                answer = b"451 4.3.0 come again"
            else:
                answer = b"250 ok"
            self.said[(rcpt, answer[:3])] += 1
        return answer

    def serve(self, conn):
        f = conn.makefile("rb")
        conn.sendall(b"220 sink\r\n")
        rcpts = []
        for line in f:
            verb, answer = line[:4].upper(), b"250 ok"
            if verb == b"MAIL":
                rcpts, sender = [], line[line.index(b"<") + 1:line.index(b">")].decode()
            elif verb == b"RCPT":
                rcpt = line[line.index(b"<") + 1:line.index(b">")].decode()
                answer = self.recipient(rcpt)
                if answer[:1] == b"2":
                    rcpts.append(rcpt)
            elif verb == b"DATA":
                conn.sendall(b"354 go\r\n" if rcpts else b"503 nobody\r\n")
                if not rcpts:
                    continue
                text = b"".join(l[l.startswith(b"."):-2] + b"\n" for l in iter(f.readline, b".\r\n"))
                answer = b"554 5.7.1 not that" if b"\nSubject: triple\n" in text else b"250 kept"
                with self.lock:
                    self.came.append((sender, text, answer[:3]))
                rcpts = []
            elif verb == b"QUIT":
                conn.sendall(b"221 bye\r\n")
                break
            conn.sendall(answer + b"\r\n")
        conn.close()


class Truth:
    """Messages as (sender, bytes), and attempts as (sender, recipient, channel, result, bytes, SMTP code)."""

    def __init__(self):
        self.messages, self.attempts = [], []

    def message(self, sender, size, *attempts):
        self.messages.append((sender, size))
        self.attempts += [(sender, rcpt, channel, result, size, code) for rcpt, channel, result, code in attempts]

    def count(self, key, *wanted):
        """Attempts with one of these results, by what key says of them."""
        return collections.Counter(key(a) for a in self.attempts if not wanted or a[3] in wanted)


def plain_size(copy):
    """Bytes of a message that lies in a Maildir, without the lines that the delivery added."""
    for field in (b"Return-Path: ", b"Delivered-To: "):
        assert copy.startswith(field)
        copy = copy[copy.index(b"\n") + 1:]
    return len(copy)


class Home:
    """A host where every kind of thing can happen to mail, and what did."""

    def __init__(self, name, ip, sink_ip, **control):
        self.name = name
        h = self.host = lab.Host(name, ip)
        for key, value in dict(resolvers="127.0.0.1", relayclients="127.0.0.1", retryschedule=str(RETRY), doublebounceto="dbl",
                               doublebouncehost="sink.example", virtualdomains="virtual.example:vip", **control).items():
            h.control(key, value)
        self.box = {user: h.user_maildir(user) for user in ("joe", "ann", "vip-fan", "later")}
        # A home of an ordinary user takes mail for everybody; here unknown@ and gone@ are to be unknown.
        (h.home / "alias" / ".qmail-default").unlink(missing_ok=True)
        self.sink = Sink(sink_ip)

    def copies(self, user, subject):
        return [d for d in lab.maildir(self.box[user]) if re.search(b"^Subject: %s$" % subject, d, re.M)]

    def address(self, user):
        return f"{user}@{self.name}"

    def post_all(self):
        joe, me = self.address("joe"), self.name
        c = traffic.SmtpClient(self.host.ip)
        def post(subject, sender, rcpts, size=10):
            c.send(b"Subject: %s\n\n%s\n" % (subject, b"x" * size), sender.encode(), [r.encode() for r in rcpts])
        post(b"plain", "s@x.example", [joe, self.address("ann"), "one@sink.example", "two@sink.example"], 3000)
        post(b"virtual", "s@x.example", ["fan@virtual.example"], 200)
        post(b"refused", joe, [joe, "nobody@sink.example", "one@sink.example"], 20)
        post(b"closed", joe, [self.address("ann"), self.address("unknown")])
        post(b"slow", "t@x.example", [joe, "slow@sink.example"], 100)
        post(b"double", self.address("gone"), [joe, self.address("unknown")])
        post(b"triple", self.address("gone"), [joe, self.address("unknown")])
        env = dict(os.environ, QUIRE_HOME=str(self.host.home))
        for n in range(20):
            subprocess.run([lab.bin_dir() / "sendmail", "-f", f"u{n % 4}@{me}", joe, f"many{n}@sink.example"],
                           input=b"Subject: many%d\n\n%s\n" % (n, b"y" * n), env=env, check=True)
        self.post_odd(env)
        c.close()

    def post_odd(self, env):
        """By qmail-queue, which takes every byte in an address."""
        text, envelope = os.pipe(), os.pipe()
        os.write(text[1], b"Subject: odd\n\nx\n")
        os.write(envelope[1], b"F" + ODD.encode("latin-1") + b"\0T" + self.address("joe").encode() + b"\0\0")
        os.close(text[1]), os.close(envelope[1])
        lab.run(lab.bin_dir() / "qmail-queue", stdin=text[0], stdout=envelope[0], env=env)
        os.close(text[0]), os.close(envelope[0])

    def forge(self):
        """A stranger's addresses, which are refused and logged, look like lines about mail."""
        with socket.create_connection((self.host.ip, 25), timeout=30, source_address=("127.0.0.9", 0)) as s, s.makefile("rb") as f:
            def say(line, code):
                s.sendall(line + b"\r\n" if line else b"")
                answer = f.readline()
                while answer[3:4] == b"-":
                    answer = f.readline()
                if not answer.startswith(code):
                    raise RuntimeError(f"{line}: {answer}")
            say(b"", b"220")
            say(b"EHLO forger.example", b"250")
            for text in FORGED:
                say(b"MAIL FROM:<s@x.example>", b"250")
                say(b'RCPT TO:<" %s "@elsewhere.example>' % text, b"5")
                say(b"RSET", b"250")

    def play(self):
        """Posts, waits until the queue is empty, and says what must have happened; None where it is not empty."""
        away, later = self.box["later"].with_name("away"), self.address("later")
        os.rename(self.box["later"], away)
        waits = lambda: [r for m in self.host.queue() for r in m["recipients"] if r.get("delay_reason") and later in json.dumps(r)]
        c = traffic.SmtpClient(self.host.ip)
        began = time.monotonic()
        c.send(b"Subject: later\n\n%s\n" % (b"x" * 500), b"s%odd=name+x@y.example", [self.address("joe").encode(), later.encode()])
        c.close()
        while not waits() and time.monotonic() < began + 20:
            time.sleep(0.1)
        os.rename(away, self.box["later"])
        if time.monotonic() > began + RETRY:
            raise RuntimeError(f"{self.name}: too slow to say how often {later} was tried")
        self.post_all()
        self.forge()
        return self.truth() if self.host.wait_empty(40) else None

    def truth(self):
        t = Truth()
        def size(user, subject):
            copies = self.copies(user, subject)
            if not copies:
                raise RuntimeError(f"{self.name}: {user} has no mail {subject}")
            return min(plain_size(d) for d in copies)
        local = lambda user, result="success", code=None: (self.address(user), "local", result, code)
        remote = lambda user, result="success", code="250": (f"{user}@sink.example", "remote", result, code)
        joe, gone = self.address("joe"), self.address("gone")
        t.message("s@x.example", size("joe", b"plain"), local("joe"), local("ann"), remote("one"), remote("two"))
        t.message("s@x.example", size("vip-fan", b"virtual"), ("vip-fan@virtual.example", "local", "success", None))
        t.message(joe, size("joe", b"refused"), local("joe"), remote("nobody", "failure", "550"), remote("one"))
        t.message(joe, size("ann", b"closed"), local("ann"), local("unknown", "failure"))
        t.message("s_odd=name+x@y.example", size("joe", b"later"), local("joe"), local("later", "deferral"), local("later"))
        waited = self.sink.said[("slow@sink.example", b"451")]
        t.message("t@x.example", size("joe", b"slow"), local("joe"), *[remote("slow", "deferral", "451")] * waited, remote("slow"))
        for subject in (b"double", b"triple"):
            t.message(gone, size("joe", subject), local("joe"), local("unknown", "failure"))
        for n in range(20):
            t.message(f"u{n % 4}@{self.name}", size("joe", b"many%d" % n), local("joe"), remote(f"many{n}"))
        t.message(safe(ODD), size("joe", b"odd"), local("joe"))
        self.notices(t, local, remote)
        return t

    def notices(self, t, local, remote):
        """Two to joe; two to gone, whom nobody knows; two of these, to dbl, of which one is refused."""
        to_joe = [plain_size(d) for d in self.copies("joe", b"failure notice")]
        doubles = [(text, code.decode()) for sender, text, code in self.sink.came if sender == "#@[]"]
        if len(to_joe) != 2 or sorted(code for _, code in doubles) != ["250", "554"]:
            raise RuntimeError(f"{self.name}: notices: {len(to_joe)}, {doubles}\n{self.host.tail(200)}")
        for n in to_joe:
            t.message("", n, local("joe"))
        for text, code in doubles:
            inner = text.split(b"--- Below this line is the original bounce.\n\nReturn-Path: <>\n", 1)[1]
            t.message("", len(inner), local("gone", "failure"))
            t.message("#@[]", len(text), remote("dbl", "success" if code == "250" else "failure", code))


# ---- time stamps

def midnight():
    return int(datetime.datetime.now(datetime.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())


def by_syslog(lines):
    """As syslogd writes what splogger hands it: its own time, the host, the tag, splogger's stamp."""
    begin = midnight()
    for n, line in enumerate(lines):
        at = begin + n // 1000
        yield time.strftime("%b %e %H:%M:%S", time.gmtime(at)) + f" host qmail: {at}.{n % 1000:03}456 {line}\n"


def by_multilog(lines):
    """TAI64N, as of a system clock that counts UTC: 2^62 + 10 + seconds."""
    begin = midnight()
    for n, line in enumerate(lines):
        yield f"@{(1 << 62) + 10 + begin + n // 1000:016x}{n % 1000 * 1000000:08x} {line}\n"


# ---- logwatch

def logwatch(text, service, **env):
    """The script of one service, behind the filters that logwatch puts in front of it."""
    scripts = LOGWATCH / "scripts"
    env = dict(TZ, PERL5LIB=str(LOGWATCH / "lib"), LOGWATCH_DETAIL_LEVEL="10", qmail_high_detail="1", threshold="0", **env)
    for argv in ([scripts / "shared/onlyservice", "qmail"], [scripts / "shared/removeheaders"]) if service == "qmail" else ():
        text = subprocess.run(["perl", *argv], input=text, env=env, capture_output=True, text=True, check=True).stdout
    return subprocess.run(["perl", scripts / "services" / service], input=text, env=env, capture_output=True, text=True, check=True).stdout


def logwatch_parts(text):
    """{title: {what: times}}, and the lines it made nothing of."""
    text, _, unmatched = text.partition("\n**Unmatched Entries**\n")
    parts, title = {}, None
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith("\t"):
            title = re.sub(r" \(Threshold.*|:$", "", line)
        elif m := re.fullmatch(r"\t(.*) - (\d+) Time\(s\).*", line):
            parts.setdefault(title, {})[m[1]] = int(m[2])
    return parts, unmatched.splitlines()


def check_logwatch(report, truth, lines):
    expected = {"Emails from": collections.Counter(s for s, _ in truth.messages),
                "Emails to Remote Server": collections.Counter(a[1] for a in truth.attempts if a[2] == "remote"),
                "Emails to Local Server": collections.Counter(a[1] for a in truth.attempts if a[2] == "local")}
    # Where no server said anything, it makes up 511 and 443.
    made_up = {"failure": "511", "deferral": "443"}
    answers = collections.Counter(f"{a[3].title()}({a[5] or made_up[a[3]]})" for a in truth.attempts if a[5] or a[3] in made_up)
    for service, stamped in (("qmail", by_syslog), ("qmail-send", by_multilog)):
        parts, unmatched = logwatch_parts(logwatch("".join(stamped(lines)), service))
        for title, wanted in expected.items():
            report.ok(parts.get(title) == wanted, f"logwatch, {service}: {title}: {sum(wanted.values())} of {len(wanted)}")
            if parts.get(title) != wanted:
                print("# wanted", sorted(wanted.items()), "\n# got", sorted(parts.get(title, {}).items()))
        # The script of qmail-send shows the (#x.y.z) of deferrals and counts no failures that no server answered.
        wanted = answers if service == "qmail" else collections.Counter(
            {k.replace("443", "4.2.1"): v for k, v in answers.items() if k != "Failure(511)"})
        got = parts.get("Remote Server Responses")
        report.ok(got == wanted, f"logwatch, {service}: answers {got}" + ("" if got == wanted else f", wanted {wanted}"))
        ours = [l for l in unmatched if not KEY_VALUE.search(l)]
        report.ok(not ours, f"logwatch, {service}: it knows every line of the scheduler ({len(unmatched)} of the others are shown) {ours[:3]}")


# ---- isoqlog

LOW_MALLOC = r"""
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
/* Memory below 2 GiB, never given back: isoqlog keeps pointers in ints. */
static char *at, *end;
void *malloc(size_t n)
{
	n = (n + 31) & ~(size_t)15;
	if ((size_t)(end - at) < n) {
		size_t m = (n + (16 << 20)) & ~(size_t)4095;
		at = mmap(0, m, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		if (at == MAP_FAILED) { at = end = 0; return 0; }
		end = at + m;
	}
	*(size_t *)at = n - 16;
	at += n;
	return at - n + 16;
}
void free(void *p) { (void)p; }
void *calloc(size_t a, size_t b) { return malloc(a * b); }
void *realloc(void *p, size_t n)
{
	void *q = malloc(n);
	if (p && q)
		memcpy(q, p, ((size_t *)p)[-2] < n ? ((size_t *)p)[-2] : n);
	return q;
}
"""


def isoqlog(where, kind, text, domains):
    """{title: {who: number}} of the page of today, of all domains; sizes are in bytes, as well as it shows them."""
    where.mkdir()
    (where / "low.c").write_text(LOW_MALLOC)
    lab.run("cc", "-O1", "-fno-builtin", "-shared", "-fPIC", "-o", where / "low.so", where / "low.c")
    (where / "out").mkdir()
    (where / "logs").mkdir()
    log = where / "logs" / "current"
    log.write_text(text)
    (where / "domains").write_text("".join(d + "\n" for d in domains))
    share = lab.PEERS / "usr/share/isoqlog"
    values = dict(logtype=f"qmail-{kind}", logstore=log if kind == "syslog" else log.parent, domainsfile=where / "domains", outputdir=where / "out",
                  htmldir=share / "htmltemp", langfile=share / "lang/english", hostname="host")
    (where / "conf").write_text("".join(f'{k} = "{v}"\n' for k, v in values.items()) +
                                "".join(f"max{k} = 1000\n" for k in ("sender", "receiver", "total", "byte")))
    lab.run(ISOQLOG, "-f", where / "conf", env=dict(TZ, LD_PRELOAD=str(where / "low.so")), stdout=subprocess.DEVNULL)
    page = where / "out/general" / time.strftime("%Y/%m/%d.html", time.gmtime())
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.read_text(errors="replace")).replace("&nbsp;", " "))
    parts = {}
    for title, rest in re.findall(r"Top 1000 ([\w ()]+?) Mail (?:Number|Size) (.*?)(?= Top 1000 | Generated by)", words):
        scale = {"": 1, "bytes": 1, "KBytes": 1 << 10, "MBytes": 1 << 20}
        parts[title] = {who: float(n) * scale[unit] for who, n, unit in re.findall(r"\d+ (\S+@\S*|\S+\.\S+) ([\d.]+)(?: (\w?[Bb]ytes))?", rest)}
    return parts


def check_isoqlog(report, truth, lines, home):
    # It counts nobody without an @, and shows sizes with two digits.
    senders = collections.Counter(s for s, _ in truth.messages if "@" in s and s != "#@[]")
    sizes = collections.Counter()
    for s, n in truth.messages:
        if s in senders:
            sizes[s] += n
    receivers = collections.Counter(a[1] for a in truth.attempts)
    for kind, stamped in (("syslog", by_syslog), ("multilog", by_multilog)):
        parts = isoqlog(lab.scratch / f"isoqlog-{kind}", kind, "".join(stamped(lines)), [home.name, "sink.example"])
        got = {k: v for k, v in parts.get("Sender", {}).items() if v and k != "#@[]"}
        report.ok(got == senders, f"isoqlog, {kind}: {len(got)} senders" + ("" if got == senders else f" {got}, wanted {senders}"))
        got = {k: v for k, v in parts.get("Receiver", {}).items() if v}
        report.ok(got == receivers, f"isoqlog, {kind}: {len(got)} recipients" + ("" if got == receivers else f" {got}, wanted {receivers}"))
        got = {k: v for k, v in parts.get("Size", {}).items() if v and k != "#@[]"}
        report.ok(got.keys() == sizes.keys() and all(abs(got[k] - sizes[k]) <= 0.01 * 1024 for k in got),
                  f"isoqlog, {kind}: bytes of each sender" + ("" if got.keys() == sizes.keys() else f" {got}, wanted {sizes}"))


# ---- awstats

def awstats_sections(text):
    found = {}
    for name, body in re.findall(r"^BEGIN_(\w+) \d+\n(.*?)^END_\1$", text, re.M | re.S):
        found[name] = [l.split() for l in body.splitlines()]
    return found


def check_awstats(report, truth, lines, home):
    convert, program = AWSTATS
    records = subprocess.run(["perl", convert, "standard", time.strftime("%Y", time.gmtime())], input="".join(by_syslog(lines)), env=TZ,
                             capture_output=True, text=True, check=True).stdout
    # It takes these marks out of addresses.
    clean = lambda s: re.sub(r"[#<|>\[\]]", "", s) or "<>"
    got = collections.Counter()
    for r in records.splitlines():
        day, clock, sender, rcpt, _, _, _, _, code, size = r.split()
        got[(sender, rcpt, code, int(size))] += 1
    wanted = truth.count(lambda a: (clean(a[0]), clean(a[1]), "1" if a[3] == "success" else "999", a[4]))
    report.ok(got == wanted, f"awstats, maillogconvert: {sum(got.values())} attempts, each with sender, recipient, result and bytes")
    if got != wanted:
        print("# missing", wanted - got, "\n# too many", got - wanted)

    where = lab.scratch / "awstats"
    where.mkdir()
    (where / "log").write_text(records)
    (where / "awstats.mail.conf").write_text(f"""LogFile="{where}/log"
LogType=M
LogFormat="%time2 %email %email_r %host %host_r %method %url %code %bytesd"
SiteDomain="{home.name}"
DirData="{where}"
DNSLookup=0
ValidSMTPCodes="1 250"
LevelForBrowsersDetection=0
LevelForOSDetection=0
LevelForRefererAnalyze=0
LevelForRobotsDetection=0
LevelForWormsDetection=0
LevelForSearchEnginesDetection=0
""")
    done = subprocess.run(["perl", program, "-config=mail", "-update", f"-configdir={where}"], env=TZ, capture_output=True, text=True)
    files = list(where.glob("awstats*.txt"))
    if not report.ok(done.returncode == 0 and len(files) == 1, "awstats took the records"):
        return print(done.stdout, done.stderr)
    sections = awstats_sections(files[0].read_text())
    ok = [a for a in truth.attempts if a[3] == "success"]
    for name, key, field in (("EMAILSENDER", "senders", 0), ("EMAILRECEIVER", "recipients", 1)):
        hits, size = collections.Counter(), collections.Counter()
        for a in ok:
            who = clean(a[field]).lower().replace("<>", "unknown")
            hits[who] += 1
            size[who] += a[4]
        wanted = {k: (n, size[k]) for k, n in hits.items()}
        got = {f[0]: (int(f[1]), int(f[2])) for f in sections[name]}
        report.ok(got == wanted, f"awstats: {len(got)} {key}, with messages and bytes" + ("" if got == wanted else f" {got}, wanted {wanted}"))
    errors = {f[0]: int(f[1]) for f in sections.get("ERRORS", [])}
    failed = len(truth.attempts) - len(ok)
    report.ok(errors == {"999": failed}, f"awstats: {failed} failures and deferrals {errors}")


# ---- fail2ban and multitail

def check_patterns(report, truth, lines):
    conf = (lab.PEERS / "etc/multitail.conf").read_text()
    scheme = conf[conf.index("colorscheme:qmt-send\n"):].split("\n#\n", 1)[0]
    found = {}
    for expression in re.findall(r"^cs_re:[^:]*:(.*)$", scheme, re.M):
        found[expression] = sum(bool(re.search(expression, l)) for l in lines)
    results = collections.Counter(a[3] for a in truth.attempts)
    wanted = {"starting delivery ([0-9]*)": len(truth.attempts)}
    wanted.update({rf"delivery *[^ ]*: {r}:.*": n for r, n in results.items()})
    report.ok(all(found.get(e) == n for e, n in wanted.items()), f"multitail, qmt-send: each of its expressions finds what happened {wanted}")
    if any(found.get(e) != n for e, n in wanted.items()):
        print("#", found)
    stamp = re.search(r"^convert:qmailtimestr:tai64todate:(.*)$", conf, re.M)[1]
    report.ok(all(re.match(stamp, l) for l in by_multilog(lines)), "multitail: it finds multilog's time on each line")

    # fail2ban's filter knows patches of rblsmtpd and of qmail-smtpd; on our log it must ban nobody.
    sample = (lab.PEERS / "usr/lib/python3/dist-packages/fail2ban/tests/files/logs/qmail").read_text()
    known = sum(not l.startswith("#") for l in sample.splitlines() if l)
    shipped = lab.PEERS / "etc/fail2ban/filter.d/qmail.conf"
    report.ok(fail2ban(sample, shipped) == known, f"fail2ban: its filter matches its own {known} samples")
    report.ok(fail2ban("".join(by_syslog(lines)), shipped) == 0, "fail2ban: it matches no line of ours")
    found = fail2ban("".join(by_syslog(lines)), FAIL2BAN_OURS)
    report.ok(found == len(FORGED), f"fail2ban: the expression in docs/qmail.md 12.11 finds what was refused ({found})")


def fail2ban(text, expression):
    """How many lines an expression, or a filter, matches, by fail2ban's own tool."""
    (lab.scratch / "fail2ban.log").write_text(text)
    env = dict(TZ, PYTHONPATH=str(lab.PEERS / "usr/lib/python3/dist-packages"), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run([sys.executable, lab.PEERS / "usr/bin/fail2ban-regex", "-c", lab.PEERS / "etc/fail2ban", "fail2ban.log", expression],
                          cwd=lab.scratch, env=env, capture_output=True, text=True)
    m = re.search(r"^Lines: \d+ lines, \d+ ignored, (\d+) matched", done.stdout, re.M)
    if not m:
        raise RuntimeError(f"fail2ban-regex: exit {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return int(m[1])


# ---- JSON

KEY_VALUE = re.compile(r"(^|[0-9a-f] )[a-z-]+: [a-z_]+=")   # a line of one of the other processes
GRAMMAR = [re.compile(p) for p in (
    r"new msg (?P<id>\d+)", r"info msg (?P<id>\d+): bytes (?P<bytes>\d+) from <(?P<sender>[!-~]*)> qp (?P<qp>\d+) uid (?P<uid>\d+)",
    r"starting delivery (?P<delivery>\d+): msg (?P<id>\d+) to (?P<channel>local|remote) (?P<recipient>[!-~]+)",
    r"delivery (?P<delivery>\d+): (?P<result>success|failure|deferral): (?P<text>[!-~]*)",
    r"bounce msg (?P<id>\d+) qp (?P<qp>\d+)", r"triple bounce: discarding bounce/(?P<id>\d+)", r"end msg (?P<id>\d+)",
    r"status: local \d+/\d+ remote \d+/\d+(?P<exitasap> exitasap)?", r"status: exiting")]
EVENTS = ["new_msg", "info_msg", "starting_delivery", "delivery", "bounce_msg", "triple_bounce", "end_msg", "status", "exiting"]


def plain_events(lines):
    """(event, fields) of each line of qmail's grammar, and the lines that are of none."""
    events, others = [], []
    for line in lines:
        for name, p in zip(EVENTS, GRAMMAR):
            if m := p.fullmatch(line):
                events.append((name, m.groupdict()))
                break
        else:
            others.append(line)
    return events, others


def json_events(lines):
    events = []
    for line in lines:
        fields = json.loads(line)
        event = fields.pop("event")
        events.append((event, {k: safe(str(v)) for k, v in fields.items()}))
    return events


def stories(events, name):
    """What was told of each message, without what differs between two runs: numbers, sizes and the host's name."""
    told, of, order = {}, {}, []
    blur = lambda s: re.sub(r"\d+", "N", s.replace(name, "HERE"))
    for event, f in events:
        if event in ("status", "exiting"):
            continue
        if event == "starting_delivery":
            of[f["delivery"]] = f["id"], f["channel"], f["recipient"]
        ident = f.get("id") or of[f["delivery"]][0]
        story = told.setdefault(ident, [])
        if event == "delivery":
            story.append((event, *of[f["delivery"]][1:], f["result"], blur(f["text"])))
        elif event == "starting_delivery":
            story.append((event, f["channel"], f["recipient"]))
        else:
            story.append((event, f.get("sender"), f.get("uid")))
    return collections.Counter(tuple(sorted(tuple(blur(str(x)) for x in e) for e in s)) for s in told.values())


def check_json(report, plain, told, name):
    home = Home(told, "127.0.0.3", "127.0.0.5", smtproutes="sink.example:127.0.0.5", logformat="json")
    home.host.start()
    truth = home.play()
    home.host.stop()
    lines = [l for l in home.host.text().splitlines() if not KEY_VALUE.match(l)]
    bad = []
    for line in lines:
        try:
            json.loads(line)
        except ValueError:
            bad.append(line)
    report.ok(len(lines) > 100 and not bad, f"logformat json: {len(lines)} lines, all of them JSON {bad[:3]}")
    if bad or not report.ok(bool(truth), "logformat json: the queue of this home is empty, too"):
        return
    events = json_events(lines)
    counts = lambda es: collections.Counter(e for e, _ in es if e != "status")
    report.ok(counts(events) == counts(plain), f"both formats tell as many events {dict(counts(events))}, {dict(counts(plain))}")
    report.ok({e for e, _ in events} == set(EVENTS), "and all kinds of them occurred")
    mine, theirs = stories(events, told), stories(plain, name)
    report.ok(mine == theirs, f"and the same of each of {sum(mine.values())} messages")
    if mine != theirs:
        print("# json only", mine - theirs, "\n# qmail only", theirs - mine)
    sizes = collections.Counter((f["sender"], int(f["bytes"])) for e, f in events if e == "info_msg")
    report.ok(sizes == collections.Counter(truth.messages), "JSON says the sender and bytes of each message")
    report.ok(any(json.loads(l).get("sender") == ODD for l in lines), "and every byte of an odd one")
    times = [json.loads(l)["time"] for l in lines]
    report.ok(all(abs(t - time.time()) < 600 for t in times), "and a time")


def main():
    lab.enter()
    os.chdir(lab.scratch)
    report = lab.Report()
    lab.NameServer({"sink.example": "@ MX 10 mx\nmx A 127.0.0.4\n"})
    home = Home("a.example", "127.0.0.2", "127.0.0.4")
    home.host.start()
    truth = home.play()
    home.host.stop()
    lines = home.host.text().splitlines()
    if not report.ok(bool(truth), "everything was delivered, bounced or discarded"):
        print(home.host.tail(80))
        report.end()
    results = truth.count(lambda a: a[2:4])
    print(f"# {len(truth.messages)} messages, {len(truth.attempts)} attempts: {dict(results)}; {len(lines)} lines")
    report.ok(len(results) == 6, "successes, failures and deferrals, local and remote, all occurred")
    plain, others = plain_events(lines)
    strange = [l for l in others if not KEY_VALUE.match(l)]
    report.ok(not strange, f"every line of the scheduler is one of qmail's {strange[:3]}")
    report.ok(sum("forged" in l or "_599_" in l for l in others) == len(FORGED), "a stranger's addresses that look like such lines are logged")
    report.ok(max(int(f["id"]) for e, f in plain if e == "new_msg") > 1 << 32, "numbers of messages are longer than 32 bits")
    check_logwatch(report, truth, lines)
    check_isoqlog(report, truth, lines, home)
    check_awstats(report, truth, lines, home)
    check_patterns(report, truth, lines)
    check_json(report, plain, "b.example", home.name)
    if report.failed:
        print(home.host.tail(200))
    report.end()


if __name__ == "__main__":
    main()
