/* list - a doubly linked ring threaded through its members; the head is a link too. */
#ifndef CORE_LIST_H
#define CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
	struct link *next, *prev;
};

static inline void list_init(struct link *head)
{
	head->next = head->prev = head;
}

static inline bool list_is_empty(const struct link *head)
{
	return head->next == head;
}

static inline bool link_is_in(const struct link *l)
{
	return l->next != NULL && l->next != l;
}

static inline void list_insert_before(struct link *at, struct link *l)
{
	l->prev = at->prev;
	l->next = at;
	at->prev->next = l;
	at->prev = l;
}

static inline void list_add_end(struct link *head, struct link *l)
{
	list_insert_before(head, l);
}

static inline void list_add_front(struct link *head, struct link *l)
{
	list_insert_before(head->next, l);
}

/* Fine on a zeroed link and on one that is in no list. */
static inline void list_remove(struct link *l)
{
	if (!l->next)
		return;
	l->prev->next = l->next;
	l->next->prev = l->prev;
	l->next = l->prev = NULL;
}

static inline struct link *list_first(const struct link *head)
{
	return head->next == head ? NULL : head->next;
}

static inline struct link *list_last(const struct link *head)
{
	return head->prev == head ? NULL : head->prev;
}

#define list_each(head, l)      for (struct link *l = (head)->next; l != (head); l = l->next)
#define list_each_safe(head, l) \
	for (struct link *l = (head)->next, *l##_next = l->next; l != (head); \
	     l = l##_next, l##_next = l->next)

#endif
