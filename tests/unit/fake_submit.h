/* fake_submit - a home with a run/submit behind which a thread keeps what was queued: for tests
 * of the programs that hand in mail.  A message reads "F:sender;T:rcpt;...;|body". */
#ifndef TESTS_FAKE_SUBMIT_H
#define TESTS_FAKE_SUBMIT_H

#include "mail/submit.h"

#include "mail_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAKE_MESSAGE_MAX (64 * 1024 * 1024)
#define FAKE_WAIT_MS     400                      /* for what never comes */

struct fake_submit {
	char            home[64];
	int             listener;
	pthread_t       thread;
	pthread_mutex_t lock;
	const char     *answer;                   /* the whole netstring */
	bool            early;                    /* answer and close after the first bytes */
	unsigned        connections, queued;
	struct buf      last;                     /* the last message that was queued */
};

static inline void fake_word(struct buf *b, const char *what, struct span s)
{
	check(buf_fmt(b, "%s", what) && buf_add(b, s) && buf_add_byte(b, ';'));
}

/* true: the envelope's end was reached. */
static inline bool fake_hear(struct fake_submit *f, int fd, struct buf *body, struct buf *envelope)
{
	struct submit_talk t;
	static char        bytes[65536];

	submit_talk_init(&t);
	for (;;) {
		ssize_t     n = read(fd, bytes, sizeof(bytes));
		struct span in = span_of(bytes, n > 0 ? (size_t)n : 0), ret;

		if (n <= 0)
			return false;
		if (f->early)
			return true;
		for (enum submit_event e = SUBMIT_BODY; e != SUBMIT_MORE;) {
			e = submit_talk_take(&t, &in, &ret);
			if (e == SUBMIT_BODY)
				check(buf_add(body, ret));
			if (e == SUBMIT_SENDER)
				fake_word(envelope, "F:", ret);
			if (e == SUBMIT_RCPT)
				fake_word(envelope, "T:", ret);
			if (e == SUBMIT_END)
				return true;
			check(e != SUBMIT_BAD);   /* the clients check before they send */
		}
	}
}

static inline void fake_serve(struct fake_submit *f, int fd)
{
	struct buf body, envelope;

	buf_init(&body, FAKE_MESSAGE_MAX);
	buf_init(&envelope, FAKE_MESSAGE_MAX);
	if (fake_hear(f, fd, &body, &envelope)) {
		pthread_mutex_lock(&f->lock);
		if (!f->early && f->answer[strcspn(f->answer, ":") + 1] == 'K') {
			f->queued++;
			buf_clear(&f->last);
			check(buf_add(&f->last, buf_span(&envelope)) &&
			      buf_add_byte(&f->last, '|') && buf_add(&f->last, buf_span(&body)));
		}
		pthread_mutex_unlock(&f->lock);
		check(send(fd, f->answer, strlen(f->answer), MSG_NOSIGNAL) > 0 || errno == EPIPE);
	}
	close(fd);
	buf_free(&body);
	buf_free(&envelope);
}

static inline void *fake_thread(void *arg)
{
	struct fake_submit *f = arg;
	int                 fd;

	while ((fd = accept(f->listener, NULL, NULL)) >= 0) {
		f->connections++;
		fake_serve(f, fd);
	}
	return NULL;
}

static inline void fake_file(const struct fake_submit *f, const char *name, const char *text)
{
	char path[160];
	FILE *to;

	snprintf(path, sizeof(path), "%s/%s", f->home, name);
	to = fopen(path, "w");
	assert_non_null(to);
	assert_true(fputs(text, to) >= 0 && fclose(to) == 0);
}

static inline void fake_dir(const struct fake_submit *f, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", f->home, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static inline void fake_start(struct fake_submit *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	*f = (struct fake_submit){.home = "/tmp/quire-submit.XXXXXX", .answer = "4:K123,"};
	pthread_mutex_init(&f->lock, NULL);
	buf_init(&f->last, FAKE_MESSAGE_MAX);
	assert_non_null(mkdtemp(f->home));
	fake_dir(f, "run");
	fake_dir(f, "control");
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/run/submit", f->home);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(f->listener, 64), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, fake_thread, f), 0);
}

/* What connected before has been heard to its end when this returns. */
static inline void fake_stop(struct fake_submit *f)
{
	pid_t pid;
	int   status;

	shutdown(f->listener, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->listener);
	buf_free(&f->last);
	assert_int_equal(chdir("/"), 0);
	pid = fork();
	if (pid == 0) {
		execlp("rm", "rm", "-rf", f->home, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#endif
