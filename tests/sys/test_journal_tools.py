#!/usr/bin/env python3
"""quire journal info, ls, dump, cat, verify: on a stopped journal, beside a running one, on a read-only directory, and on
damaged copies, where verify must name what is wrong and nothing may crash, hang or be silent."""
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "compat"))
import journal_home as home  # noqa: E402
import lab                   # noqa: E402

DAMAGES = int(os.environ.get("QUIRE_TOOLS_DAMAGES", 2000 if "QUIRE_SOAK" in os.environ else 60 if "asan" in str(lab.BUILD) else 80))
BLOCK = 4096


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def segments(where):
    """[(path, end of its batches, size)] of what the newest head names."""
    found = lines(home.tool("info", where, "--json"))[0]["segments"]
    return [(where / s["file"], s["used"], (where / s["file"]).stat().st_size) for s in found]


def read_all(report, where, sent):
    info = lines(home.tool("info", where, "--json"))[0]
    report.ok(info["opens"] and not info["running"] and len(info["segments"]) >= 4 and len(info["uuid"]) == 32,
              f"info: {len(info['segments'])} segments, {info['queue']['bytes']} bytes")
    text = home.tool("info", where)
    report.ok(text.returncode == 0 and all(s["file"].encode() in text.stdout for s in info["segments"]), "info for a person names all of them")
    queued, done, every = (lines(home.tool("ls", where, "--json", "--state", s, "--recipients")) for s in ("queued", "done", "all"))
    report.ok(len(queued) > 10 and len(done) > 10 and len(every) == len(queued) + len(done),
              f"ls: {len(queued)} queued and {len(done)} done are all {len(every)}")
    report.ok(all(any(r["address"] == "later@a.example" and r["state"] == "queued" for r in m["recipients"]) for m in queued),
              "what is queued waits for the one recipient that is deferred")
    report.ok(all(m["left"] == sum(r["state"] != "done" for r in m["recipients"]) and m["all"] == len(m["recipients"]) for m in every),
              "recipients left and all are those that are listed")
    return every, queued


def filters(report, where, every):
    def ids(*args):
        return {m["id"] for m in lines(home.tool("ls", where, "--json", "--state", "all", *args))}

    def expect(what, got, want):
        report.ok(got == want and want, f"ls {what}: {len(got)} messages")

    has = {m["id"]: {r["address"] for r in m["recipients"]} for m in every}
    expect("--sender", ids("--sender", "JOE@a.example"), {m["id"] for m in every if m["sender"] == "joe@a.example"})
    expect("--sender '<>'", ids("--sender", "<>"), {m["id"] for m in every if m["sender"] == ""})
    expect("--sender with a pattern", ids("--sender", "*m?rg@*"), {m["id"] for m in every if m["sender"].startswith("sm")})
    expect("--rcpt", ids("--rcpt", "later@*"), {i for i, a in has.items() if "later@a.example" in a})
    expect("--domain", ids("--domain", "a.EXAMPLE"), set(has))
    expect("--id", ids("--id", every[3]["id"]), {every[3]["id"]})
    middle = every[-1]["arrival_us"] // 1000000   # the last second: the home ran for some
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(middle))
    expect("--since", ids("--since", stamp), {m["id"] for m in every if m["arrival_us"] >= middle * 1000000})
    expect("--until", ids("--until", stamp), {m["id"] for m in every if m["arrival_us"] < middle * 1000000})
    expect("--since 1h", ids("--since", "1h"), set(has))
    report.ok(ids("--until", "1h") == set() and ids("--domain", "b.example") == set(), "ls: nothing where nothing is meant")


def dumps(report, where):
    done = home.tool("dump", where, "--json")
    records = lines(done)
    report.ok(done.returncode == 0 and len(records) > 500, f"dump: {len(records)} records")
    positions = [r["position"] for r in records]
    report.ok(positions == sorted(set(positions)), "in the order of their positions")
    some, other = records[len(records) // 3], records[2 * len(records) // 3]
    part = lines(home.tool("dump", where, "--json", "--from", str(some["position"]), "--to", f"{other['segment']}:{other['offset']}"))
    report.ok(part == [r for r in records if some["position"] <= r["position"] < other["position"]], f"--from, --to: {len(part)} of them")
    number = records[-1]["segment"] if len({r["segment"] for r in records}) < 2 else sorted({r["segment"] for r in records})[1]
    one = lines(home.tool("dump", where, "--json", "--segment", str(number)))
    report.ok(one == [r for r in records if r["segment"] == number] and one, f"--segment {number}: {len(one)} of them")
    at = records[len(records) // 2]["time_us"] // 1000000
    late = lines(home.tool("dump", where, "--json", "--since", str(at)))
    report.ok(late == [r for r in records if r["time_us"] >= at * 1000000], f"--since: {len(late)} of them")
    text = home.tool("dump", where)
    report.ok(len(text.stdout.splitlines()) == len(records) and all(32 <= c < 127 or c == 10 for c in text.stdout), "as text: one line each, and nothing a terminal obeys")


def wrong_use(report, where):
    for args, code in ((["nonsense"], 100), (["ls", "--state", "none"], 100), (["ls", "--since", "soon"], 100), (["cat"], 100), (["cat", "x"], 100),
                       (["cat", "12345"], 100), (["dump", "--segment", "0"], 100), (["dump", "--from", "1:99999999999"], 100), (["verify", "more"], 100),
                       (["info", "--shard", "64"], 100), (["ls", "--nonsense"], 100)):
        done = home.tool(args[0], where, *args[1:])
        report.ok(done.returncode == code and done.stderr, f"{' '.join(args)}: exit {done.returncode}, {done.stderr.splitlines()[0].decode() if done.stderr else ''}")
    done = home.tool("info", where / "nowhere")
    report.ok(done.returncode == 100 and b"nowhere" in done.stderr, "a directory that is not there")
    (lab.scratch / "empty").mkdir()
    report.ok(home.tool("verify", lab.scratch / "empty").returncode == 100, "a directory without a journal")


def read_only(report, where):
    target = lab.scratch / "ro"
    target.mkdir()
    lab.run("mount", "--bind", str(where), str(target))
    lab.run("mount", "-o", "remount,ro,bind", str(target))
    codes = {v: home.tool(v, target).returncode for v in ("info", "ls", "verify", "dump")}
    lab.run("umount", str(target))
    report.ok(set(codes.values()) == {0}, f"on a read-only directory: {codes}")


def beside(report, host, dice):
    """All verbs while mail comes in, is deferred, bounces."""
    host.start()
    where, stop, rounds, bad = home.directory(host), threading.Event(), 0, []

    def traffic():
        while not stop.is_set():
            home.fill(host, dice, 40)

    sender = threading.Thread(target=traffic)
    sender.start()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        for verb in ("verify", "dump", "ls", "info"):
            done = home.tool(verb, where, *(["--json"] if rounds % 2 else []))
            if done.returncode or done.stderr:
                bad.append((verb, done.returncode, done.stderr, done.stdout[-300:]))
        rounds += 1
    stop.set()
    sender.join()
    report.ok(rounds > 1 and not bad, f"{rounds} rounds of verify, dump, ls and info beside a running journald under load {bad[:3]}")
    home.settled(host)
    theirs = {m["queue_id"]: {r["address"] for r in m["recipients"]} for m in host.queue()}
    mine = lines(home.tool("ls", where, "--json", "--recipients"))
    ours = {m["id"]: {r["address"] for r in m["recipients"] if r["state"] == "queued"} for m in mine}
    report.ok(ours == theirs and ours, f"ls of a running journal is what quire queue says: {len(ours)} messages")
    some = mine[len(mine) // 2]
    done = home.tool("cat", where, some["id"])
    report.ok(done.returncode == 0 and len(done.stdout) == some["size"], f"cat of a queued message beside it: {len(done.stdout)} bytes")
    host.stop()


# ---- damage ----

def find(where, args):
    """What a verb says of a damaged journal: the exit code must be one of ours, and no sanitizer may speak."""
    done = home.tool(args[0], where, *args[1:], timeout=60)
    fine = done.returncode in (0, 99, 100) and b"ERROR: " not in done.stderr and b"runtime error" not in done.stderr
    return done, fine


def one_damage(where, target, dice, how):
    path, used, size = target
    last = size - BLOCK
    offset = dice.randrange(used) if dice.random() < 0.95 else last + dice.randrange(BLOCK)
    block = offset - offset % BLOCK
    with open(path, "rb") as f:
        f.seek(block)
        saved = f.read(BLOCK)
    changed = bytearray(saved)
    if how == "zeros":
        changed = bytearray(BLOCK)
    elif how == "stale":
        with open(path, "rb") as f:
            f.seek(dice.randrange(used // BLOCK) * BLOCK)
            changed = bytearray(f.read(BLOCK))
    else:
        for _ in range(1 if how == "flip" else 20):
            changed[dice.randrange(BLOCK) if how == "noise" else offset - block] ^= 1 << dice.randrange(8)
    return path, block, saved, bytes(changed)


def put(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def damages(report, where, every, dice):
    blocks = {}
    for r in lines(home.tool("dump", where, "--json", "--bodies")):
        if r["type"] in ("body", "rcpt", "msg", "state"):
            first, last = (r["offset"] // BLOCK, (r["offset"] + 32 + r["n"]) // BLOCK + (r["n"] // 4000 > 0))
            blocks.setdefault(r["id"], []).append((r["segment"], first, last, r["type"]))
    targets = segments(where)
    fired, silent, crashed, unnamed, named = 0, [], [], [], 0
    queued = {m["id"] for m in every if m["state"] == "queued"}
    for i in range(DAMAGES):
        how = ("flip", "zeros", "stale", "noise")[i % 4]
        target = dice.choice(targets)
        path, block, saved, changed = one_damage(where, target, dice, how)
        if changed == saved:
            continue
        fired += 1
        put(path, block, changed)
        what = f"{path.name} block {block // BLOCK} {how}"
        done, fine = find(where, ["verify", "--json"])
        said = done.stdout
        if not fine:
            crashed.append(f"{what}: verify: {done.returncode} {done.stderr[-300:]}")
        elif done.returncode != 99 or not (b'"wrong":0}' not in said and path.name.encode() in said):
            silent.append(f"{what}: {done.returncode} {said[-300:]}")
        here = int(path.name[4:], 16), block // BLOCK
        hit = {i: [segment == here[0] and first <= here[1] <= last for segment, first, last, _ in blocks[i]] for i in queued}
        # Something of it begins in the block, and something else lies elsewhere and tells of it.
        lost = {i for i, h in hit.items() if not all(h) and any((s, f) == here and kind != "state" for s, f, _, kind in blocks[i])}
        for ident in lost:
            named += 1
            if f'"id":"{ident}"'.encode() not in said:
                unnamed.append(f"{what}: message {ident}")
        for args in (["ls", "--state", "all", "--recipients", "--json"], ["dump", "--bodies", "--json"], ["info"], ["cat", dice.choice(every)["id"]]):
            done, fine = find(where, args)
            if not fine:
                crashed.append(f"{what}: {args[0]}: {done.returncode} {done.stderr[-300:]}")
        put(path, block, saved)
    report.ok(fired > DAMAGES // 2, f"{fired} damages were done: one bit, zeros, a stale block, noise")
    report.ok(not silent, f"verify was silent about {len(silent)} of them {silent[:3]}")
    report.ok(named > 0 and not unnamed, f"{named} times a queued message lost a part; {len(unnamed)} were not named {unnamed[:3]}")
    report.ok(not crashed, f"{len(crashed)} crashes or strange exits {crashed[:3]}")
    report.ok(home.tool("verify", where).returncode == 0, "undone, all is well again")


def lost_files(report, where, dice):
    targets = [t for t in segments(where) if t[1] > BLOCK]
    for what in ("missing", "truncated", "of another journal", "in another's place"):
        path = targets[1][0]
        saved = path.read_bytes()
        if what == "missing":
            path.unlink()
        elif what == "truncated":
            path.write_bytes(saved[:dice.randrange(1, targets[1][1])])
        elif what == "of another journal":
            other = bytearray(saved)
            other[16:32] = dice.randbytes(16)
            path.write_bytes(other)
        else:
            path.write_bytes(targets[0][0].read_bytes())
        done, fine = find(where, ["verify", "--json"])
        messages = [x for x in lines(done) if x["kind"] == "message"]
        report.ok(fine and done.returncode == 99 and path.name.encode() in done.stdout, f"a segment that is {what}: verify exits {done.returncode} and names it, and {len(messages)} messages")
        for verb in ("ls", "dump", "info"):
            done, fine = find(where, [verb])
            if not fine or done.returncode not in (99, 0):
                report.ok(False, f"a segment that is {what}: {verb} exits {done.returncode} {done.stderr[-300:]}")
        path.write_bytes(saved)
    path = targets[0][0]
    bad = path.with_name(path.name.replace("seg-", "bad-").replace("0001", "00ff"))
    bad.write_bytes(path.read_bytes())
    done = home.tool("verify", where, "--json")
    report.ok(done.returncode == 99 and bad.name.encode() in done.stdout, f"a quarantined file is named, and the exit code is {done.returncode}")
    bad.unlink()


def main():
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    host, sent = home.build(dice)
    where = home.copy(home.directory(host), "journal")
    every, queued = read_all(report, where, sent)
    filters(report, where, every)
    dumps(report, where)
    wrong_use(report, where)
    read_only(report, where)
    done = home.tool("verify", where, "--json")
    summary = lines(done)[-1]
    report.ok(done.returncode == 0 and summary["wrong"] == 0 and summary["messages"] == len(every) and summary["queued"] == len(queued),
              f"verify: {summary['batches']} batches, {summary['records']} records, {summary['messages']} messages, nothing wrong")
    damages(report, where, every, dice)
    lost_files(report, where, dice)
    beside(report, host, dice)
    report.end()


if __name__ == "__main__":
    main()
