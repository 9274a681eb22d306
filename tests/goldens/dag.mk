# first, second: 9 targets in 5 stages
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
all: first second

help:
	@echo 'make -j8            run what is missing or out of date, 8 targets at a time'
	@echo 'make -n             only show it'
	@echo 'make -k             go on with what does not depend on a failed target'
	@echo 'make clean          forget what was done, and its records and logs'
	@echo ''
	@echo 'make first          a pipeline'
	@echo 'make second         a pipeline'
	@echo 'make first/fetch    a stage and what it needs'
	@echo 'make first/clean    a stage and what it needs'
	@echo 'make first/train    a stage and what it needs'
	@echo 'make first/report   a stage and what it needs'
	@echo 'make second/only    a stage and what it needs'
	@echo 'make first/fetch/0  split 0 of 3'

clean:
	rm -rf done records logs

# The indices of splits, for each number of them.
splits.3 := 0 1 2

# first: 8 targets in 4 stages

.PHONY: first first/fetch first/clean first/train first/report
first: first/fetch first/clean first/train first/report

done/first:
	@mkdir -p $@

first/fetch: done/first/fetch.all
first/fetch/%: done/first/fetch.3/% ;
first/fetch.splits := $(addprefix done/first/fetch.3/,$(splits.3))
$(first/fetch.splits): done/first/fetch.3/%: config/first.json | done/first/fetch.3
	cd .. && exec $(RVRUN) run_command build/config/first.json fetch --split-ind $* --num-splits 3
	@touch $@
done/first/fetch.3:
	@rm -rf done/first/fetch.*/ && mkdir -p $@
done/first/fetch.all: $(first/fetch.splits)
	@touch $@

first/clean: done/first/clean.all
first/clean/%: done/first/clean.3/% ;
first/clean.splits := $(addprefix done/first/clean.3/,$(splits.3))
$(first/clean.splits): done/first/clean.3/%: done/first/fetch.3/% config/first.json | done/first/clean.3
	cd .. && exec $(RVRUN) run_command build/config/first.json clean --split-ind $* --num-splits 3
	@touch $@
done/first/clean.3:
	@rm -rf done/first/clean.*/ && mkdir -p $@
done/first/clean.all: $(first/clean.splits)
	@touch $@

first/train: done/first/train
done/first/train: done/first/clean.all config/first.json | done/first
	cd .. && exec $(RVRUN) run_command build/config/first.json train
	@touch $@

first/report: done/first/report
done/first/report: done/first/fetch.all done/first/train config/first.json | done/first
	cd .. && exec $(RVRUN) run_command build/config/first.json report
	@touch $@

# second: 1 target in 1 stage

.PHONY: second second/only
second: second/only

done/second:
	@mkdir -p $@

second/only: done/second/only
done/second/only: config/second.json | done/second
	cd .. && exec $(RVRUN) run_command build/config/second.json only
	@touch $@

endif
