#!/usr/bin/python3
"""journal_reader - reads a stopped journal of quire, written from docs/journal.md and nothing else.

It shares no code, no header and no constant with the programs, so that it shows whether that page
is enough.  Whole blocks are believed by their checksums, batches by their place and chain,
records by their own checksum; what is damaged is said, what is whole around it is read.

  records(dir)   every record, as dicts with the field names of `quire journal dump --json --bodies`
  messages(dir)  the messages: envelope, what is left to do, the body

As a program: journal_reader.py [--records] DIRECTORY prints JSON lines."""
import base64
import ctypes
import ctypes.util
import json
import os
import re
import struct
import sys

BLOCK, TAG, DATA = 4096, 32, 4064
COLD_FIRST = 1 << 33
FIRST, LAST, HEAD, EARLY, COLD, COPY = 1, 2, 4, 8, 16, 32
MAGIC_BATCH = 0x48435142
BATCH_BLOCKS_MAX = 512
NOP, BODY, RCPT, MSG, STATE, ACT, MOVED, DICT, MANIFEST, SEAL = range(1, 11)
TYPES = {NOP: "nop", BODY: "body", RCPT: "rcpt", MSG: "msg", STATE: "state", ACT: "act", MOVED: "moved", DICT: "dict",
         MANIFEST: "manifest", SEAL: "seal"}
OUTCOMES = {1: "delivered", 2: "deferred", 3: "failed", 4: "settled", 5: "cancelled", 6: "dropped"}
OVER = {"delivered", "settled", "dropped"}

_xxh = ctypes.CDLL("libxxhash.so.0")
_xxh.XXH3_64bits.restype = ctypes.c_uint64
_xxh.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_xxh.XXH3_64bits_withSeed.restype = ctypes.c_uint64
_xxh.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
_zstd = ctypes.CDLL("libzstd.so.1")
_zstd.ZSTD_createDCtx.restype = ctypes.c_void_p
_zstd.ZSTD_decompress_usingDict.restype = ctypes.c_size_t
_zstd.ZSTD_decompress_usingDict.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t,
                                            ctypes.c_char_p, ctypes.c_size_t]
_zstd.ZSTD_isError.restype = ctypes.c_uint
_zstd.ZSTD_isError.argtypes = [ctypes.c_size_t]
_context = _zstd.ZSTD_createDCtx()


def xxh3(data, seed=0):
    data = bytes(data)
    return _xxh.XXH3_64bits_withSeed(data, len(data), seed) if seed else _xxh.XXH3_64bits(data, len(data))


def unpack_frame(frame, n, dictionary):
    """The n bytes that a frame holds, or None."""
    out = ctypes.create_string_buffer(max(n, 1))
    got = _zstd.ZSTD_decompress_usingDict(_context, out, n, frame, len(frame), dictionary, len(dictionary))
    return None if _zstd.ZSTD_isError(got) or got != n else out.raw[:n]


class Failed(Exception):
    """The journal can't be read as one."""


class Block:
    """The tag of a block, and what the block is to segment `incarnation`."""

    def __init__(self, data, incarnation):
        self.data = data
        (self.incarnation, self.seq, self.lag, self.index, flags, checksum) = struct.unpack_from("<QQIHHQ", data, DATA)
        self.flags, self.first = flags & 63, flags >> 6
        self.whole = xxh3(data[:BLOCK - 8]) == checksum
        self.ours = self.whole and self.incarnation == incarnation
        self.old = (self.whole and not self.ours) or not any(data)
        self.bad = not self.ours and not self.old


class Head:
    """Of a segment: block 0, or its copy in the segment's last block."""

    def __init__(self, data, number, copy):
        (magic, version, head_n, self.uuid, self.number, self.segment_size, self.epoch, self.first_seq, self.chain,
         self.prev_number, self.prev_end, self.created_us, self.oldest, self.shard, self.generation, self.manifest_n,
         flags) = struct.unpack_from("<8sII16sQQQQQQQQQIIII", data)
        block = Block(data, xxh3(self.uuid, number) or 1)
        self.good = (block.ours and block.flags & HEAD and bool(block.flags & COPY) == copy and block.seq == 0 and
                     magic == b"quireseg" and head_n == 120 and self.number == number)
        if self.good and version > 1:
            raise Failed(f"segment {number} is of a newer version")
        self.good = self.good and version == 1
        self.entries = [data[120 + 32 * i:152 + 32 * i] for i in range(min(self.manifest_n, 123))]


def parse_entry(data):
    number, end, state, closed, incarnation = struct.unpack("<QQIIQ", data)
    return {"number": number, "end": end, "state": state, "closed": closed, "incarnation": incarnation}


class Batch:
    def __init__(self, block, believe=False):
        data = block.data
        (magic, self.blocks, self.seq, self.watermark, self.chain, self.payload_hash, self.payload_n, self.records,
         self.time_us, self.flags, check) = struct.unpack_from("<IIQQQQIIQII", data)
        # believe: its head may be whole where its block is not
        placed = believe or (block.ours and block.flags & FIRST and block.index == 0 and block.seq and self.seq == block.seq)
        self.good = (placed and magic == MAGIC_BATCH and xxh3(data[:60]) & 0xffffffff == check and
                     1 <= self.blocks <= BATCH_BLOCKS_MAX and 64 + self.payload_n <= self.blocks * DATA)


class Journal:
    def __init__(self, directory):
        self.directory = directory
        self.damage = []
        self.dicts = {}
        self.find_newest()
        self.name_segments()

    # ---- files ----

    def path(self, number):
        return os.path.join(self.directory, f"seg-{number:016x}")

    def find_newest(self):
        numbers = sorted(int(n[4:], 16) for n in os.listdir(self.directory) if re.fullmatch("seg-[0-9a-f]{16}", n))
        self.head = None
        for number in reversed([n for n in numbers if n < COLD_FIRST]):
            head = self.read_head(number)
            if head:
                self.head = head
                break
        if not self.head:
            raise Failed("no segment has a valid head")
        self.size = self.head.segment_size
        self.uuid = self.head.uuid

    def read_head(self, number):
        size = os.path.getsize(self.path(number))
        if size < 2 * BLOCK:
            return None
        with open(self.path(number), "rb") as f:
            for offset, copy in ((0, False), (size - BLOCK, True)):
                f.seek(offset)
                head = Head(f.read(BLOCK), number, copy)
                if head.good:
                    return head
        return None

    def name_segments(self):
        entries = list(self.head.entries)
        missing = self.head.manifest_n - len(entries)
        if missing:
            scan = Segment(self, self.head.number, None, None)
            first = next(scan.batch_records(BLOCK), None)
            if not first or first["type"] != "manifest" or len(first["raw"]) != 32 * missing:
                raise Failed("the rest of the manifest can't be read")
            entries += [first["raw"][i:i + 32] for i in range(0, len(first["raw"]), 32)]
        self.entries = [parse_entry(e) for e in entries]
        self.entries.append({"number": self.head.number, "end": None, "state": 1})

    # ---- records ----

    def records(self):
        found = list(self.all_records())
        # A dictionary's number is made of its bytes: one in another segment is as good as that of its own.
        for r in found:
            if r["type"] == "body":
                Segment.unpack(r, self)
        return found

    def all_records(self):
        for entry in self.entries:
            number = entry["number"]
            try:
                whole = os.path.getsize(self.path(number)) == self.size
            except FileNotFoundError:
                whole = False
            if not whole:
                self.damage.append(number * self.size)
                continue
            end = entry["end"] - number * self.size if entry["end"] else None
            yield from Segment(self, number, end, entry["state"]).records()


class Segment:
    """One file, from block 1 to where its batches end."""

    def __init__(self, journal, number, end, state):
        self.journal, self.number, self.end, self.state = journal, number, end, state
        self.start = number * journal.size
        self.incarnation = xxh3(journal.uuid, number) or 1
        with open(journal.path(number), "rb") as f:
            self.data = f.read()

    def block(self, offset):
        return Block(self.data[offset:offset + BLOCK], self.incarnation)

    def damaged(self, offset):
        self.journal.damage.append(self.start + offset)

    def records(self):
        head = self.journal.read_head(self.number)
        seq, chain = (head.first_seq - 1, head.chain) if head and head.uuid == self.journal.uuid else (None, None)
        # The last block is the head's copy: no batch is there.
        limit = self.end or self.journal.size - BLOCK
        at = BLOCK
        while at < limit:
            batch = self.batch_at(at, limit, seq, chain)
            if batch:
                if self.end is None and self.is_torn(at, batch):
                    break
                yield from self.batch_records(at, batch)
                seq, chain = batch.seq, batch.chain
                at += batch.blocks * BLOCK
                if batch.flags & 4:
                    break
                continue
            if self.end is None and not self.was_promised(at, limit, seq):
                yield from self.tail(at, limit, seq)
                break
            self.damaged(at)
            to = at
            while to < limit and not self.begins_later(to, limit, seq):
                to += BLOCK
            yield from self.headless(at, to, seq)
            at, chain = to, None
        return

    def batch_at(self, at, limit, seq, chain):
        batch = Batch(self.block(at))
        if not batch.good or at + batch.blocks * BLOCK > limit:
            return None
        if chain is None:
            return batch if seq is None or batch.seq > seq else None
        joined = struct.pack("<QQQ", chain, batch.payload_hash, batch.seq)
        return batch if batch.seq == seq + 1 and batch.chain == xxh3(joined) else None

    def begins_later(self, at, limit, seq):
        batch = Batch(self.block(at))
        return (batch.good and at + batch.blocks * BLOCK <= limit and (seq is None or batch.seq > seq) and
                not self.displaced(at, limit))

    def displaced(self, at, limit):
        """Whole, but what is behind it comes before it: it does not belong here."""
        here, behind = self.block(at), self.block(at + BLOCK) if at + BLOCK < limit else None
        return bool(behind and behind.ours and behind.seq and (behind.seq, behind.index) <= (here.seq, here.index))

    def good_blocks(self, at, batch):
        """For each block of a batch its tag, or None where it is not what was written there."""
        found = []
        for i in range(batch.blocks):
            b = self.block(at + i * BLOCK)
            good = b.ours and b.seq == batch.seq and b.index == i and bool(b.flags & LAST) == (i == batch.blocks - 1)
            found.append(b if good else None)
        return found

    def is_whole(self, at, batch):
        return all(self.good_blocks(at, batch))

    def was_promised(self, at, limit, seq):
        """Some block's tag says that the batch behind `seq` was durable."""
        expected = (seq or 0) + 1
        for offset in range(at, limit, BLOCK):
            b = self.block(offset)
            possible = seq is None or seq < b.seq <= seq + (limit - at) // BLOCK
            if (b.ours or (b.bad and b.incarnation == self.incarnation and possible)) and b.seq and b.seq - b.lag >= expected:
                return True
        return False

    def is_torn(self, at, batch):
        """The newest segment's batch that is not whole, at its end: was it left unfinished?"""
        if self.is_whole(at, batch) or self.was_promised(at, self.journal.size - BLOCK, batch.seq - 1):
            return False
        return any(self.unfinished(at + i * BLOCK, i == 0, batch.seq) for i in range(batch.blocks))

    def unfinished(self, offset, first, seq):
        """A block, or a sector of it, that was never written."""
        b = self.block(offset)
        if not b.bad:
            return b.old
        if not any(b.data[BLOCK - 512:]) or (first and not any(b.data[:512])):
            return True
        if bin(b.incarnation ^ self.incarnation).count("1") > 8:
            return True
        head = b.data[:64]
        other = xxh3(head[:60]) & 0xffffffff == struct.unpack_from("<I", head, 60)[0] and struct.unpack_from("<Q", head, 8)[0] != seq
        return first and other

    def tail(self, at, limit, seq):
        """No batch that is promised begins here; what is all there, and bad, still counts."""
        expected = (seq or 0) + 1
        if self.block(at).old:
            return
        head = Batch(self.block(at), believe=True)
        blocks, last = 0, False
        if head.good and head.seq == expected and at + head.blocks * BLOCK <= limit:
            blocks, last = head.blocks, True
        while at + blocks * BLOCK < limit and not last:
            b = self.block(at + blocks * BLOCK)
            if b.old:
                break
            blocks += 1
            last = b.incarnation == self.incarnation and b.seq == expected and b.flags & LAST
        if any(self.unfinished(at + i * BLOCK, i == 0, expected) for i in range(blocks)) or (blocks > 1 and not last):
            return
        self.damaged(at)
        yield from self.headless(at, at + blocks * BLOCK, seq)

    # ---- records of one batch ----

    def batch_records(self, at, batch=None):
        batch = batch or Batch(self.block(at))
        if not batch.good:
            return
        blocks = self.good_blocks(at, batch)
        if not all(blocks):
            self.damaged(at)
        yield from self.payload_records(at, blocks, 64 + batch.payload_n, batch)

    def headless(self, at, to, before):
        """Blocks of batches whose first block is lost: by the batch and the place that their tags name."""
        while at < to:
            run, seq = [], None
            while at + len(run) * BLOCK < to:
                b = self.block(at + len(run) * BLOCK)
                if b.ours and (b.seq <= (before or 0) or self.displaced(at + len(run) * BLOCK, len(self.data))):
                    run.append(None)
                elif b.ours and b.seq and (seq is None or b.seq == seq) and b.index == len(run):
                    seq = b.seq
                    run.append(b)
                elif b.ours:
                    break
                else:
                    run.append(None)
            if not run:
                at += BLOCK
                continue
            yield from self.payload_records(at, run, len(run) * DATA, None)
            at += len(run) * BLOCK

    def payload_records(self, at, blocks, end, batch):
        payload = b"".join(self.data[at + i * BLOCK:at + i * BLOCK + DATA] for i in range(len(blocks)))
        q = 64 if blocks[0] else self.next_start(blocks, 0)
        while q + 32 <= end:
            n = struct.unpack_from("<I", payload, q + 4)[0]
            if self.all_good(blocks, q, q + 32):
                if batch is None and payload[q:q + 32] == bytes(32):
                    return
                if q + 32 + n <= end and self.all_good(blocks, q, q + 32 + n):
                    record = self.parse(at + q // DATA * BLOCK + q % DATA, payload[q:q + 32], payload[q + 32:q + 32 + n], batch)
                    if record:
                        yield record
                    q += (32 + n + 7) & ~7
                    continue
            block = q // DATA
            while block < len(blocks) and blocks[block]:
                block += 1
            while block < len(blocks) and not blocks[block]:
                block += 1
            q = self.next_start(blocks, block)

    @staticmethod
    def all_good(blocks, begin, end):
        return all(blocks[i] if i < len(blocks) else False for i in range(begin // DATA, (end - 1) // DATA + 1))

    @staticmethod
    def next_start(blocks, block):
        for i in range(block, len(blocks)):
            if blocks[i] and blocks[i].first:
                return i * DATA + (blocks[i].first - 1) * 8
        return len(blocks) * DATA

    def parse(self, offset, head, body, batch):
        check, n, kind, flags, version, number, ident, _ = struct.unpack("<IIBBHIQQ", head)
        if xxh3(head[4:] + body) & 0xffffffff != check:
            self.damaged(offset)
            return None
        if kind not in TYPES or version != 0:
            if not flags & 1:
                self.damaged(offset)
            return None
        r = {"position": self.start + offset, "segment": self.number, "offset": offset, "type": TYPES[kind],
             "id": str(ident), "number": number, "flags": flags, "n": n, "queue": self.state == 1}
        if batch:
            r["batch"], r["time_us"] = batch.seq, batch.time_us
        fill = getattr(self, "parse_" + TYPES[kind], None)
        if fill:
            fill(r, body)
        return r

    def parse_dict(self, r, body):
        self.journal.dicts[r["number"]] = body
        r["hash"] = f"{xxh3(body):016x}"

    def parse_body(self, r, body):
        r["raw_n"], r["dict"], raw_hash, codec = struct.unpack_from("<IIQB", body)
        r["raw_hash"], r["codec"] = f"{raw_hash:016x}", {0: "raw", 1: "zstd"}.get(codec, "?")
        r["raw"] = body[24:]

    @staticmethod
    def unpack(r, journal):
        raw = r["raw"] if r["codec"] == "raw" else None
        if r["codec"] == "zstd" and r["raw_n"] <= 262144 and (not r["dict"] or r["dict"] in journal.dicts):
            raw = unpack_frame(r["raw"], r["raw_n"], journal.dicts.get(r["dict"], b""))
        if raw is None or len(raw) != r["raw_n"] or f"{xxh3(raw):016x}" != r["raw_hash"]:
            r["damaged"] = True
            journal.damage.append(r["position"])
        else:
            r["body"] = raw

    def parse_rcpt(self, r, body):
        r["first"], r["count"] = struct.unpack_from("<II", body)
        r["addresses"], at = [], 8
        while at + 2 <= len(body):
            n = struct.unpack_from("<H", body, at)[0]
            r["addresses"].append(body[at + 2:at + 2 + n])
            at += 2 + n

    def parse_msg(self, r, body):
        (r["arrival_us"], r["size"], parent, r["body_parts"], r["rcpt_parts"], r["rcpts"], r["uid"], r["pid"], sender_n, settles_n,
         r["kind"], extra_n) = struct.unpack_from("<QQQIIIIIHHB3xI", body)
        r["parent"] = str(parent)
        at = 56
        parts = r["body_parts"] + r["rcpt_parts"]
        r["positions"] = list(struct.unpack_from(f"<{parts}Q", body, at))
        at += 8 * parts
        r["settles"] = [list(struct.unpack_from("<II", body, at + 8 * i)) for i in range(settles_n)]
        at += 8 * settles_n
        r["sender"] = body[at:at + sender_n]
        r["extra"] = body[at + sender_n:at + sender_n + extra_n]

    def parse_state(self, r, body):
        r["at_us"], r["next_us"], r["attempt"], ranges_n, text_n, outcome = struct.unpack_from("<QQIHHB", body)
        r["outcome"] = OUTCOMES.get(outcome, "?")
        r["ranges"] = [list(struct.unpack_from("<II", body, 32 + 8 * i)) for i in range(ranges_n)]
        at = 32 + 8 * ranges_n
        r["text"] = body[at:at + text_n]

    def parse_act(self, r, body):
        r["bytes"] = body

    def parse_manifest(self, r, body):
        r["raw"] = body
        entries = [parse_entry(body[i:i + 32]) for i in range(0, len(body), 32)]
        r["entries"] = [{k: e[k] for k in ("number", "end", "state")} for e in entries]

    def parse_seal(self, r, body):
        r["next_number"], chain, r["first_seq"], r["last_seq"] = struct.unpack_from("<QQQQ", body)
        r["chain"] = f"{chain:016x}"


def records(directory):
    """(records, positions of damage)"""
    journal = Journal(directory)
    return list(journal.records()), journal.damage


def messages(directory):
    """What the records say together: {id: message}.  Free of order, copies are one."""
    found, damage = records(directory)
    parts, mails, over = {}, {}, {}
    for r in found:
        if r["type"] in ("body", "rcpt") and not r.get("damaged"):
            parts[r["id"], r["type"], r["number"]] = r
        elif r["type"] == "msg":
            old = mails.get(r["id"])
            if not old or r["position"] > old["position"]:
                r["queue"] = r["queue"] or bool(old and old["queue"])
                mails[r["id"]] = r
            elif r["queue"]:
                old["queue"] = True
            if r["parent"] != "0":
                settle(over, r["parent"], r["settles"])
        elif r["type"] == "state" and r["outcome"] in OVER:
            settle(over, r["id"], r["ranges"])
    return {ident: whole(m, parts, over.get(ident, set())) for ident, m in mails.items()}, damage


def settle(over, ident, ranges):
    for first, last in ranges:
        over.setdefault(ident, set()).update(range(first, last + 1))


def whole(m, parts, over):
    """Bodies and recipients in order; None where a part is missing."""
    bodies = [parts.get((m["id"], "body", i)) for i in range(m["body_parts"])]
    rcpts = [parts.get((m["id"], "rcpt", i)) for i in range(m["rcpt_parts"])]
    addresses = None
    if all(rcpts):
        addresses = [(p["first"] + i, a) for p in rcpts for i, a in enumerate(p["addresses"])]
    return {"id": m["id"], "sender": m["sender"], "arrival_us": m["arrival_us"], "size": m["size"], "queue": m["queue"],
            "rcpts": m["rcpts"], "recipients": addresses,
            "left": [n for n, _ in addresses or [] if n not in over] if m["queue"] else [],
            "body": b"".join(p["body"] for p in bodies) if all(bodies) else None}


def plain(value):
    """Bytes for JSON: text as it is, bodies in base64."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {k: base64.b64encode(v).decode() if k in ("body", "extra", "bytes") and isinstance(v, bytes) else plain(v)
                for k, v in value.items() if k not in ("raw", "queue")}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def main():
    only_records = "--records" in sys.argv
    directory = [a for a in sys.argv[1:] if not a.startswith("--")][0]
    found, damage = records(directory) if only_records else messages(directory)
    for r in found if only_records else found.values():
        print(json.dumps(plain(r)))
    if damage:
        print("damage at " + ", ".join(map(str, damage)), file=sys.stderr)
        sys.exit(99)


if __name__ == "__main__":
    main()
