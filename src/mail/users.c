/* users - see the header.  users/cdb is asked for the whole name, then for each of its
 * beginnings that can be a key; the password file for the name, then for what stands before
 * each '-'. */
#include "mail/users.h"

#include "core/pool.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCAL_MAX   1024                          /* above ADDR_MAX: nothing longer can come */
#define ACCOUNT_MAX 32 /* a name of so many bytes is never asked for */
#define BREAK       '-'

/* user NUL uid NUL gid NUL home NUL dash NUL ext, as users_compile() and qmail-newu write it.
 */
static bool take_field(struct span *data, struct span *ret)
{
	size_t nul = span_find(*data, '\0');

	if (nul == SPAN_NPOS)
		return false;
	*ret = span_cut(data, nul);
	span_cut(data, 1);
	return true;
}

static bool take_id(struct span *data, uint32_t *ret)
{
	struct span text;
	uint64_t id;

	if (!take_field(data, &text) || !span_u64(text, UINT32_MAX, &id))
		return false;
	*ret = (uint32_t)id;
	return true;
}

static bool join(struct arena *a, struct span x, struct span y, struct span *ret)
{
	char *p = arena_alloc(a, x.n + y.n + 1);

	if (!p)
		return false;
	if (x.n > 0)
		memcpy(p, x.p, x.n);
	if (y.n > 0)
		memcpy(p + x.n, y.p, y.n);
	*ret = span_of(p, x.n + y.n);
	return true;
}

static enum users_result from_record(struct span data, struct span rest, struct arena *a,
				     struct user *ret)
{
	struct span user, home, dash;

	if (!take_field(&data, &user) || !take_id(&data, &ret->uid) ||
	    !take_id(&data, &ret->gid) || !take_field(&data, &home) ||
	    !take_field(&data, &dash))
		return USERS_BAD_CDB;
	if (!join(a, user, SPAN_NONE, &ret->user) || !join(a, home, SPAN_NONE, &ret->home) ||
	    !join(a, dash, SPAN_NONE, &ret->dash) || !join(a, data, rest, &ret->ext))
		return USERS_TEMP;
	return USERS_OK;
}

/* "!" and the local part folded; room for the NUL that an exact key ends in. */
static struct span key_of(struct span local, char key[static LOCAL_MAX + 2])
{
	key[0] = '!';
	for (size_t i = 0; i < local.n; i++)
		key[i + 1] = span_lower(local.p[i]);
	key[local.n + 1] = '\0';
	return span_of(key, local.n + 2);
}

/* Beginnings of the name, the longest first; only those that end in a byte with which some
 * wildcard ends (the record of the empty key), and the empty one. */
static enum cdb_answer look_wild(const struct cdb_file *cdb, struct span key,
				 struct span *ret_data, size_t *ret_n)
{
	struct span wild;
	enum cdb_answer got = cdb_file_look(cdb, SPAN(""), &wild);

	if (got != CDB_HIT)
		return got == CDB_MISS ? CDB_DAMAGED : got; /* qmail-newu always writes it */
	for (size_t n = key.n; n > 0; n--) {
		if (n > 1 && !span_has(wild, key.p[n - 1]))
			continue;
		got = cdb_file_look(cdb, span_until(key, n), ret_data);
		if (got != CDB_MISS) {
			*ret_n = n - 1;
			return got;
		}
	}
	return CDB_MISS;
}

/* CDB_MISS in *ret_hit: nothing there; the caller goes on elsewhere. */
static enum users_result by_cdb(const struct cdb_file *cdb, struct span local, struct arena *a,
                                struct user *ret, bool *ret_hit)
{
	char text[LOCAL_MAX + 2];
	struct span key = key_of(local, text), data;
	size_t n = local.n;
	enum cdb_answer got = cdb_file_look(cdb, key, &data);

	if (got == CDB_MISS)
		got = look_wild(cdb, span_until(key, key.n - 1), &data, &n);
	*ret_hit = got != CDB_MISS;
	if (got == CDB_DAMAGED)
		return USERS_BAD_CDB;
	return got == CDB_HIT ? from_record(data, span_from(local, n), a, ret) : USERS_OK;
}

/* errno of getpwnam() says "nobody of this name" in several ways (getpwnam(3)). */
static enum account_result system_find(void *ctx, const char *name, struct arena *a,
				       struct user *ret)
{
	struct passwd *pw;

	errno = 0;
	pw = getpwnam(name);
	if (!pw)
		return errno == 0 || errno == ENOENT || errno == ESRCH || errno == EBADF ||
				       errno == EPERM
			       ? ACCOUNT_NONE
			       : ACCOUNT_TEMP;
	ret->uid = pw->pw_uid;
	ret->gid = pw->pw_gid;
	if (!join(a, span_str(pw->pw_name), SPAN_NONE, &ret->user) ||
	    !join(a, span_str(pw->pw_dir), SPAN_NONE, &ret->home))
		return ACCOUNT_TEMP;
	return ACCOUNT_OK;
}

/* What cannot be looked at for a reason that stays is no mail user's home. */
static enum account_result system_owner(void *ctx, const char *home, uid_t *ret)
{
	struct stat st;

	if (stat(home, &st) == 0) {
		*ret = st.st_uid;
		return ACCOUNT_OK;
	}
	return errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP ||
			       errno == ENAMETOOLONG
		       ? ACCOUNT_NONE
		       : ACCOUNT_TEMP;
}

/* An account gets mail if it is not root and its home is its own. */
static enum account_result mail_user(const struct account_source *from, struct span name,
                                     struct arena *a, struct user *ret)
{
	char lower[ACCOUNT_MAX], home[4096];
	enum account_result got;
	uid_t owner;

	if (name.n == 0 || !span_to_cstr(name, lower, sizeof lower))
		return ACCOUNT_NONE;
	for (char *p = lower; *p; p++)
		*p = span_lower(*p);
	got = from->find(from->ctx, lower, a, ret);
	if (got != ACCOUNT_OK || ret->uid == 0)
		return got == ACCOUNT_OK ? ACCOUNT_NONE : got;
	if (!span_to_cstr(ret->home, home, sizeof home))
		return ACCOUNT_NONE;
	got = from->owner(from->ctx, home, &owner);
	if (got != ACCOUNT_OK)
		return got;
	return owner == ret->uid ? ACCOUNT_OK : ACCOUNT_NONE;
}

static enum users_result alias(const struct account_source *from, struct span local,
			       struct arena *a, struct user *ret)
{
	switch (from->find(from->ctx, "alias", a, ret)) {
	case ACCOUNT_NONE: return USERS_NO_ALIAS;
	case ACCOUNT_TEMP: return USERS_TEMP;
	case ACCOUNT_OK: break;
	}
	ret->dash = SPAN("-");
	return join(a, local, SPAN_NONE, &ret->ext) ? USERS_OK : USERS_TEMP;
}

enum users_result users_by_password(const struct account_source *from, struct span local,
				    struct arena *a, struct user *ret)
{
	struct span name = local;

	for (;;) {
		switch (mail_user(from, name, a, ret)) {
		case ACCOUNT_TEMP: return USERS_TEMP;
		case ACCOUNT_OK:
			ret->dash = name.n < local.n ? SPAN("-") : SPAN_NONE;
			return join(a, span_from(local, name.n + 1), SPAN_NONE, &ret->ext)
				       ? USERS_OK
				       : USERS_TEMP;
		case ACCOUNT_NONE: break;
		}
		size_t cut = span_rfind(name, BREAK);
		if (cut == SPAN_NPOS)
			return alias(from, local, a, ret);
		name = span_until(name, cut);
	}
}

static enum users_result single(const char *dir, struct span local, struct arena *a,
				struct user *ret)
{
	*ret = (struct user){
		.user = SPAN("alias"), .dash = SPAN("-"), .uid = getuid(), .gid = getgid()};
	if (!join(a, span_str(dir), SPAN_NONE, &ret->home) ||
	    !join(a, local, SPAN_NONE, &ret->ext))
		return USERS_TEMP;
	return USERS_OK;
}

enum users_result users_find(const struct cdb_file *cdb, const char *alias_dir, bool single_user,
			     struct span local, struct arena *a, struct user *ret)
{
	static const struct account_source system = {system_find, system_owner, NULL};
	enum users_result got;
	bool hit = false;

	*ret = (struct user){.uid = 0};
	local = span_until(local, LOCAL_MAX);
	if (cdb) {
		got = by_cdb(cdb, local, a, ret, &hit);
		if (hit)
			return got;
	}
	if (single_user)
		return single(alias_dir, local, a, ret);
	got = users_by_password(&system, local, a, ret);
	if (got == USERS_OK && span_eq(ret->user, SPAN("alias")) &&
	    !join(a, span_str(alias_dir), SPAN_NONE, &ret->home))
		return USERS_TEMP;
	return got;
}
