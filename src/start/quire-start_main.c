#include "core/log.h"
#include "start/start.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	static const struct option options[] = {{"home", required_argument, NULL, 'H'},
						{"ready-fd", required_argument, NULL, 'r'},
						{"help", no_argument, NULL, 'h'},
						{"version", no_argument, NULL, 'v'},
						{0}};
	const char *home = getenv("QUIRE_HOME");
	struct start_options o = {.home = home ? home : "/var/qmail", .ready_fd = -1};
	uint64_t fd;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'H': o.home = optarg; break;
		case 'r':
			if (!span_u64(span_str(optarg), 1 << 20, &fd))
				return 100;
			o.ready_fd = (int)fd;
			break;
		case 'v': puts("quire-start " QUIRE_VERSION); return 0;
		case 'h':
			puts("usage: quire-start [--home DIR] [--ready-fd N]\n"
			     "Runs the daemons of one home until TERM; quire start is the "
			     "friendly way to it.");
			return 0;
		default: return 100;
		}
	if (optind < argc) {
		fprintf(stderr, "quire-start: no arguments are taken: %s\n", argv[optind]);
		return 100;
	}
	log_begin("quire-start");
	return start_run(&o);
}
