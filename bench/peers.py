"""peers - Postfix from Debian's package, unpacked, set up in the scratch directory, with its documented durable defaults.

Nothing is tuned down: it syncs as it does out of the box.  What is set is where things lie, that it talks
to the sink, and process limits that fit the number of clients."""
import os
import shutil
import signal
import subprocess

import lab


class Postfix:
    name = "Postfix"

    def __init__(self, ip, port, relay, hold=False):
        self.ip, self.port = ip, port
        root = lab.PEERS
        self.where = lab.scratch / f"postfix-{port}"
        self.where.mkdir()
        self.where.chmod(0o755)
        config, queue, data = (self.where / d for d in ("etc", "spool", "data"))
        for d in (config, queue, data):
            d.mkdir()
        self.env = dict(os.environ, LD_LIBRARY_PATH=str(root / "usr/lib/postfix"), MAIL_CONFIG=str(config))
        add_user("postfix", "postfix")
        add_group("postdrop")
        shutil.chown(data, "postfix", "root")
        main = {
            "compatibility_level": "3.6", "queue_directory": queue, "data_directory": data,
            "command_directory": root / "usr/sbin", "daemon_directory": root / "usr/lib/postfix/sbin",
            "shlib_directory": root / "usr/lib/postfix", "meta_directory": config, "mail_owner": "postfix",
            "setgid_group": "postdrop", "myhostname": "postfix.example", "mydestination": "", "alias_maps": "", "alias_database": "",
            "inet_interfaces": ip, "inet_protocols": "ipv4", "mynetworks": "127.0.0.0/8", "maillog_file": str(self.where / "log"),
            "maillog_file_prefixes": str(lab.scratch), "relayhost": relay, "smtp_bind_address": ip,
            "default_process_limit": "200", "smtpd_client_connection_count_limit": "0", "smtpd_client_connection_rate_limit": "0",
            "smtpd_relay_restrictions": "permit_mynetworks, reject", "smtp_host_lookup": "native", "disable_dns_lookups": "yes",
            "import_environment": "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_LIBRARY_PATH POSTLOG_SERVICE POSTLOG_HOSTNAME",
            "in_flow_delay": "0", "default_destination_concurrency_limit": "50",
        }
        if hold:
            main["defer_transports"] = "smtp relay"
        (config / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in main.items()))
        (config / "master.cf").write_text(MASTER.format(port=f"{ip}:{port}"))
        (config / "dynamicmaps.cf").write_text("")
        (config / "postfix-files").write_text("")
        for d, mode, user in (("active", 0o700, 1), ("bounce", 0o700, 1), ("corrupt", 0o700, 1), ("defer", 0o700, 1), ("deferred", 0o700, 1),
                              ("flush", 0o700, 1), ("hold", 0o700, 1), ("incoming", 0o700, 1), ("saved", 0o700, 1), ("trace", 0o700, 1),
                              ("private", 0o700, 1), ("public", 0o710, 1), ("maildrop", 0o1730, 1), ("pid", 0o755, 0)):
            (queue / d).mkdir()
            (queue / d).chmod(mode)
            if user:
                shutil.chown(queue / d, "postfix", "postdrop" if d in ("public", "maildrop") else None)
        # Postfix insists on addresses that an interface names; all of 127/8 is local anyway.
        subprocess.run(["ip", "addr", "add", f"{ip}/32", "dev", "lo"], stderr=subprocess.DEVNULL)
        self.master = subprocess.Popen([str(root / "usr/lib/postfix/sbin/master"), "-c", str(config), "-d"], env=self.env,
                                       stdout=open(self.where / "out", "w"), stderr=subprocess.STDOUT, start_new_session=True)
        lab.wait_port(ip, port, self.master)

    def stop(self):
        self.master.terminate()
        self.master.wait(timeout=20)
        try:  # what it leaves behind must not eat into the next measurement
            os.killpg(self.master.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def add_group(name):
    subprocess.run(["groupadd", "--system", name], stderr=subprocess.DEVNULL)


def add_user(name, group):
    add_group(group)
    subprocess.run(["useradd", "--system", "--no-create-home", "--gid", group, name], stderr=subprocess.DEVNULL)


# Debian's own services, those that mail by SMTP needs; unprivileged, not chrooted (Debian chroots smtpd: one copy more).
MASTER = """
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
