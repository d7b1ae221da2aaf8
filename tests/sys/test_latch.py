#!/usr/bin/env python3
"""Writes to the journal that fail again and again: journald ends with 112 twice within a minute, start latches
it, new mail is refused with 452 4.3.1 while deliveries go on, and HUP ends that."""
import os
import signal
import smtplib
import time

import lab

# Stands in for journald: as often as there are marks it ends as one whose write failed.
FAILING = """#!/bin/sh
for mark in {marks}/*; do
	[ -e "$mark" ] || break
	rm -f "$mark"
	sleep 0.3
	exit 112
done
exec {real} "$@"
"""


def send(host, to="box", seconds=30):
    """The last answer to a whole mail, as (code, text); tried again while journald is away."""
    end = time.time() + seconds
    while True:
        try:
            with smtplib.SMTP(host.ip, host.smtp, timeout=20) as c:
                c.sendmail("s@x.example", [to + "@" + host.name], "Subject: x\n\nx\n")
                return 250, ""
        except smtplib.SMTPResponseException as e:
            answer = e.smtp_code, e.smtp_error.decode()
        except smtplib.SMTPRecipientsRefused as e:
            code, text = next(iter(e.recipients.values()))
            answer = code, text.decode()
        except OSError as e:
            answer = 0, str(e)
        if answer[0] not in (0, 421, 451) or time.time() > end:
            return answer
        time.sleep(0.2)


def until(cond, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        if cond():
            return True
        time.sleep(0.1)
    return False


def kill_journald(host):
    """And waits for its successor."""
    before = host.pids("journald-real")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    return until(lambda: [p for p in host.pids("journald-real") if p not in before])


def main():
    lab.enter()
    report = lab.Report()
    marks = lab.scratch / "marks"
    marks.mkdir()
    marks.chmod(0o777)
    program = lab.bin_dir() / "quire-journald"
    program.rename(lab.bin_dir() / "journald-real")
    program.write_text(FAILING.format(marks=marks, real=lab.bin_dir() / "journald-real"))
    program.chmod(0o755)

    host = lab.Host("a.example", "127.0.0.2")
    box = host.user_maildir("box")
    later = host.user_maildir("later")
    (later / "new").rename(later / "away")
    host.start()
    report.ok(send(host)[0] == 250, "mail is taken before")

    def fail(times):
        for i in range(times):
            (marks / str(i)).touch()
        kill_journald(host)

    report.ok(send(host, "later")[0] == 250, "and a message that waits")
    fail(1)
    report.ok(send(host)[0] == 250, "one failed write: journald is started anew, and takes mail")
    fail(1)
    code, text = send(host)
    report.ok((code, "4.3.1" in text) == (452, True), f"two within a minute: new mail is refused: {code} {text}")
    report.ok(host.text().count("new mail is refused") == 1, "the log says so, once")
    kill_journald(host)
    code, text = send(host)
    report.ok(code == 452, f"and the next journald goes on refusing: {code} {text}")
    (later / "away").rename(later / "new")
    os.kill(host.start_pid(), signal.SIGALRM)
    report.ok(until(lambda: len(lab.maildir(later)) == 1) and host.wait_empty(), "what was taken is delivered meanwhile")
    report.ok(send(host)[0] == 452, "and new mail is still refused")
    os.kill(host.start_pid(), signal.SIGHUP)
    report.ok(until(lambda: send(host)[0] == 250), "HUP ends it")
    report.ok(until(lambda: len(lab.maildir(box)) == 3), f"all mail that was taken has arrived: {len(lab.maildir(box))}")
    fail(1)
    report.ok(send(host)[0] == 250, "after that it takes two again")
    report.ok(host.text().count("exit 112") == 3, "the failure fired three times")
    host.stop("--now")
    report.end()


if __name__ == "__main__":
    main()
