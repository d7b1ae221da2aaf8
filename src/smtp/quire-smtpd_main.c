#include "smtp/smtpd.h"

int main(int argc, char **argv)
{
	static struct role role;

	role_begin(&role, "smtpd", "takes mail by SMTP and hands it to quire-journald", argc,
		   argv);
	smtpd_run(&role);
	return 0;
}
