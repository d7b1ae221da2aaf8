#!/usr/bin/env python3
"""Dictionaries: trained from the journal, used from the next start on, and mail that was packed against
older ones comes out whole."""
import json
import subprocess

import lab


def send(host, numbers, bodies):
    client = lab.QmtpClient(host.ip)
    for n in numbers:
        answers = client.send(lab.mark(n, bodies[n % len(bodies)]), b"s@a.example", [b"box@a.example"])
        if answers[0][:1] != b"K":
            raise RuntimeError(f"mail {n} was not taken: {answers}")
    client.close()


def journal(host, verb, *args, check=True):
    done = subprocess.run([lab.bin_dir() / "quire", "journal", verb, "--home", host.home, *args], capture_output=True, timeout=120)
    if check and done.returncode:
        raise RuntimeError(f"quire journal {verb}: exit {done.returncode}: {done.stderr.decode()}")
    return done


def records(host, *args):
    return [json.loads(line) for line in journal(host, "dump", "--json", *args).stdout.splitlines()]


def dictionaries(host):
    """Numbers of the dictionaries that lie in the journal, and of those that parts are packed against, in order."""
    held, used = [], []
    for r in records(host):
        if r.get("type") == "dict" and r["number"] not in held:
            held.append(r["number"])
        if r.get("type") == "body" and r.get("dict") and r["dict"] not in used:
            used.append(r["dict"])
    return held, used


def main():
    lab.enter()
    report = lab.Report()
    a = lab.Host("a.example", "127.0.0.2")
    box = a.user_maildir("box")
    bodies = [data for _, data in lab.corpus()]

    # The built-in one.
    a.start()
    send(a, range(0, 200), bodies)
    report.ok(a.wait_empty(), "200 messages were delivered")
    held, used = dictionaries(a)
    report.ok(len(held) == 1 and used == held, f"they were packed against the built-in dictionary, which lies in the journal: {held}, {used}")
    built_in = held[0]

    # One that is trained from them; it is used from the next start on.
    done = journal(a, "train", "--install", "--size", "16384", "--json")
    said = json.loads(done.stdout)
    report.ok(said["ratio_trained"] > said["ratio_built_in"] > said["ratio_none"], f"trained from the journal: {said}")
    report.ok((a.home / "control/dictionary").stat().st_mode & 0o777 == 0o600, "its file is for the owner only")
    a.stop()
    a.control("concurrencylocal", "0")
    a.start()
    send(a, range(200, 230), bodies)
    held, used = dictionaries(a)
    trained = said["number"]
    report.ok(trained in held and trained in used, f"after a start new mail is packed against it: {held}, {used}")

    # What was packed against it is delivered by processes that were started with another one.
    a.stop()
    other = bytes(range(256)) * 8 + b"From: To: Subject: Received: from a.example" * 20
    (a.home / "control/dictionary").write_bytes(other)
    a.control("concurrencylocal", "10")
    a.start()
    report.ok(a.wait_empty() and len(lab.maildir(box)) == 230, "30 messages that waited, packed against a dictionary that nobody was given, were delivered")
    send(a, range(230, 240), bodies)
    report.ok(a.wait_empty(), "10 more were delivered")
    held, used = dictionaries(a)
    report.ok(len(held) == 3 and built_in in held and trained in held, f"three dictionaries lie in the journal now: {held}")

    # A file that is no dictionary costs nothing but a line.
    a.stop()
    (a.home / "control/dictionary").write_bytes(b"\x37\xa4\x30\xec" + b"nonsense" * 100)
    a.start()
    send(a, range(240, 250), bodies)
    report.ok(a.wait_empty() and "dictionary" in a.text(), "a file that is no dictionary is said, and mail goes on")

    got = {}
    for data in lab.maildir(box):
        n, body, _ = lab.unmark(data)
        got[n] = body
    wrong = [n for n in range(250) if got.get(n) != lab.mark(n, bodies[n % len(bodies)])]
    report.ok(not wrong and len(got) == 250, f"all 250 came out byte for byte ({len(wrong)} did not)")

    verify = journal(a, "verify", check=False)
    report.ok(verify.returncode == 0, f"quire journal verify finds nothing wrong: {verify.stdout[-300:]!r} {verify.stderr[-300:]!r}")
    a.stop()
    report.end()


main()
