#!/usr/bin/env python3
"""make install and uninstall, and --help and --version of every program."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import lab


def files(root):
    return sorted(str(p.relative_to(root)) for p in pathlib.Path(root).rglob("*") if not p.is_dir())


def main():
    report = lab.Report()
    where = tempfile.mkdtemp(prefix="quire-install.")
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    make = ["make", "-s", "--no-print-directory", "-C", str(lab.TOP), f"BUILD={lab.BUILD}", f"DESTDIR={where}", "PREFIX=/opt/quire"]
    try:
        done = subprocess.run(make + ["install"], env=env, capture_output=True, text=True)
        report.ok(done.returncode == 0, f"make install {done.stderr[-300:]}")
        there = files(where)
        programs = sorted(p.name for p in (pathlib.Path(where) / "opt/quire/bin").iterdir())
        report.ok(len(programs) >= 12 and "quire" in programs and "qmail-queue" in programs, f"{len(programs)} programs are installed")
        report.ok("lib/systemd/system/quire.service" in there, "the unit is installed")
        unit = (pathlib.Path(where) / "lib/systemd/system/quire.service").read_text()
        report.ok("ExecStart=/opt/quire/bin/quire start" in unit and "@" not in unit.replace("@system-service", ""), "with its prefix filled in")
        pages = {pathlib.Path(p).stem for p in there if "/man/" in p}
        report.ok(not [p for p in programs if p not in pages], f"each has a man page ({sorted(set(programs) - pages)})")
        for p in programs:
            path = f"{where}/opt/quire/bin/{p}"
            for option in ("--help", "--version"):
                done = subprocess.run([path, option], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
                report.ok(done.returncode == 0 and p in done.stdout, f"{p} {option}")
        done = subprocess.run(make + ["uninstall"], env=env, capture_output=True, text=True)
        report.ok(done.returncode == 0 and files(where) == [], f"make uninstall leaves nothing {files(where)[:5]}")
    finally:
        shutil.rmtree(where)
    report.end()


main()
