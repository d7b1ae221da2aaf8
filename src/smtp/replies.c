#include "smtp/replies.h"

#include <inttypes.h>

REPLY(reply_sender_ok,        250, "2.1.0", "sender ok");
REPLY(reply_rcpt_ok,          250, "2.1.5", "recipient ok");
REPLY(reply_go_ahead,         354, "",      "go ahead, end with a dot on a line of its own");
REPLY(reply_flushed,          250, "2.0.0", "flushed");
REPLY(reply_noop,             250, "2.0.0", "ok");
REPLY(reply_vrfy,             252, "2.5.0", "can't say, but send it and I'll try");
REPLY(reply_help,             214, "2.0.0", "quire: see quire-smtpd(8)");

REPLY(reply_unknown_verb,     502, "5.5.1", "no such command here");
REPLY(reply_line_too_long,    500, "5.5.2", "line too long");
REPLY(reply_bad_bytes,        500, "5.5.2", "a command can't hold NUL or CR");
REPLY(reply_mail_first,       503, "5.5.1", "MAIL first");
REPLY(reply_rcpt_first,       503, "5.5.1", "RCPT first");
REPLY(reply_mail_syntax,      501, "5.5.4", "say MAIL FROM:<address>");
REPLY(reply_rcpt_syntax,      501, "5.5.4", "say RCPT TO:<address>");
REPLY(reply_address_too_long, 555, "5.5.4", "address too long");
REPLY(reply_param_unknown,    555, "5.5.4", "MAIL parameter unknown");
REPLY(reply_param_value,      501, "5.5.4", "MAIL parameter with a bad value");
REPLY(reply_param_twice,      501, "5.5.4", "MAIL parameter given twice");
REPLY(reply_rcpt_param,       555, "5.5.4", "RCPT takes no parameters");

REPLY(reply_sender_refused,   553, "5.7.1", "this sender is not welcome (badmailfrom)");
REPLY(reply_relay_denied,     553, "5.7.1", "no mail for that domain here (rcpthosts)");
REPLY(reply_too_many_rcpts,   452, "4.5.3", "too many recipients for one message");
REPLY(reply_too_large,        552, "5.3.4", "message too large (databytes)");
REPLY(reply_looping,          554, "5.4.6", "too many hops, this message is looping");

REPLY(reply_not_now,          451, "4.3.0", "can't take mail at the moment, try later");
REPLY(reply_later,            451, "4.3.0", "message not stored, try later");
REPLY(reply_disk_full,        452, "4.3.1", "message not stored, disk full");
REPLY(reply_much_open,        452, "4.3.1", "message not stored, too much is under way");
REPLY(reply_no_memory,        452, "4.3.1", "too many transactions are open, try later");

REPLY(reply_bare_lf,          554, "5.6.0", "bare LF in the message: lines end in CR LF");
REPLY(reply_too_many_errors,  421, "4.7.0", "too many errors");
REPLY(reply_timeout,          451, "4.4.2", "timeout");
REPLY(reply_going_down,       421, "4.3.2", "going down for a moment, come again");
REPLY(reply_busy,             421, "4.3.2", "too many connections, come again later");
REPLY(reply_busy_with_you,    421, "4.7.0", "too many connections from your address");

const struct reply *const smtp_replies[] = {
	&reply_sender_ok,
	&reply_rcpt_ok,
	&reply_go_ahead,
	&reply_flushed,
	&reply_noop,
	&reply_vrfy,
	&reply_help,
	&reply_unknown_verb,
	&reply_line_too_long,
	&reply_bad_bytes,
	&reply_mail_first,
	&reply_rcpt_first,
	&reply_mail_syntax,
	&reply_rcpt_syntax,
	&reply_address_too_long,
	&reply_param_unknown,
	&reply_param_value,
	&reply_param_twice,
	&reply_rcpt_param,
	&reply_sender_refused,
	&reply_relay_denied,
	&reply_too_many_rcpts,
	&reply_too_large,
	&reply_looping,
	&reply_not_now,
	&reply_later,
	&reply_disk_full,
	&reply_much_open,
	&reply_no_memory,
	&reply_bare_lf,
	&reply_too_many_errors,
	&reply_timeout,
	&reply_going_down,
	&reply_busy,
	&reply_busy_with_you,
};
const unsigned smtp_replies_n = ARRAY_N(smtp_replies);

static void decimal(struct outbuf *out, uint64_t n)
{
	char  digits[20], *p = digits + sizeof(digits);

	do {
		*--p = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	out_span(out, span_of(p, (size_t)(digits + sizeof(digits) - p)));
}

void reply_say(struct outbuf *out, const struct reply *r)
{
	decimal(out, r->code);
	out_byte(out, ' ');
	if (r->enhanced[0]) {
		out_str(out, r->enhanced);
		out_byte(out, ' ');
	}
	out_str(out, r->text);
	out_span(out, SPAN("\r\n"));
}

void reply_greeting(struct outbuf *out, struct span greeting)
{
	out_span(out, SPAN("220 "));
	out_span(out, greeting);
	out_span(out, SPAN(" ESMTP\r\n"));
}

void reply_helo(struct outbuf *out, struct span greeting)
{
	out_span(out, SPAN("250 "));
	out_span(out, greeting);
	out_span(out, SPAN("\r\n"));
}

/* SIZE without a number: we have no fixed limit (RFC 1870 4). */
void reply_ehlo(struct outbuf *out, struct span greeting, uint64_t databytes)
{
	out_span(out, SPAN("250-"));
	out_span(out, greeting);
	out_span(out, SPAN("\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE"));
	if (databytes > 0)
		out_fmt(out, " %" PRIu64, databytes);
	out_span(out, SPAN("\r\n250 ENHANCEDSTATUSCODES\r\n"));
}

void reply_bye(struct outbuf *out, struct span greeting)
{
	out_span(out, SPAN("221 2.0.0 "));
	out_span(out, greeting);
	out_span(out, SPAN("\r\n"));
}

void reply_accepted(struct outbuf *out, uint64_t wall, uint64_t id)
{
	out_span(out, SPAN("250 2.0.0 ok "));
	decimal(out, wall);
	out_span(out, SPAN(" qp "));
	decimal(out, id);
	out_span(out, SPAN("\r\n"));
}
