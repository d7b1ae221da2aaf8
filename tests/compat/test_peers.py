#!/usr/bin/env python3
"""Programs that we did not write agree: Postfix's smtp-source and smtp-sink, swaks, mailfront under tcpserver,
and a QMTP client from the specification."""
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sys"))
import lab      # noqa: E402
import traffic  # noqa: E402

SOURCE_MESSAGES = 300


def postfix_tool(name, *args, **kw):
    env = dict(os.environ, LD_LIBRARY_PATH=str(lab.PEERS / "usr/lib/postfix"))
    return subprocess.Popen([str(lab.PEERS / "usr/sbin" / name), *args], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kw)


def main():
    lab.enter()
    report = lab.Report()
    lab.NameServer({"a.example": "@ MX 10 mx\nmx A 127.0.0.2\n",
                    "sink.example": "@ MX 10 mx\nmx A 127.0.0.4\n",
                    "front.example": "@ MX 12801 mx\nmx A 127.0.0.5\n"})
    a = lab.Host("a.example", "127.0.0.2")
    a.control("resolvers", "127.0.0.1")
    a.control("relayclients", "127.0.0.0/8")
    a.control("timeoutremote", "20")
    joe = a.user_maildir("joe")
    a.start()

    # In: smtp-source, many sessions, lock-step SMTP of its own.
    source = postfix_tool("smtp-source", "-s", "10", "-m", str(SOURCE_MESSAGES), "-l", "3000", "-f", "s@x.example", "-t", "joe@a.example", "127.0.0.2:25")
    err = source.communicate(timeout=60)[1]
    report.ok(source.returncode == 0, f"smtp-source sent {SOURCE_MESSAGES} {err.decode()!r}")
    a.wait_empty(60)
    report.ok(len(lab.maildir(joe)) == SOURCE_MESSAGES, f"all of them are in the Maildir ({len(lab.maildir(joe))})")

    # In: swaks, with and without pipelining.
    for extra in ([], ["--pipeline"]):
        done = subprocess.run(["swaks", "--server", "127.0.0.2", "--from", "s@x.example", "--to", "joe@a.example", "--ehlo", "swaks.example",
                               "--header", "Subject: by swaks", "--body", "line\n.dot\n", *extra], capture_output=True, text=True, timeout=60)
        report.ok(done.returncode == 0, f"swaks {' '.join(extra)} is content")
        if done.returncode:
            print(done.stdout[-1500:])
    a.wait_empty(30)
    got = [d for d in lab.maildir(joe) if b"Subject: by swaks" in d]
    report.ok(len(got) == 2 and all(b"\nline\n.dot\n" in d for d in got), "and its mail arrived with its dot")
    # In: ends of data that are none, with a second message smuggled behind each.
    vectors = [b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\x00.\r\n", b"\r\n.\x00\r\n"]
    refused = 0
    for v in vectors:
        c = traffic.SmtpClient("127.0.0.2")
        for line, code in ((b"MAIL FROM:<good@x.example>", b"250"), (b"RCPT TO:<joe@a.example>", b"250"), (b"DATA", b"354")):
            c.command(line, code)
        c.sock.sendall(b"Subject: v\r\n\r\nbody" + v + b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<joe@a.example>\r\nDATA\r\n"
                       b"Subject: smuggled\r\n\r\n\r\n.\r\nQUIT\r\n")
        answer = c.file.readline()
        refused += answer.startswith(b"554 5.6.0")
        c.close()
    a.wait_empty(30)
    report.ok(not any(b"Return-Path: <evil@x.example>" in d for d in lab.maildir(joe)), f"none of {len(vectors)} false ends of data lets a message through")
    report.ok(refused == sum(b"\n" in v.replace(b"\r\n", b"") for v in vectors), f"those with a bare LF are refused with 554 5.6.0 ({refused})")

    # Out: smtp-sink, which drops nothing, then one that says 421 or 4xx now and then.
    sink = postfix_tool("smtp-sink", "-u", "nobody", "127.0.0.4:25", "100")
    lab.wait_port("127.0.0.4", 25, sink)
    env = dict(os.environ, QUIRE_HOME=str(a.home))
    for n in range(20):
        subprocess.run([lab.bin_dir() / "sendmail", "-f", "s@a.example", "x@sink.example"], input=b"Subject: %d\n\nx\n" % n, env=env, check=True)
    report.ok(a.wait_empty(60), "smtp-sink took 20 messages")
    text = a.text()
    report.ok(text.count("127.0.0.4_accepted_message") >= 20, f"the log names who accepted them ({text.count('127.0.0.4_accepted_message')})")
    sink.terminate()
    sink.wait()

    # Out: mailfront's QMTP server.  It answers once a package; one recipient a package is right with it.
    module = str(lab.PEERS / "usr/lib/mailfront")
    front = subprocess.Popen(["tcpserver", "-R", "-H", "-l", "0", "127.0.0.5", "209", "env", f"MODULE_PATH={module}",
                              str(lab.PEERS / "usr/sbin/mailfront"), "qmtp", "echo", "accept"], stderr=open(lab.scratch / "front", "w"))
    lab.wait_port("127.0.0.5", 209, front)
    for n in range(10):
        subprocess.run([lab.bin_dir() / "sendmail", "-f", "s@a.example", "x@front.example"], input=b"Subject: %d\n\nx\n" % n, env=env, check=True)
    report.ok(a.wait_empty(60), "mailfront took 10 messages by QMTP")
    report.ok((lab.scratch / "front").read_text().count("recipient <x@front.example>") == 10, "and saw each recipient once")
    subprocess.run([lab.bin_dir() / "sendmail", "-f", "s@a.example", "y@front.example", "z@front.example"], input=b"Subject: two\n\nx\n", env=env, check=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all(r.get("delay_reason") for m in a.queue() for r in m["recipients"]):
        time.sleep(0.2)
    text = a.text()
    report.ok("y@front.example" in text and "z@front.example" in text, "two recipients in one package: neither hangs nor is lost")
    settled = [l for l in text.splitlines() if l.startswith("delivery ")]
    report.ok(len(settled) == sum(l.startswith("starting delivery ") for l in text.splitlines()), "every delivery that began has its end")
    front.terminate()
    front.wait()

    # In: QMTP by the specification: both encodings, pipelined, several recipients, refusals in their place.
    before = len(lab.maildir(joe))
    q = lab.QmtpClient("127.0.0.2")
    for n in range(50):
        q.post(b"Subject: q%d\n\nbody\n" % n, b"s@x.example", [b"joe@a.example", b"joe@a.example"])
    answers = [q.answer() for _ in range(100)]
    report.ok(all(x.startswith(b"K") for x in answers), "50 pipelined packages, an answer a recipient")
    report.ok(len(set(answers)) == 50, "each package has an id of its own")
    answers = q.send(b"Subject: crlf\r\n\r\na\rb\r\r\nc\r", b"s@x.example", [b"joe@a.example"], marker=b"\r")
    q.close()
    a.wait_empty(60)
    mails = lab.maildir(joe)
    report.ok(len(mails) - before == 101, f"all arrived ({len(mails) - before})")
    report.ok(any(d.endswith(b"Subject: crlf\n\na\rb\r\nc\r") for d in mails), "the CR LF encoding is taken off as specified")
    a.control("relayclients", "10.0.0.0/8")
    os.kill(a.start_pid(), 1)
    time.sleep(1)
    q = lab.QmtpClient("127.0.0.2")
    answers = q.send(b"Subject: mixed\n\n", b"s@x.example", [b"joe@a.example", b"x@elsewhere.example", b"joe@a.example"])
    report.ok([x[:1] for x in answers] == [b"K", b"D", b"K"], f"refusals stand in their place {answers}")
    if report.failed:
        print(a.tail(60))
    a.stop()
    report.end()


main()
