#!/usr/bin/env python3
"""Messages that are damaged in the journal: what is readable is delivered byte for byte, what is not is told to the
administrator, and the damage stays named.

messages  a bit in a body, in the recipients and in the MSG of messages that wait
indexes   one that is rotten, and one that is sound and says something else than its segment
starts    each start leaves a segment that is hardly used: by itself, and asked for, they become few; damage in
          what compaction wrote, and in history, is named

Arguments choose some of the cases."""
import ctypes
import json
import struct
import subprocess
import sys

import lab
from faulty import new_host, until

SEGMENT = 8 << 20


def tool(h, verb, *args):
    """(exit code, its lines as objects, what it says besides)"""
    argv = [str(lab.bin_dir() / "quire"), "journal", verb, "--home", str(h.home), "--json", *args]
    done = subprocess.run(argv, text=True, timeout=120, capture_output=True)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def where(h):
    return h.home / "journal" / "0"


def flip(h, record, at):
    """A bit, so many bytes into a record of dump."""
    offset = record["offset"] + at
    with open(where(h) / f"seg-{record['segment']:016x}", "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 0x10]))


def records(h):
    """{(id, type): record}: of the messages here one of each."""
    return {(d["id"], d["type"]): d for d in tool(h, "dump")[1] if d["type"] in ("body", "rcpt", "msg")}


def named(lines):
    return {d["id"]: d["what"] for d in lines if d["kind"] == "message"}


def files(h, prefix):
    return sorted(p.name for p in where(h).iterdir() if p.name.startswith(prefix))


def ids_of(answers):
    return [a.rsplit(b" ", 1)[1].decode() for a in answers]


def test_messages(report, dice):
    h = new_host("d.example", "127.0.0.2", relayclients="127.0.0.0/8", concurrencylocal=0, concurrencyremote=0)
    joe, ann, post = h.user_maildir("joe"), h.user_maildir("ann"), h.user_maildir("postmaster")
    h.start()
    qmtp, sent = lab.QmtpClient(h.ip), {}
    for i, (_, body) in enumerate(lab.corpus(30)):
        sent[i] = lab.mark(i, body)
        qmtp.send(sent[i], b"ann@d.example", [b"joe@d.example"])
    # Far larger than a block, so that nothing else lies where the bit is.
    large = lab.mark(100, b"Subject: large\n\n" + b"%s\n" % dice.randbytes(20000).hex().encode())
    no_body = ids_of(qmtp.send(large, b"ann@d.example", [b"joe@d.example"]))[0]
    many = [b"joe-%04d-%s@d.example" % (i, dice.randbytes(20).hex().encode()) for i in range(400)]
    no_rcpts = ids_of(qmtp.send(lab.mark(101, b"Subject: many\n\n"), b"ann@d.example", many))[0]
    no_msg = ids_of(qmtp.send(lab.mark(102, b"Subject: gone\n\n" + large), b"ann@d.example", many))[0]
    sent[103] = lab.mark(103, b"Subject: behind\n\n")
    qmtp.send(sent[103], b"ann@d.example", [b"joe@d.example"])
    until(lambda: len(h.queue()) == len(sent) + 3, 20)
    h.stop()
    all_of = records(h)
    flip(h, all_of[no_body, "body"], 12000)
    flip(h, all_of[no_rcpts, "rcpt"], 10000)
    flip(h, all_of[no_msg, "msg"], 40)
    code, lines, _ = tool(h, "verify")
    report.ok(code == 99 and {no_body, no_rcpts, no_msg} <= set(named(lines)), f"verify names the three before anything starts (exit {code}: {named(lines)})")
    report.ok(not (set(named(lines)) - {no_body, no_rcpts, no_msg}), "and nobody else")

    h.control("concurrencylocal", "10")
    h.start()
    report.ok(h.wait_empty(), f"the queue runs empty ({len(h.queue())} left)")
    got = {}
    for data in lab.maildir(joe):
        n, text, _ = lab.unmark(data)
        got.setdefault(n, []).append(text)
    report.ok(set(got) == set(sent) and all(got[n] == [sent[n]] for n in got), f"everything else is delivered once, byte for byte ({len(got)} of {len(sent)})")
    notices = lab.maildir(post)
    report.ok(len(notices) == 2, f"the administrator got two notices ({len(notices)})")
    by_id = {i: [n for n in notices if b"message %s from <ann@d.example>" % i.encode() in n] for i in (no_body, no_rcpts)}
    report.ok(all(len(v) == 1 for v in by_id.values()), "each names its message and the sender")
    text = b"".join(by_id[no_body])
    report.ok(b"<joe@d.example>:\nThis message was damaged in the journal" in text and b"X-Lab" not in text and len(text) < 3000, "of the body no copy is there")
    text = b"".join(by_id[no_rcpts])
    report.ok(text.count(b"<(lost)>:\nThis message was damaged in the journal") == 1, "the recipients that nobody can read are told together")
    report.ok(not lab.maildir(ann), "the sender got nothing")
    log = h.text()
    report.ok(f"msg {no_body}: damaged in the journal" in log and f"msg {no_rcpts}: recipients damaged in the journal" in log, "the log names them")
    report.ok("journal: damaged" in log or " damaged" in log and "offset" in log, "and where the damage is")
    status = h.status()
    report.ok('"damaged": true' in json.dumps(status), "status says damaged")
    still_named(report, h, {no_body, no_rcpts}, "after delivery")

    code, lines, _ = tool(h, "compact")
    report.ok(code == 0 and lines[-1]["event"] == "done", "compact ends")
    for i in range(2):
        h.stop()
        h.start()
        tool(h, "compact")
    report.ok(until(lambda: files(h, "bad-"), 90, 0.5), f"the damaged segment is put aside, not used again ({files(h, 'bad-')})")
    still_named(report, h, {no_body, no_rcpts}, "beside what runs, from the file that was put aside")
    h.stop()
    h.start()
    h.stop()
    still_named(report, h, {no_body, no_rcpts}, "after further starts")
    report.ok(len(lab.maildir(post)) == 2 and len(lab.maildir(joe)) == len(sent), "nothing was told or delivered again")


def still_named(report, h, ids, when):
    code, lines, _ = tool(h, "verify")
    report.ok(code == 99 and ids <= set(named(lines)), f"verify exits 99 and names them {when} (exit {code}: {sorted(named(lines))})")


def xxh3(data):
    hash64 = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    hash64.restype, hash64.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    return hash64(data, len(data))


def falsify(path):
    """A byte of its last record changes, and all sums of the file fit (journal.md, Index files)."""
    data = bytearray(path.read_bytes())
    magic, number, incarnation, end, n, records = struct.unpack_from("<6Q", data)
    data[64 + n - 1 - 8] ^= 1
    struct.pack_into("<Q", data, 48, xxh3(bytes(data[64:64 + n])))
    struct.pack_into("<Q", data, 56, xxh3(bytes(data[:56])))
    path.write_bytes(data)


def waiting_host(name, ip):
    """Nothing is tried, so that all mail waits."""
    h = new_host(name, ip, relayclients="127.0.0.0/8", concurrencylocal=0, concurrencyremote=0)
    return h, h.user_maildir("joe")


def start_and_send(h, sent, n, text, end):
    """A run of its own, and so a segment, for a few messages."""
    h.start()
    qmtp = lab.QmtpClient(h.ip)
    for _ in range(n):
        sent[len(sent)] = lab.mark(len(sent), b"Subject: waits\n\n" + text)
        qmtp.send(sent[len(sent) - 1], b"ann@d.example", [b"joe@d.example"])
    qmtp.close()
    end()


def test_indexes(report, dice):
    h, _ = waiting_host("i.example", "127.0.0.3")
    sent = {}
    for _ in range(3):              # what is nearly empty would be copied together
        start_and_send(h, sent, 5, dice.randbytes(1 << 20), h.stop)
    h.start()
    report.ok(until(lambda: len(files(h, "idx-")) >= 2, 60, 0.5), f"sealed segments have indexes ({files(h, 'idx-')})")
    h.stop()
    rotten, false = [where(h) / name for name in files(h, "idx-")[:2]]
    data = bytearray(rotten.read_bytes())
    data[100] ^= 1
    rotten.write_bytes(data)
    falsify(false)
    code, lines, _ = tool(h, "verify")
    told = {d["file"]: d["what"] for d in lines if d["kind"] == "file"}
    report.ok(code == 99 and "rotten" in told.get(rotten.name, ""), f"verify names the index that is rotten (exit {code}: {told})")
    report.ok("something else" in told.get(false.name, ""), "and the one whose sums fit, and that says something else")
    report.ok(len(told) == 2 and not [d for d in lines if d["kind"] not in ("file", "summary")], "and nothing else")
    rotten.unlink()
    false.unlink()
    report.ok(tool(h, "verify")[0] == 0, "without them all is well")


def is_small(h, more=0):
    """The bound, on the files that are there; `more` for the newest of the last run, which is left alone for a minute."""
    space = h.status()["space"]
    here = len(files(h, "seg-")) * SEGMENT - space["history_bytes"]
    return space["segments"] > 0 and here <= 2 * space["live_bytes"] + (4 + more) * SEGMENT


def test_starts(report, dice):
    h, joe = waiting_host("s.example", "127.0.0.4")
    h.control("locals", "d.example", "s.example")
    sent = {}
    for i in range(20):             # nearly all of what is used of a segment lives
        start_and_send(h, sent, 2, dice.randbytes(100000), h.kill if i % 2 else h.stop)
    newest = files(h, "seg-00000000")[-1]
    h.start()
    report.ok(until(lambda: is_small(h, 1), 30, 0.2), f"20 starts, the last segment is {newest}; they are few by themselves: {files(h, 'seg-')} {h.status()['space']}")
    h.stop()
    before = 0
    for i in range(20):
        start_and_send(h, sent, 2, dice.randbytes(100000), h.kill)
        before = max(before, len(files(h, "seg-")))
    h.start()
    code, lines, _ = tool(h, "compact")
    first, last = lines[0], lines[-1]
    report.ok(code == 0 and first["event"] == "begun" and last["event"] == "done", f"20 more and compact, from {before} files: exit {code}, {last}")
    report.ok(last["space"]["given_up"] > 0, f"it gave up {last['space']['given_up']} segments")
    report.ok(until(lambda: is_small(h, 1), 20, 0.2), f"and the files are gone: {files(h, 'seg-')} {h.status()['space']}")
    done = subprocess.run([str(lab.bin_dir() / "quire"), "journal", "compact", "--home", str(h.home)], text=True, capture_output=True)
    report.ok(done.returncode == 0 and "gave up" in done.stdout, f"for a person it says: {done.stdout.strip()}")
    report.ok(tool(h, "verify")[0] == 0 and len(h.queue()) == len(sent), f"all is well, and all {len(sent)} messages wait")
    h.stop()
    cold = [d for d in tool(h, "dump")[1] if d["segment"] >= 1 << 33 and d["type"] == "msg"][3]
    flip(h, cold, 41)
    code, lines, _ = tool(h, "verify")
    told = [d for d in lines if d["kind"] == "damage" and d["segment"] == cold["segment"]]
    report.ok(code == 99 and told, f"damage in a cold segment is named: {told}")
    flip(h, cold, 41)

    h.control("journalkeep", f"{8 * SEGMENT} 1")
    h.control("concurrencylocal", "10")
    h.start()
    report.ok(h.wait_empty(), "all is delivered")
    got = [lab.unmark(d)[:2] for d in lab.maildir(joe)]
    report.ok(sorted(got) == sorted(sent.items()), f"once, byte for byte ({len(got)} of {len(sent)})")
    for _ in range(2):
        h.stop()
        h.start()
        tool(h, "compact")
    report.ok(until(lambda: h.status()["space"]["history_bytes"] > 0, 20, 0.2), "what left the queue is kept as history")
    h.stop()
    past = {s["number"] for s in tool(h, "info")[1][0]["segments"] if s["kind"] == "history"}
    kept = [d for d in tool(h, "dump")[1] if d["segment"] in past and d["type"] != "nop"]
    report.ok(kept and tool(h, "verify")[0] == 0, f"it has records ({len(kept)}), and all is well")
    flip(h, kept[-1], 1)
    code, lines, _ = tool(h, "verify")
    told = [d for d in lines if d["kind"] == "damage" and d["segment"] == kept[-1]["segment"]]
    report.ok(code == 99 and told, f"damage in history is named: {told}")


def main():
    cases = {"messages": test_messages, "indexes": test_indexes, "starts": test_starts}
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    for name in sys.argv[1:] or cases:
        cases[name](report, dice)
    if report.failed:
        for h in lab.Host.running:
            print(h.tail(60))
    for h in list(lab.Host.running):
        h.stop("--now")
    report.end()


main()
