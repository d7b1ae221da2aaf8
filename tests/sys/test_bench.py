#!/usr/bin/env python3
"""quire-bench journal, pack and sched: they run, clean up, and what they count fits together.  No speed is judged here."""
import json
import os
import subprocess
import tempfile

import lab


def bench(*args):
    return subprocess.run([str(lab.BUILD / "bin" / "quire-bench"), *args], capture_output=True, text=True, timeout=300)


def main():
    report = lab.Report()
    with tempfile.TemporaryDirectory(prefix="quire-bench.", dir=os.environ.get("QUIRE_LAB_DIR")) as where:
        for more in ([], ["--new", "--loop", "epoll", "--buffered"]):
            done = bench("journal", "--dir", where, "--mails", str(lab.CORPUS), "--seconds", "1", "--submitters", "1,8",
                         "--level", "raw,1", "--segment-size", "8388608", "--ring-size", "8388608", "--json", *more)
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            name = " ".join(["journal", *more])
            report.ok(done.returncode == 0 and len(rows) == 4, f"{name}: a row for each level and number of submitters {done.stderr[-200:]}")
            report.ok(all(r["rate"] > 0 and r["batches"] > 0 for r in rows), f"{name}: messages became durable")
            one = [r for r in rows if r["submitters"] == 1]
            report.ok(all(abs(r["mean"] - 1) < 0.05 for r in one), f"{name}: one submitter waits for each of its messages")
            report.ok(all(r["cost"] > 1 for r in rows if r["level"] == "raw") and rows[3]["cost"] < rows[1]["cost"],
                      f"{name}: bytes written for a byte of mail: {[r['cost'] for r in rows]}")
            report.ok(all(r["p50_us"] <= r["p99_us"] <= r["p999_us"] for r in rows), f"{name}: percentiles are in order")
            report.ok(not os.listdir(where), f"{name}: nothing is left behind")
        done = bench("journal", "--dir", where + "/nowhere", "--seconds", "1")
        report.ok(done.returncode == 111 and len(done.stderr.splitlines()) == 1, f"a directory that is missing: {done.stderr.strip()!r}")
    done = bench("journal")
    report.ok(done.returncode == 100 and "--dir" in done.stderr, "without a directory it says what it needs")

    done = bench("pack", "--mails", str(lab.CORPUS))
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    ratio = {(r[0], int(r[1])): float(r[2]) for r in rows}
    report.ok(done.returncode == 0 and len(ratio) == 10, f"pack: levels by dictionaries {done.stderr[-200:]}")
    report.ok(all(ratio["built-in", l] > ratio["none", l] > 1 for l in (-5, -3, -1, 1, 3)),
              f"the built-in dictionary pays at every level: {ratio}")

    done = bench("sched", "--recipients", "20000", "--domains", "1000", "--json")
    rows = {r["case"]: r for r in map(json.loads, done.stdout.splitlines())}
    report.ok(done.returncode == 0 and list(rows) == ["list", "single", "mixed"], f"sched: a row for each case {done.stderr[-200:]}")
    report.ok([rows[c]["messages"] for c in ("list", "single")] == [1, 20000] and all(abs(r["recipients"] - 20000) < 20 for r in rows.values()),
              "sched: as many messages and recipients as were asked for")
    # A line for the start and the end of each try, two tries each; and one for the end of each message.
    report.ok(all(r["log_lines"] >= 4 * r["recipients"] + r["messages"] for r in rows.values()), "sched: every recipient was tried twice")
    # Far above what it should be: only memory that is lost, or never measured, is found here.
    sizes = [r[k] for r in rows.values() for k in ("fresh_bytes", "deferred_bytes", "rebuilt_bytes")]
    report.ok(not any(sizes) or min(sizes[:2]) > 10 and max(sizes) < 2000, f"sched: bytes for a recipient (none without jemalloc): {sizes}")
    report.ok(bench("sched", "--case", "none").returncode == 100, "sched: a case that there is not")
    done = subprocess.run([str(lab.BUILD / "bin" / "quire"), "bench", "sched", "--case", "list", "--recipients", "1000"], capture_output=True, text=True, timeout=300)
    report.ok(done.returncode == 0 and done.stdout.splitlines()[1].split()[:3] == ["list", "1", "1000"], f"quire bench hands its arguments on {done.stderr}")
    report.end()


main()
