#include "qmtp/qmtpd.h"

int main(int argc, char **argv)
{
	static struct role role;

	role_begin(&role, "qmtpd", "takes mail by QMTP and hands it to quire-journald", argc,
		   argv);
	qmtpd_run(&role);
	return 0;
}
