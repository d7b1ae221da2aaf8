/* inject - N clients that send what they have as fast as it is taken (a closed loop).
 *
 * SMTP: one transaction at a time on each kept connection, MAIL, RCPT and DATA in one burst if
 * --pipeline, lock-step otherwise.  QMTP: up to --window packages out on each connection.  The
 * latency of a message runs from its last byte given to the socket's queue to its answer. */
#include "bench/bench.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/stream.h"
#include "mail/dots.h"
#include "mail/line.h"
#include "mail/netstring.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define WINDOW_MAX     256
#define ANSWER_MS      60000
#define REPLY_LINE_MAX 4096

enum smtp_wait { GREETING, EHLO, MAIL, RCPT, DATA, DOT };

struct run;
struct client {
	struct run *run;
	struct stream stream;
	struct line line;
	struct netstring ns;
	enum smtp_wait wait;
	const struct span *mail; /* SMTP: of the transaction that runs */
	uint32_t rcpts_left;
	uint64_t sent_us[WINDOW_MAX]; /* a ring: answers come in order */
	uint32_t out, head;
	uint32_t answers_left; /* of the oldest package */
	char letter;
	bool done;
};
struct run {
	struct loop *loop;
	struct mails mails;
	struct hist hist;
	union sockany to;
	socklen_t to_n;
	const char *sender, *rcpt_format;
	bool qmtp, pipeline;
	uint32_t clients, window, rcpts, live;
	uint64_t messages, begun, kept, refused, bytes, rcpt_next;
	uint64_t t0, t1;
	int code;
};

static void pump(struct client *c);

static void finish(struct client *c)
{
	if (!c->done) {
		c->done = true;
		stream_close(&c->stream);
	}
}

static void fail(struct client *c, const char *what, struct span text)
{
	if (c->run->code == 0)
		fprintf(stderr, "quire-bench: %s: %.*s\n", what, SPAN_ARG(text));
	c->run->code = 111;
	c->done = true;
	stream_drop(&c->stream);
}

static const struct span *next_mail(struct run *r)
{
	if (r->begun == r->messages)
		return NULL;
	return &r->mails.v[r->begun++ % r->mails.n];
}

static void answered(struct client *c, bool yes)
{
	struct run *r = c->run;

	hist_add(&r->hist, clock_mono_us() - c->sent_us[c->head]);
	c->head = (c->head + 1) % WINDOW_MAX;
	c->out--;
	if (yes)
		r->kept++;
	else
		r->refused++;
	r->t1 = clock_mono_us();
}

static void rcpt_text(struct run *r, char *dst, size_t cap)
{
	snprintf(dst, cap, r->rcpt_format, (unsigned long long)r->rcpt_next++);
}

/* ---- SMTP ---- */

static void say_rcpt(struct client *c)
{
	char to[512];

	rcpt_text(c->run, to, sizeof to);
	out_fmt(stream_out(&c->stream), "RCPT TO:<%s>\r\n", to);
}

static void begin_smtp(struct client *c)
{
	struct run *r = c->run;
	struct outbuf *o = stream_out(&c->stream);

	c->mail = next_mail(r);
	if (!c->mail) {
		out_str(o, "QUIT\r\n");
		finish(c);
		return;
	}
	out_fmt(o, "MAIL FROM:<%s>\r\n", r->sender);
	c->wait = MAIL;
	c->rcpts_left = r->rcpts;
	if (!r->pipeline)
		return;
	for (uint32_t i = 0; i < r->rcpts; i++)
		say_rcpt(c);
	out_str(o, "DATA\r\n");
}

static void say_body(struct client *c)
{
	struct outbuf *o = stream_out(&c->stream);
	struct dots_out d;

	dots_out_begin(&d);
	dots_out_put(&d, o, *c->mail);
	dots_out_end(&d, o);
	c->run->bytes += c->mail->n;
	c->sent_us[(c->head + c->out++) % WINDOW_MAX] = clock_mono_us();
	c->wait = DOT;
}

static void on_reply(struct client *c, struct span line)
{
	struct run *r = c->run;

	if (line.n >= 4 && line.p[3] == '-')
		return;
	switch (c->wait) {
	case GREETING:
		out_str(stream_out(&c->stream), "EHLO bench.example\r\n");
		c->wait = EHLO;
		return;
	case EHLO: pump(c); return;
	case MAIL:
		if (line.p[0] != '2')
			return fail(c, "MAIL", line);
		c->wait = RCPT;
		if (!r->pipeline)
			say_rcpt(c);
		return;
	case RCPT:
		if (line.p[0] != '2')
			return fail(c, "RCPT", line);
		if (--c->rcpts_left == 0) {
			c->wait = DATA;
			if (!r->pipeline)
				out_str(stream_out(&c->stream), "DATA\r\n");
		} else if (!r->pipeline) {
			say_rcpt(c);
		}
		return;
	case DATA:
		if (line.p[0] != '3')
			return fail(c, "DATA", line);
		say_body(c);
		return;
	case DOT:
		answered(c, line.p[0] == '2');
		pump(c);
		return;
	}
	unreachable();
}

static void take_smtp(struct client *c, struct span *in)
{
	struct span line;

	while (!c->done) {
		switch (line_take(&c->line, in, &line)) {
		case LINE_MORE: return;
		case LINE_LONG: return fail(c, "reply", SPAN("too long"));
		case LINE_OK:
			if (line.n < 3)
				return fail(c, "reply", line);
			on_reply(c, line);
		}
	}
	*in = SPAN_NONE;
}

/* ---- QMTP ---- */

static void begin_qmtp(struct client *c)
{
	struct run *r = c->run;
	const struct span *m = next_mail(r);
	struct outbuf *o = stream_out(&c->stream);
	char to[512];
	struct buf list;

	if (!m)
		return;
	out_fmt(o, "%zu:\n", m->n + 1);
	out_span(o, *m);
	out_byte(o, ',');
	netstring_put(o, span_str(r->sender));
	buf_init(&list, 1 << 20);
	for (uint32_t i = 0; i < r->rcpts; i++) {
		rcpt_text(r, to, sizeof to);
		check(netstring_add(&list, span_str(to)));
	}
	netstring_put(o, buf_span(&list));
	buf_free(&list);
	r->bytes += m->n;
	c->sent_us[(c->head + c->out++) % WINDOW_MAX] = clock_mono_us();
}

static void take_qmtp(struct client *c, struct span *in)
{
	struct span bytes;

	while (!c->done) {
		switch (netstring_take(&c->ns, in, &bytes)) {
		case NETSTRING_MORE: return;
		case NETSTRING_LENGTH: c->letter = 0; break;
		case NETSTRING_BYTES:
			if (!c->letter && bytes.n)
				c->letter = bytes.p[0];
			break;
		case NETSTRING_END:
			netstring_init(&c->ns, REPLY_LINE_MAX, false);
			if (c->answers_left == 0)
				c->answers_left = c->run->rcpts;
			if (--c->answers_left == 0) {
				answered(c, c->letter == 'K');
				pump(c);
			}
			break;
		case NETSTRING_LONG:
		case NETSTRING_BAD: return fail(c, "QMTP answer", SPAN("not a netstring"));
		}
	}
	*in = SPAN_NONE;
}

/* ---- the driver ---- */

static void pump(struct client *c)
{
	struct run *r = c->run;

	if (!r->qmtp) {
		begin_smtp(c);
		return;
	}
	while (c->out < r->window && r->begun < r->messages && !outbuf_full(&c->stream.out))
		begin_qmtp(c);
	if (c->out == 0)
		finish(c);
}

static void on_connected(struct stream *st)
{
	struct client *c = owner_of(st, struct client, stream);

	if (c->run->qmtp)
		pump(c);
}

static void on_bytes(struct stream *st, struct span *in)
{
	struct client *c = owner_of(st, struct client, stream);

	stream_wait(st, ANSWER_MS);
	if (c->run->qmtp)
		take_qmtp(c, in);
	else
		take_smtp(c, in);
}

static void on_room(struct stream *st)
{
	struct client *c = owner_of(st, struct client, stream);

	if (c->run->qmtp && !c->done)
		pump(c);
}

static void on_lost(struct stream *st, enum lost why, int error)
{
	struct client *c = owner_of(st, struct client, stream);
	struct run *r = c->run;

	if (!c->done)
		fail(c, "connection",
		     span_str(error                  ? strerror(error)
			      : why == LOST_DEADLINE ? "no answer"
						     : "closed by the server"));
	if (--r->live == 0)
		loop_stop(r->loop);
}

static const struct stream_calls calls = {
	.connected = on_connected, .bytes = on_bytes, .room = on_room, .lost = on_lost};

static void print_result(const struct run *r)
{
	double seconds = (double)(r->t1 - r->t0) / 1e6;
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	printf("{\"protocol\": \"%s\", \"clients\": %u, \"messages\": %llu, \"kept\": %llu, "
	       "\"refused\": %llu, \"bytes\": %llu, "
	       "\"seconds\": %.6f, \"per_second\": %.1f, \"p50_us\": %llu, \"p99_us\": %llu, "
	       "\"p999_us\": %llu, \"max_us\": %llu, "
	       "\"own_cpu_seconds\": %.3f}\n",
	       r->qmtp ? "qmtp" : "smtp", r->clients, (unsigned long long)r->messages,
	       (unsigned long long)r->kept, (unsigned long long)r->refused,
	       (unsigned long long)r->bytes, seconds,
	       seconds > 0 ? (double)r->kept / seconds : 0,
	       (unsigned long long)hist_at(&r->hist, 0.5),
	       (unsigned long long)hist_at(&r->hist, 0.99),
	       (unsigned long long)hist_at(&r->hist, 0.999), (unsigned long long)r->hist.max,
	       (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

static void run(struct run *r)
{
	struct client *v = mem_new(r->clients * sizeof *v);

	r->loop = loop_new(LOOP_AUTO, 1024);
	clock_refresh();
	r->t0 = r->t1 = clock_mono_us();
	for (uint32_t i = 0; i < r->clients; i++) {
		struct client *c = &v[i];

		c->run = r;
		line_init(&c->line, REPLY_LINE_MAX);
		netstring_init(&c->ns, REPLY_LINE_MAX, false);
		stream_init(&c->stream, r->loop, &calls);
		stream_connect(&c->stream, &r->to.any, r->to_n, NULL);
		stream_wait(&c->stream, ANSWER_MS);
		r->live++;
	}
	loop_run(r->loop);
}

static const char help[] =
	"usage: quire-bench inject --to ADDR:PORT [--qmtp] [--clients N] [--messages N] "
	"[--size BYTES | --mails DIR]\n"
	"         [--rcpts N] [--rcpt FORMAT] [--sender ADDR] [--window N] [--lockstep]\n"
	"FORMAT may hold one %llu, a number that grows.  The result is one JSON object.";

/* One %llu at the most, and no other conversion: the format comes from a person. */
static bool format_is_safe(const char *f)
{
	const char *p = strchr(f, '%');

	return !p || (strncmp(p, "%llu", 4) == 0 && !strchr(p + 1, '%'));
}

int bench_inject(int argc, char **argv)
{
	static const struct option options[] = {{"to", required_argument, NULL, 't'},
						{"qmtp", no_argument, NULL, 'q'},
						{"clients", required_argument, NULL, 'c'},
						{"messages", required_argument, NULL, 'm'},
						{"size", required_argument, NULL, 's'},
						{"mails", required_argument, NULL, 'd'},
						{"rcpts", required_argument, NULL, 'r'},
						{"rcpt", required_argument, NULL, 'R'},
						{"sender", required_argument, NULL, 'S'},
						{"window", required_argument, NULL, 'w'},
						{"lockstep", no_argument, NULL, 'l'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	static struct run r; /* the histogram is large for a stack */
	const char *to = NULL, *dir = NULL;
	uint64_t clients = 50, window = 64, rcpts = 1, size = 4096;
	bool ok = true;
	int c;

	r = (struct run){.sender = "sender@bench.example",
			 .rcpt_format = "rcpt@bench.example",
			 .pipeline = true,
			 .messages = 10000};
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 't': to = optarg; break;
		case 'q': r.qmtp = true; break;
		case 'c': ok &= span_u64(span_str(optarg), 100000, &clients) && clients; break;
		case 'm': ok &= span_u64(span_str(optarg), UINT32_MAX, &r.messages); break;
		case 's': ok &= span_u64(span_str(optarg), 64 << 20, &size); break;
		case 'd': dir = optarg; break;
		case 'r': ok &= span_u64(span_str(optarg), 10000, &rcpts) && rcpts; break;
		case 'R': r.rcpt_format = optarg; break;
		case 'S': r.sender = optarg; break;
		case 'w':
			ok &= span_u64(span_str(optarg), WINDOW_MAX, &window) && window;
			break;
		case 'l': r.pipeline = false; break;
		case 'h': return puts(help) < 0;
		default: return 100;
		}
	if (!ok || !to || !format_is_safe(r.rcpt_format)) {
		fprintf(stderr, "%s\n", help);
		return 100;
	}
	r.clients = (uint32_t)clients;
	r.window = (uint32_t)window;
	r.rcpts = (uint32_t)rcpts;
	if (!bench_address(to, r.qmtp ? 209 : 25, &r.to, &r.to_n))
		return 100;
	if (!dir)
		mails_make(&r.mails, size);
	else if (!mails_load(&r.mails, dir))
		return 111;
	run(&r);
	print_result(&r);
	return r.code;
}
