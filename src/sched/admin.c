#include "sched/admin.h"

#include "core/pool.h"
#include "core/stream.h"
#include "sched/view.h"

#define LINE_MAX_N 4096  /* bytes of a question */
#define ASK_MS     10000 /* to say the question */
#define WORKING_MS 500   /* between two lines of progress */
#define ANSWER_MS  60000 /* without taking a byte of the answer */

struct admin {
	struct loop *loop;
	struct acceptor acceptor;
	struct plan *plan;
	unsigned askers;
	void (*status)(void *ctx, struct outbuf *o);
	const struct admin_compact *compact; /* NULL: nobody to ask */
	void *ctx;
};
struct asker {
	struct stream stream;
	struct admin *admin;
	struct buf line;
	struct view view;
	struct timer working;
	uint64_t ticket;
	bool asked, viewing;
};

static void refuse(struct asker *k, const char *why)
{
	out_fmt(stream_out(&k->stream), "{\"error\":\"%s\"}\n", why);
	stream_close(&k->stream);
}

static void go_on(struct asker *k)
{
	stream_wait(&k->stream, ANSWER_MS);
	if (!view_write(&k->view, stream_out(&k->stream)))
		stream_close(&k->stream);
}

static void say_compact(struct asker *k, const char *event)
{
	struct admin *a = k->admin;

	out_fmt(stream_out(&k->stream), "{\"event\":\"%s\"", event);
	a->compact->fields(a->ctx, stream_out(&k->stream));
	out_str(stream_out(&k->stream), "}\n");
}

static void on_working(struct timer *t)
{
	struct asker *k = owner_of(t, struct asker, working);
	struct admin *a = k->admin;

	stream_wait(&k->stream, ANSWER_MS);
	if (a->compact->is_over(a->ctx, k->ticket)) {
		say_compact(k, "done");
		stream_close(&k->stream);
		return;
	}
	say_compact(k, "working");
	timer_set(a->loop, &k->working, WORKING_MS);
}

static void compact(struct asker *k)
{
	struct admin *a = k->admin;

	if (!a->compact || !a->compact->ask(a->ctx, &k->ticket)) {
		refuse(k, "journald is not there");
		return;
	}
	say_compact(k, "begun");
	timer_set(a->loop, &k->working, WORKING_MS);
}

static void answer(struct asker *k, struct span line)
{
	struct admin *a = k->admin;

	line = span_trim_end(line, "\r\n");
	k->asked = true;
	if (span_eq(line, SPAN("status"))) {
		a->status(a->ctx, stream_out(&k->stream));
		out_byte(stream_out(&k->stream), '\n');
		stream_close(&k->stream);
	} else if (span_eq(line, SPAN("queue"))) {
		view_init(&k->view, a->plan);
		k->viewing = true;
		go_on(k);
	} else if (span_eq(line, SPAN("compact"))) {
		compact(k);
	} else {
		refuse(k, "unknown request");
	}
}

static void on_bytes(struct stream *st, struct span *in)
{
	struct asker *k = owner_of(st, struct asker, stream);
	size_t end = span_find(*in, '\n');

	if (k->asked) {
		span_cut(in, in->n); /* one question a connection */
		return;
	}
	if (!buf_add(&k->line, span_cut(in, end == SPAN_NPOS ? in->n : end + 1))) {
		k->asked = true;
		refuse(k, "request too long");
	} else if (end != SPAN_NPOS) {
		answer(k, buf_span(&k->line));
	}
}

/* Half closed behind the question: `printf status | socat` does that. */
static void on_eof(struct stream *st)
{
	struct asker *k = owner_of(st, struct asker, stream);

	if (!k->asked)
		stream_drop(st);
}

static void on_room(struct stream *st)
{
	struct asker *k = owner_of(st, struct asker, stream);

	if (k->viewing && !st->closing)
		go_on(k);
}

static void on_lost(struct stream *st, enum lost why, int error)
{
	struct asker *k = owner_of(st, struct asker, stream);

	if (k->viewing)
		view_fini(&k->view);
	timer_stop(k->admin->loop, &k->working);
	buf_free(&k->line);
	k->admin->askers--;
	mem_free(k);
}

static const struct stream_calls calls = {
	.bytes = on_bytes, .eof = on_eof, .room = on_room, .lost = on_lost};

static void take(void *ctx, int fd)
{
	struct admin *a = ctx;
	struct asker *k = mem_new(sizeof(*k));

	k->admin = a;
	buf_init(&k->line, LINE_MAX_N);
	timer_init(&k->working, on_working);
	stream_init(&k->stream, a->loop, &calls);
	stream_take(&k->stream, fd);
	stream_wait(&k->stream, ASK_MS);
	if (++a->askers <= VIEWS_MAX)
		return;
	k->asked = true;
	refuse(k, "too many questions at once");
}

struct admin *admin_new(struct loop *l, int listener, struct plan *p,
			void (*status)(void *, struct outbuf *),
			const struct admin_compact *compact_calls, void *ctx)
{
	struct admin *a = mem_new(sizeof(*a));

	*a = (struct admin){
		.loop = l, .plan = p, .status = status, .compact = compact_calls, .ctx = ctx};
	acceptor_open(&a->acceptor, l, listener, take, a);
	return a;
}

void admin_close(struct admin *a)
{
	if (a)
		acceptor_close(&a->acceptor);
}

bool admin_is_closed(const struct admin *a)
{
	return !a || (acceptor_is_gone(&a->acceptor) && a->askers == 0);
}

void admin_free(struct admin *a)
{
	check(admin_is_closed(a));
	mem_free(a);
}
