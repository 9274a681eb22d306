# p: 1 target in 1 stage
# Written by rvrun 0.2.0; `make help` tells what can be typed. Changes here will be lost.
#
# A file in done/ is touched when its target is done, so make sees what is missing or older than
# what it needs. chip.4/0 is split 0 of 4 of chip, chip.all joins its splits, `| folder` only
# asks that the folder is there; making one for a new number of splits forgets the old splits.

ifneq ($(strip $(value MAKEFILE_LIST)),Makefile)

# Called as `make -f DIR/Makefile`: begin again in DIR, for all paths below are relative to it.
.PHONY: forward
$(sort $(or $(MAKECMDGOALS),all)): forward ; @:
forward:
	@file='$(subst ','\'',$(value MAKEFILE_LIST))'; \
	cd "$$(dirname "$${file# }")" && $(MAKE) --no-print-directory $(MAKECMDGOALS)

else

RVRUN ?= rvrun
export RVRUN_RUN_DIR := $(CURDIR)

.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: all help clean
all: p

help:
	@echo 'make -j8    run what is missing or out of date, 8 targets at a time'
	@echo 'make -n     only show it'
	@echo 'make -k     go on with what does not depend on a failed target'
	@echo 'make clean  forget what was done, and its records and logs'
	@echo ''
	@echo 'make p      a pipeline'
	@echo 'make p/a    a stage and what it needs'

clean:
	rm -rf done records logs

# p: 1 target in 1 stage

.PHONY: p p/a
p: p/a

done/p:
	@mkdir -p $@

p/a: done/p/a
done/p/a: config/p.json | done/p
	cd '../$$(x) y' && exec $(RVRUN) run_command 'a  b$$c#d'"'"'e"f%g;hüi=j&k(l)[m]*?!~/config/p.json' a
	@touch $@

endif
