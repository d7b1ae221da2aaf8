#include "bench/bench.h"

#include "core/check.h"
#include "core/log.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *what;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{"inject", "send mail by SMTP or QMTP as fast as it is taken, and measure the answers",
	 bench_inject},
	{"journal", "put mail into a journal made for it, and measure that and the disk",
	 bench_journal},
	{"pack", "compress mail by levels and dictionaries, and compare", bench_pack},
	{"sched", "put a queue into the scheduler alone, and measure memory and speed", bench_sched},
	{"sink", "take mail by SMTP and QMTP and throw it away, counted", bench_sink},
};

static int usage(FILE *to, int code)
{
	fputs("usage: quire-bench VERB [OPTIONS]\n", to);
	for (size_t i = 0; i < ARRAY_N(verbs); i++)
		fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].what);
	return code;
}

int main(int argc, char **argv)
{
	log_begin("quire-bench");
	if (argc < 2)
		return usage(stderr, 100);
	if (strcmp(argv[1], "--version") == 0)
		return puts("quire-bench " QUIRE_VERSION) < 0;
	if (strcmp(argv[1], "--help") == 0)
		return usage(stdout, 0);
	for (size_t i = 0; i < ARRAY_N(verbs); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	fprintf(stderr, "quire-bench: no such verb: %s\n", argv[1]);
	return usage(stderr, 100);
}
