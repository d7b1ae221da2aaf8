#include "smtp/params.h"

#include "core/check.h"
#include "smtp/replies.h"

#define SIZE_DIGITS_MAX 20                        /* RFC 1870 3 */

static const struct reply *on_size(struct params *p, struct span value)
{
	if (p->has_size)
		return &reply_param_twice;
	if (value.n > SIZE_DIGITS_MAX || !span_u64(value, UINT64_MAX, &p->size))
		return &reply_param_value;
	p->has_size = true;
	return NULL;
}

static const struct reply *on_body(struct params *p, struct span value)
{
	if (p->body != PARAMS_BODY_NONE)
		return &reply_param_twice;
	if (span_ieq(value, SPAN("7BIT")))
		p->body = PARAMS_BODY_7BIT;
	else if (span_ieq(value, SPAN("8BITMIME")))
		p->body = PARAMS_BODY_8BITMIME;
	else
		return &reply_param_value;
	return NULL;
}

static const struct {
	struct span name;
	const struct reply *(*on)(struct params *p, struct span value);
} known[] = {
	{{"SIZE", 4}, on_size},
	{{"BODY", 4}, on_body},
};

static const struct reply *one(struct params *p, struct span param)
{
	size_t      eq = span_find(param, '=');
	struct span name = span_until(param, eq),
		    value = span_from(param, eq == SPAN_NPOS ? eq : eq + 1);

	for (size_t i = 0; i < ARRAY_N(known); i++)
		if (span_ieq(name, known[i].name))
			return known[i].on(p, value);
	return &reply_param_unknown;
}

const struct reply *params_parse(struct span text, struct params *ret)
{
	*ret = (struct params){0};
	text = span_trim(text);
	while (text.n > 0) {
		const struct reply *no = one(ret, span_word(&text));

		if (no)
			return no;
	}
	return NULL;
}
