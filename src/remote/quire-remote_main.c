#include "remote/remote.h"

int main(int argc, char **argv)
{
	static struct role role;

	role_begin(&role, "remote", "delivers mail by SMTP and QMTP for quire-sched", argc,
		   argv);
	remote_run(&role);
	return 0;
}
