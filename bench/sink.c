/* sink - takes mail by SMTP and QMTP, counts it, throws it away.
 *
 * It never looks at an address.  On USR1, and on TERM before it ends, it prints one JSON
 * object: connections, messages, recipients and bytes taken by each protocol. */
#include "bench/bench.h"

#include "core/file.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/stream.h"
#include "mail/dots.h"
#include "mail/line.h"
#include "mail/netstring.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_MAX  4096
#define CLIENTS_MAX  50000
#define IDLE_MS      300000
#define PACKAGE_MAX  (1024u * 1024 * 1024)
#define LISTEN_QUEUE 4096

struct counts {
	uint64_t connections, messages, rcpts, bytes;
};
struct sink {
	struct loop *loop;
	struct pool clients;
	struct counts smtp, qmtp;
};
struct gate { /* one listening socket */
	struct sink *sink;
	struct op accept;
	int fd;
	bool qmtp;
};
struct client {
	struct sink *sink;
	struct stream stream;
	struct line line;
	struct dots_in dots;
	bool qmtp, data, open;
	struct netstring ns;
	uint8_t piece; /* QMTP: 0 message, 1 sender, 2 recipients */
	uint64_t rcpts, bytes;
	struct netstring inner;
};

/* ---- SMTP ---- */

static void count_bytes(void *ctx, struct span run)
{
	((struct client *)ctx)->bytes += run.n;
}

static void on_command(struct client *c, struct span line)
{
	struct outbuf *o = stream_out(&c->stream);
	struct span verb = span_word(&line);

	if (span_ieq(verb, SPAN("DATA"))) {
		out_str(o, "354 go\r\n");
		c->data = true;
		c->bytes = 0;
		dots_in_begin(&c->dots);
	} else if (span_ieq(verb, SPAN("EHLO"))) {
		out_str(o, "250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
	} else if (span_ieq(verb, SPAN("QUIT"))) {
		out_str(o, "221 bye\r\n");
		stream_close(&c->stream);
		c->open = false;
	} else {
		c->rcpts += span_ieq(verb, SPAN("RCPT"));
		out_str(o, "250 ok\r\n");
	}
}

static void take_smtp(struct client *c, struct span *in)
{
	struct counts *n = &c->sink->smtp;
	struct span line;

	while (c->open && in->n) {
		if (!c->data) {
			if (line_take(&c->line, in, &line) == LINE_OK)
				on_command(c, line);
		} else if (dots_in_take(&c->dots, in, count_bytes, c) == BODY_END) {
			c->data = false;
			n->messages++;
			n->rcpts += c->rcpts;
			n->bytes += c->bytes;
			c->rcpts = 0;
			out_str(stream_out(&c->stream), "250 ok\r\n");
		}
	}
}

/* ---- QMTP ---- */

static void take_rcpts(struct client *c, struct span bytes)
{
	struct span ignored;

	while (bytes.n)
		if (netstring_take(&c->inner, &bytes, &ignored) == NETSTRING_END) {
			c->rcpts++;
			netstring_init(&c->inner, PACKAGE_MAX, true);
		}
}

static void end_piece(struct client *c)
{
	struct counts *n = &c->sink->qmtp;

	netstring_init(&c->ns, PACKAGE_MAX, true);
	if (++c->piece < 3)
		return;
	for (uint64_t i = 0; i < c->rcpts; i++)
		out_str(stream_out(&c->stream), "3:Kok,");
	n->messages++;
	n->rcpts += c->rcpts;
	n->bytes += c->bytes;
	c->piece = 0;
	c->rcpts = c->bytes = 0;
}

static void take_qmtp(struct client *c, struct span *in)
{
	struct span bytes;

	for (;;) {
		switch (netstring_take(&c->ns, in, &bytes)) {
		case NETSTRING_MORE: return;
		case NETSTRING_LENGTH: break;
		case NETSTRING_BYTES:
			if (c->piece == 0)
				c->bytes += bytes.n;
			else if (c->piece == 2)
				take_rcpts(c, bytes);
			break;
		case NETSTRING_END: end_piece(c); break;
		case NETSTRING_LONG:
		case NETSTRING_BAD:
			c->open = false;
			stream_drop(&c->stream);
			return;
		}
	}
}

/* ---- connections ---- */

static void on_bytes(struct stream *st, struct span *in)
{
	struct client *c = owner_of(st, struct client, stream);

	stream_wait(st, IDLE_MS);
	if (c->open && c->qmtp)
		take_qmtp(c, in);
	else if (c->open)
		take_smtp(c, in);
	if (!c->open)
		*in = SPAN_NONE;
}

static void on_lost(struct stream *st, enum lost why, int error)
{
	struct client *c = owner_of(st, struct client, stream);

	line_fini(&c->line);
	pool_put(&c->sink->clients, c);
}

static const struct stream_calls calls = {.bytes = on_bytes, .lost = on_lost};

static void on_accept(struct op *op, int res, unsigned flags)
{
	struct gate *g = owner_of(op, struct gate, accept);
	struct sink *s = g->sink;
	struct client *c = res >= 0 ? pool_get(&s->clients) : NULL;

	if (!(flags & OP_MORE))
		loop_accept(s->loop, &g->accept, g->fd);
	if (!c) {
		if (res >= 0)
			close(res);
		return;
	}
	c->sink = s;
	c->qmtp = g->qmtp;
	c->open = true;
	line_init(&c->line, COMMAND_MAX);
	netstring_init(&c->ns, PACKAGE_MAX, true);
	netstring_init(&c->inner, PACKAGE_MAX, true);
	stream_init(&c->stream, s->loop, &calls);
	stream_take(&c->stream, res);
	stream_wait(&c->stream, IDLE_MS);
	(g->qmtp ? &s->qmtp : &s->smtp)->connections++;
	if (!g->qmtp)
		out_str(stream_out(&c->stream), "220 sink ESMTP\r\n");
}

/* The ring of a sink that just ended may hold its port for some moments. */
static bool bind_soon(int fd, const struct sockaddr *sa, socklen_t n)
{
	for (int i = 0; i < 50; i++) {
		if (bind(fd, sa, n) == 0)
			return true;
		if (errno != EADDRINUSE)
			return false;
		usleep(20000);
	}
	return false;
}

static bool open_gate(struct sink *s, const char *address, bool qmtp)
{
	struct gate *g = mem_new(sizeof *g);
	union sockany sa;
	socklen_t n;
	int on = 1;

	*g = (struct gate){.sink = s, .qmtp = qmtp};
	if (!bench_address(address, qmtp ? 209 : 25, &sa, &n))
		return false;
	g->fd = socket(sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (g->fd < 0 || setsockopt(g->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    !bind_soon(g->fd, &sa.any, n) || listen(g->fd, LISTEN_QUEUE) < 0) {
		fprintf(stderr, "quire-bench: %s: %s\n", address, strerror(errno));
		return false;
	}
	op_init(&g->accept, on_accept);
	loop_accept(s->loop, &g->accept, g->fd);
	return true;
}

static void print_counts(const char *name, const struct counts *c, const char *end)
{
	printf("\"%s\": {\"connections\": %llu, \"messages\": %llu, \"recipients\": %llu, "
	       "\"bytes\": %llu}%s",
	       name, (unsigned long long)c->connections, (unsigned long long)c->messages,
	       (unsigned long long)c->rcpts, (unsigned long long)c->bytes, end);
}

static void on_signal(void *ctx, int signo)
{
	struct sink *s = ctx;

	putchar('{');
	print_counts("smtp", &s->smtp, ", ");
	print_counts("qmtp", &s->qmtp, "}\n");
	fflush(stdout);
	if (signo != SIGUSR1)
		loop_stop(s->loop);
}

int bench_sink(int argc, char **argv)
{
	static const struct option options[] = {{"smtp", required_argument, NULL, 's'},
						{"qmtp", required_argument, NULL, 'q'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	static const int signos[] = {SIGTERM, SIGINT, SIGUSR1, 0};
	struct sink *s = mem_new(sizeof *s);
	bool any = false;
	int c;

	s->loop = loop_new(LOOP_AUTO, 1024);
	fd_raise_limit(CLIENTS_MAX);
	pool_init(&s->clients, sizeof(struct client), CLIENTS_MAX);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 's':
		case 'q':
			if (!open_gate(s, optarg, c == 'q'))
				return 111;
			any = true;
			break;
		case 'h':
			return puts("usage: quire-bench sink [--smtp ADDR:PORT]... [--qmtp "
				    "ADDR:PORT]...") < 0;
		default: return 100;
		}
	if (!any) {
		fprintf(stderr, "quire-bench: sink: --smtp or --qmtp is needed\n");
		return 100;
	}
	loop_signals(s->loop, signos, on_signal, s);
	puts("ready");
	fflush(stdout);
	loop_run(s->loop);
	return 0;
}
