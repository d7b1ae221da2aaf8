#!/usr/bin/env python3
"""A reader written from docs/journal.md alone (journal_reader.py) agrees with `quire journal dump`, ls and cat: on
journals made by a real home (several starts, a kill, deferrals, bounces), and on damaged copies of them."""
import base64
import json
import os
import shutil
import subprocess

import journal_home as home
import journal_reader as reader
import lab

FIELDS_OF_OURS = {"queue", "raw"}
AROUND = 120    # records of the largest batches in the block and behind it
DAMAGES = int(os.environ.get("QUIRE_READER_DAMAGES", 40))


def dumped(where, report=None):
    done = home.tool("dump", where, "--json", "--bodies", "--quiet")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    records = {r["position"]: r for r in lines if r["type"] != "damage"}
    damage = [r["position"] for r in lines if r["type"] == "damage"]
    return records, damage, done


def read(where):
    found, damage = reader.records(str(where))
    records = {}
    for r in found:
        plain = reader.plain({k: v for k, v in r.items() if k not in FIELDS_OF_OURS})
        records[r["position"]] = plain
    return records, damage


def same(a, b):
    """Two records; what only one of them can know (a batch whose head is lost) is left out."""
    keys = (set(a) & set(b)) - {"batch", "time_us"} if "batch" not in b else set(a) | set(b)
    if "batch" in b:
        return all(a.get(k) == b.get(k) for k in keys)
    return all(a[k] == b[k] for k in keys) and len(keys) > 8


def differ(ours, theirs):
    """The first difference, or None."""
    for pos in sorted(set(ours) | set(theirs)):
        if pos not in ours:
            return f"position {pos} ({theirs[pos]['type']}): only journal_reader.py has it"
        if pos not in theirs:
            return f"position {pos} ({ours[pos]['type']}): only dump has it"
        if not same(ours[pos], theirs[pos]):
            keys = [k for k in sorted(set(ours[pos]) | set(theirs[pos])) if ours[pos].get(k) != theirs[pos].get(k)]
            return f"position {pos}: " + ", ".join(f"{k}: {str(ours[pos].get(k))[:80]} / {str(theirs[pos].get(k))[:80]}" for k in keys)
    return None


def differ_somewhat(original, ours, theirs):
    """A whole block in a wrong place: which records of the batch that it stands in are still taken is not laid down,
    but what both read is the same, and neither loses more than what is around it."""
    for pos in set(ours) & set(theirs) & set(original):
        if not same(ours[pos], theirs[pos]):
            return f"position {pos} differs"
    for who, records in (("dump", ours), ("journal_reader.py", theirs)):
        lost = set(original) - set(records)
        if len(lost) > AROUND:
            return f"{who} lost {len(lost)} records to one block"
    return None


def compare_messages(report, where, sent):
    messages, damage = reader.messages(str(where))
    listed = [json.loads(line) for line in home.tool("ls", where, "--json", "--state", "all", "--recipients").stdout.splitlines()]
    wrong = []
    for m in listed:
        mine = messages.get(m["id"])
        mine = mine and {"sender": reader.plain(mine["sender"]), "size": mine["size"], "left": len(mine["left"]), "all": mine["rcpts"],
                         "recipients": [[n, reader.plain(a)] for n, a in mine["recipients"]]}
        theirs = {k: m[k] for k in ("sender", "size", "left", "all")}
        theirs["recipients"] = [[r["number"], r["address"]] for r in m["recipients"]]
        if mine != theirs:
            wrong.append(m["id"])
    report.ok(len(listed) == len(messages) > 0 and not wrong, f"{len(listed)} messages: envelopes agree with ls {wrong[:5]}")
    left = sum(bool(m["left"]) for m in messages.values())
    report.ok(left > 0, f"{left} of them are still queued")
    some = list(messages)[:: max(1, len(messages) // 15)]
    agree = [home.tool("cat", where, i).stdout == messages[i]["body"] for i in some]
    report.ok(all(agree), f"{len(agree)} bodies agree with cat")
    if not sent:
        return
    # Every body that was answered yes is there, behind what the front end wrote in front of it.
    bodies = [m["body"] for m in messages.values()]
    missing = [body for body, _, _ in sent if not any(b is not None and b.endswith(body) for b in bodies)]
    report.ok(not missing, f"{len(sent)} messages were answered yes; each of their bodies is there")


def compare_damaged(report, dice, where):
    blocks = [(p, at) for p, at in home.used_blocks(where) if p.name in named(where)]
    unequal, damaged, refused = [], 0, 0
    original = dumped(where)[0]
    for i in range(DAMAGES):
        path, at = dice.choice(blocks)
        saved = path.read_bytes()
        how = ("zeros", "bit", "misplaced", "bit")[i % 4]
        if how == "bit":
            home.flip(path, at + dice.randrange(4096), dice)
        else:
            other = saved[dice.choice([a for p, a in blocks if p == path]):][:4096]
            with open(path, "r+b") as f:
                f.seek(at)
                f.write(bytes(4096) if how == "zeros" else other)
        ours, _, done = dumped(where)
        try:
            theirs, damage = read(where)
        except reader.Failed as e:
            theirs, damage = None, [str(e)]
        damaged += bool(damage)
        if done.returncode in (99, 0) and theirs is not None:
            why = differ_somewhat(original, ours, theirs) if how == "misplaced" else differ(ours, theirs)
        else:
            refused += 1
            why = None if theirs is None or not ours else f"dump gave up: {done.stderr}"
        if why:
            unequal.append(f"{path.name} offset {at} {how}: {why}")
        path.write_bytes(saved)
    report.ok(damaged > DAMAGES // 2, f"{DAMAGES} times damage was done to one block; journal_reader.py saw it {damaged} times, {refused} times nothing could be read")
    for why in unequal[:5]:
        print("#", why)
    report.ok(not unequal, f"{len(unequal)} times dump and journal_reader.py read different records")


def named(where):
    return {s["file"] for s in json.loads(home.tool("info", where, "--json").stdout)["segments"]}


def main():
    lab.enter()
    report, dice = lab.Report(), lab.seed()
    whole(report, dice)
    cut(report, dice)
    compacted(report, dice)
    report.end()


def compacted(report, dice):
    """Segments given up, some kept as history, and what lived in them copied into a cold one."""
    shutil.rmtree(lab.scratch / "a.example")
    host = home.make(dice)
    host.control("journalkeep", "17000000 30")
    host.control("compactrate", "0")
    host.start()
    client = lab.QmtpClient(host.ip)
    for i in range(160):
        client.send(dice.randbytes(200000), b"joe@a.example", [b"later@a.example" if i % 20 == 0 else b"joe@a.example"])
    client.close()
    home.settled(host)
    subprocess.run([str(lab.bin_dir() / "quire"), "journal", "compact", "--home", str(host.home)], stdout=subprocess.DEVNULL, timeout=120)
    where = home.directory(host)
    beside = home.tool("verify", where)
    host.stop()
    kinds = {s["kind"] for s in json.loads(home.tool("info", where, "--json").stdout)["segments"]}
    report.ok({"cold", "history", "newest"} <= kinds, f"after compaction there are segments that are {', '.join(sorted(kinds))}")
    stopped = home.tool("verify", where)
    report.ok(beside.returncode == stopped.returncode == 0, f"verify finds nothing wrong, running and stopped {beside.stdout[-200:] if beside.returncode else ''}")
    ours, damage, _ = dumped(where)
    theirs, their_damage = read(where)
    why = differ(ours, theirs)
    report.ok(not damage and not their_damage and why is None and ours, f"the same {len(theirs)} records" + (f": {why}" if why else ""))
    compare_messages(report, where, [])


def cut(report, dice):
    """The newest segment is the one that is full of mail, and its end is that of a dead process."""
    shutil.rmtree(lab.scratch / "a.example")
    host, sent = home.build(dice, starts=1, cut=True)
    where = home.copy(home.directory(host), "cut")
    ours, damage, done = dumped(where)
    theirs, their_damage = read(where)
    why = differ(ours, theirs)
    report.ok(done.returncode == 0 and not their_damage and why is None, f"after a kill: the same {len(theirs)} records" + (f": {why}" if why else ""))
    compare_damaged(report, dice, where)


def whole(report, dice):
    host, sent = home.build(dice)
    where = home.copy(home.directory(host), "journal")
    ours, damage, done = dumped(where)
    theirs, their_damage = read(where)
    report.ok(done.returncode == 0 and not damage and not their_damage, f"no damage in a journal of {len(ours)} records {done.stderr.decode()}")
    kinds = sorted({r["type"] for r in ours.values()})
    report.ok({"body", "rcpt", "msg", "state", "dict"} <= set(kinds), f"kinds of records: {', '.join(kinds)}")
    why = differ(ours, theirs)
    report.ok(why is None, f"journal_reader.py reads the same {len(theirs)} records as dump" + (f": {why}" if why else ""))
    compare_messages(report, where, sent)
    compare_damaged(report, dice, where)


if __name__ == "__main__":
    main()
