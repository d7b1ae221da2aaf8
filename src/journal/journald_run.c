/* The process around journald: what start gave it, the sandbox, the loop. */
#include "journal/journald.h"

#include "core/file.h"
#include "core/log.h"
#include "core/sandbox.h"
#include "journal/door.h"
#include "journal/store.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#define RECV_BUFS   64                            /* for run/submit: 1 MiB */
#define DESCRIPTORS 4096                          /* door.h's guests, segments, peers */

static void on_role_peer(struct role *r, uint32_t role, uint32_t index, int fd)
{
	journald_peer(r->ctx, role, index, fd);
}

static void on_role_drain(struct role *r)
{
	journald_drain(r->ctx);
}

/* "BYTES DAYS", both needed; control_check.c has refused anything else. */
static struct space_keep keep_of(const struct control *c)
{
	struct span       line = control_setting_line(c, "journalkeep");
	size_t            blank = span_find(line, ' ');
	struct span       bytes = span_cut(&line, blank == SPAN_NPOS ? line.n : blank);
	struct space_keep k = {0};

	if (!span_u64(bytes, UINT64_MAX, &k.bytes) ||
	    !span_u64(span_trim(line), UINT32_MAX, &k.days))
		return (struct space_keep){0};
	return k;
}

/* A HUP: an administrator has looked. */
static void on_role_control(struct role *r)
{
	struct space_keep k = keep_of(r->control);

	journald_control(r->ctx, control_setting(r->control, "compactrate"), &k);
	store_latch(journald_store(r->ctx), false);
}

static const struct role_calls role_calls = {
	.peer = on_role_peer,
	.control = on_role_control,
	.drain = on_role_drain,
};

static void on_drained(void *ctx)
{
	loop_stop(ctx);
}

static uint32_t alias_uid(const struct role *r)
{
	struct passwd *pw = r->privileged ? getpwnam("alias") : NULL;

	return pw ? (uint32_t)pw->pw_uid : DOOR_NO_ALIAS;
}

static int submit_listener(const struct role *r)
{
	for (unsigned i = 0; i < r->listeners_n; i++)
		if (r->listeners[i].kind == LISTEN_SUBMIT)
			return r->listeners[i].fd;
	return -1;
}

static void enter_sandbox(const struct role *r)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/journal/%u", r->home, r->shard);
	sandbox_enter(SANDBOX_JOURNAL, path);
}

void journald_run(struct role *r)
{
	struct journald_options o = {
		.dir_fd = r->files[FILE_JOURNAL_DIR],
		.submit_fd = submit_listener(r),
		.segment_size = control_setting(r->control, "segmentsize"),
		.ring_size = control_setting(r->control, "ringsize"),
		.zstd_level = (int)(int64_t)control_setting(r->control, "zstdlevel"),
		.pool = (uint32_t)control_setting(r->control, "journalpool"),
		.reserve = (uint32_t)control_setting(r->control, "journalreserve"),
		.latched = r->latched,
		.compact_rate = control_setting(r->control, "compactrate"),
		.keep = keep_of(r->control),
		.shard = r->shard,
		.alias_uid = alias_uid(r),
		.drained = on_drained,
	};
	struct journald *j;
	struct buf       why;
	bool             for_good;

	if (o.dir_fd < 0)
		role_trouble(r, "quire-start sent no journal directory");
	if (!fd_raise_limit(DESCRIPTORS))
		log_note("trouble", "few descriptors", NULL);
	enter_sandbox(r);
	buf_init(&why, 4096);
	o.loop = loop_new(LOOP_AUTO, RECV_BUFS);
	o.ctx = o.loop;
	o.disk = disk_real_new(o.loop, o.dir_fd);
	o.dict = dict_load(r->files[FILE_DICT]);
	j = journald_new(&o, &why, &for_good);
	if (!j && for_good)
		role_trouble(r, "%s/journal/%u: %.*s", r->home, r->shard,
			     SPAN_ARG(buf_span(&why)));
	if (!j)
		die(111, "%s/journal/%u: %.*s", r->home, r->shard, SPAN_ARG(buf_span(&why)));
	role_watch(r, o.loop, &role_calls, j);
	for (unsigned i = 0; i < r->peers_n; i++)
		journald_peer(j, r->peers[i].role, r->peers[i].index, r->peers[i].fd);
	role_ready(r);
	loop_run(o.loop);
	log_flush();
	_exit(0);                                 /* all that counts is on the disk */
}
