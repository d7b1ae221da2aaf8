/* control_known - every file of control/ that means something to us.
 *
 * qmail's own come first, with qmail's defaults (docs/qmail.md 1.4); ours follow, each with the
 * reason of its limits. */
#include "mail/control.h"

#define M (INT64_C(1) << 20)
#define G (INT64_C(1) << 30)
#define DAY INT64_C(86400)

#define LINE(name_, text_, or_me_, readers_)                                                   \
	{                                                                                      \
		.name = name_, .kind = SETTING_LINE, .text = text_, .or_me = or_me_,           \
		.readers = readers_                                                            \
	}
#define INT(name_, fallback_, min_, max_, readers_)                                          \
	{.name = name_, .kind = SETTING_INT, .fallback = fallback_, .min = min_, .max = max_, \
	 .readers = readers_}
#define LIST(name_, or_me_, readers_) \
	{.name = name_, .kind = SETTING_LIST, .or_me = or_me_, .readers = readers_}
#define MAP(name_, readers_) {.name = name_, .kind = SETTING_MAP, .readers = readers_}
#define OUR_LINE(name_, text_, readers_) \
	{.name = name_, .kind = SETTING_LINE, .ours = true, .text = text_, .readers = readers_}
#define OUR_INT(name_, fallback_, min_, max_, readers_)                                    \
	{.name = name_, .kind = SETTING_INT, .ours = true, .fallback = fallback_, .min = min_, \
	 .max = max_, .readers = readers_}
#define OUR_LIST(name_, readers_) \
	{.name = name_, .kind = SETTING_LIST, .ours = true, .readers = readers_}
#define OUR_MAP(name_, readers_) \
	{.name = name_, .kind = SETTING_MAP, .ours = true, .readers = readers_}

const struct setting settings[] = {
	LINE("me", NULL, false, "everybody"),
	LIST("badmailfrom", false, "smtpd"),
	LINE("bouncefrom", "MAILER-DAEMON", false, "sched"),
	LINE("bouncehost", "bouncehost", true, "sched"),
	INT("concurrencylocal", 10, 0, M, "sched"), /* 0 holds deliveries */
	INT("concurrencyremote", 20, 0, M, "sched"),
	INT("databytes", 0, 0, INT64_MAX, "smtpd qmtpd"), /* 0: no limit */
	LINE("defaultdomain", "defaultdomain", true, "qmail-inject sendmail"),
	LINE("defaulthost", "defaulthost", true, "qmail-inject sendmail"),
	LINE("doublebouncehost", "doublebouncehost", true, "sched"),
	LINE("doublebounceto", "postmaster", false, "sched"),
	LINE("envnoathost", "envnoathost", true, "sched"),
	LINE("helohost", NULL, true, "remote"),
	LINE("idhost", "idhost", true, "qmail-inject sendmail"),
	LINE("localiphost", NULL, true, "smtpd"),
	LIST("locals", true, "sched"),
	LIST("morercpthosts", false, "qmail-newmrh"),
	LIST("percenthack", false, "sched"),
	LINE("plusdomain", "plusdomain", true, "qmail-inject sendmail"),
	LIST("qmqpservers", false, "qmail-qmqpc"),
	INT("queuelifetime", 604800, 0, 3650 * DAY, "sched"),
	LIST("rcpthosts", false, "smtpd qmtpd"),
	LINE("smtpgreeting", NULL, true, "smtpd"),
	MAP("smtproutes", "remote"),
	INT("timeoutconnect", 60, 1, DAY, "remote"), /* seconds; below 1 counts as 1 */
	INT("timeoutremote", 1200, 1, DAY, "remote"),
	INT("timeoutsmtpd", 1200, 1, DAY, "smtpd"),
	MAP("virtualdomains", "sched"),

	OUR_LIST("smtplisten", "start remote"), /* ADDR:PORT */
	OUR_LIST("qmtplisten", "start remote"),
	OUR_LIST("relayclients", "smtpd qmtpd"), /* NET or NET:SUFFIX */
	OUR_LIST("resolvers", "remote"),         /* ADDR[:PORT] */
	OUR_MAP("qmtproutes", "remote"),
	OUR_MAP("destinations", "sched"),        /* CONNECTIONS:RATE:RECIPIENTS */
	OUR_LINE("defaultdelivery", "./Maildir/", "lspawn"),
	/* RFC 5321 4.5.3.1.8 asks for 100; more saves copies of the body, each costs 1 KB at
	   most. */
	OUR_INT("maxrcpt", 1000, 1, 16 * M, "smtpd qmtpd"),
	OUR_INT("concurrencyincoming", 10000, 1, M, "smtpd qmtpd"),
	/* A tenth of all, so that one address cannot keep the others out; 0: no limit. */
	OUR_INT("concurrencyperip", 1000, 0, M, "smtpd qmtpd"),
	/* Milliseconds until an outcome must be durable: what a crash can deliver twice. */
	OUR_INT("outcomedelay", 50, 0, 10000, "sched"),
	/* Seconds from a message's first failure to its bounce; 0: when nothing is left to try. */
	OUR_INT("bouncewait", 0, 0, 3650 * DAY, "sched"),
	/* qmail: its lines; json: the same events as JSON, one a line. */
	OUR_LINE("logformat", "qmail", "sched"),
	/* Waits between tries, one a line, the last one again and again; none: qmail's. */
	OUR_LIST("retryschedule", "sched"),
	/* Bytes the queue in memory may take, 0: a share of the machine's. */
	OUR_INT("queuememory", 0, 0, INT64_MAX, "sched"),
	/* Powers of two: a position is split into segment and offset by a shift.  The smallest
	 * that hold the largest record in one batch. */
	OUR_INT("segmentsize", 64 * M, 8 * M, G, "journald"),
	OUR_INT("ringsize", 16 * M, 8 * M, G, "journald"),
	/* Segments that new mail never takes: for outcomes, bounces and compaction.  Fewer than
	 * four can't serve all of them. */
	OUR_INT("journalreserve", 4, 4, 1024, "journald"),
	/* Segments that are kept ready beyond those: a burst needs not wait for one. */
	OUR_INT("journalpool", 2, 0, 1024, "journald"),
	/* Bytes read and written in a second while segments are compacted, 0: no limit.  A third
	 * of what a slow disk does; where space is short there is none. */
	OUR_INT("compactrate", 32 * M, 0, INT64_MAX, "journald"),
	/* BYTES DAYS: segments that left the queue are kept until either is passed. */
	OUR_LINE("journalkeep", "", "journald"),
	/* Above level 1 the ratio of mail hardly grows, and the time a message takes doubles.
	 */
	OUR_INT("zstdlevel", 1, -7, 19, "smtpd qmtpd journald"),
	/* ROLE_PROCS_MAX: two generations of a front end share the columns of the counters. */
	OUR_INT("smtpprocs", 1, 1, 16, "start"),
	OUR_INT("qmtpprocs", 1, 1, 16, "start"),
	OUR_INT("bodyprocs", 1, 1, 16, "start"),
	OUR_INT("remoteprocs", 1, 1, 16, "start"),
	OUR_INT("shards", 1, 1, 1, "start"),
	/* Bytes of the failed message that a notice returns, 0: all.  A limit keeps a flood of
	 * large failures within the segments reserved for bounces. */
	OUR_INT("bouncemaxbytes", M, 0, INT64_MAX, "sched body"),
};
const size_t settings_n = ARRAY_N(settings);

const struct setting *setting_find(struct span name)
{
	for (size_t i = 0; i < settings_n; i++)
		if (span_eq(name, span_str(settings[i].name)))
			return &settings[i];
	return NULL;
}

/* Who makes segments smaller and says nothing of the ring means a ring that fits. */
static uint64_t unset_value(const struct control *c, const struct setting *s)
{
	uint64_t value = (uint64_t)s->fallback;

	if (!span_eq(span_str(s->name), SPAN("ringsize")))
		return value;
	uint64_t segment = control_setting(c, "segmentsize");
	return segment < value ? segment : value;
}

uint64_t control_setting(const struct control *c, const char *name)
{
	const struct setting *s = setting_find(span_str(name));
	struct span line;
	uint64_t size;

	check(s && s->kind == SETTING_INT);
	line = control_line(c, name, false, NULL);
	if (s->min < 0 && span_skip(&line, SPAN("-")) &&
	    span_u64(line, (uint64_t)-s->min, &size))
		return (uint64_t)-(int64_t)size;

	size = control_int(c, name, (uint64_t)s->fallback);
	if (!control_has(c, name))
		return unset_value(c, s);
	if (size > INT64_MAX || (int64_t)size > s->max)
		return (uint64_t)s->max;
	return (int64_t)size < s->min ? (uint64_t)s->min : size;
}

struct span control_setting_line(const struct control *c, const char *name)
{
	const struct setting *s = setting_find(span_str(name));

	check(s && s->kind == SETTING_LINE);
	return control_line(c, name, s->or_me, s->text);
}
