# make install DESTDIR= PREFIX=: programs, man pages, documents, the unit.  No home is made: quire init does.
SYSTEMD ?= /lib/systemd/system
MAN1 = $(wildcard docs/man/*.1)
MAN5 = $(wildcard docs/man/*.5)
MAN8 = $(wildcard docs/man/*.8)
DOCS = README.md CHANGES.md LICENSE $(wildcard docs/*.md)

.PHONY: install uninstall
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/quire $(DESTDIR)$(SYSTEMD)
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 755 $(PROGS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(DOCS) $(DESTDIR)$(PREFIX)/share/doc/quire
	for s in 1 5 8; do for f in docs/man/*.$$s; do [ ! -e $$f ] || \
	  install -m 644 $$f $(DESTDIR)$(PREFIX)/share/man/man$$s || exit 1; done; done
	sed 's|@PREFIX@|$(PREFIX)|' pkg/systemd/quire.service > $(BUILD)/quire.service
	install -m 644 $(BUILD)/quire.service $(DESTDIR)$(SYSTEMD)/quire.service

# Takes away exactly what install put there; homes and their journals stay.
uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(PROGS)))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,$(notdir $(MAN1))) \
	      $(addprefix $(DESTDIR)$(PREFIX)/share/man/man5/,$(notdir $(MAN5))) \
	      $(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(MAN8)))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/doc/quire/,$(notdir $(DOCS)))
	-rmdir $(DESTDIR)$(PREFIX)/share/doc/quire
	rm -f $(DESTDIR)$(SYSTEMD)/quire.service
